"""The frame around every plugin: environment and stdin in, handler, result or error object out (sections 2 and 5)."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Protocol

import cni
from cni.linux import netns
from cni.plugin import invoke
from cni.spec import document, names, versions
from cni.spec.document import lookup
from cni.spec.errors import (
    CNIError,
    DecodingFailure,
    IncompatibleVersion,
    InvalidEnvironment,
    InvalidNetns,
    IOFailure,
)
from cni.spec.request import Request

if TYPE_CHECKING:
    from cni.spec.result import Result

log = logging.getLogger(__name__)

COMMANDS = ("ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION")
HANDLERS = {"ADD": "add", "DEL": "delete", "CHECK": "check", "GC": "gc", "STATUS": "status"}
SINCE = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}
"""The first version of the specification that has the verb."""


class Plugin(Protocol):
    """A module that is a plugin: one function per verb. Each raises CNIError; anything else is reported as 999."""

    def add(self, request: Request) -> Result:
        """Make the interface; on failure leave nothing behind."""
        ...

    def delete(self, request: Request) -> None:
        """Undo ADD as far as possible; succeed when there is nothing to undo."""
        ...

    def check(self, request: Request) -> None:
        """Raise CheckFailed unless all is as ADD left it."""
        ...

    def gc(self, request: Request) -> None:
        """Remove what belongs to no valid attachment."""
        ...

    def status(self, request: Request) -> None:
        """Raise PluginUnavailable unless an ADD would succeed."""
        ...


@dataclass(frozen=True)
class Variable:
    """One variable of the protocol, the verbs that require it and what it must look like."""

    name: str
    required_by: tuple[str, ...]
    validate: Callable[[str], None] | None = None


VARIABLES = (
    Variable("CNI_CONTAINERID", ("ADD", "CHECK", "DEL"), names.validate_container_id),
    Variable("CNI_NETNS", ("ADD", "CHECK")),
    Variable("CNI_IFNAME", ("ADD", "CHECK", "DEL"), names.validate_ifname),
    Variable("CNI_PATH", ("ADD", "CHECK", "DEL", "GC", "STATUS")),
)


def run(name: str, environ: Mapping[str, str], stdin: IO[bytes], stdout: IO[str], stderr: IO[str]) -> int:
    """Be the plugin `name` for one call of the protocol; return the exit status."""
    if not environ.get("CNI_COMMAND"):
        print(f"CNI {name} plugin v{cni.__version__}", file=stderr)
        print(f"CNI protocol versions supported: {', '.join(versions.SUPPORTED)}", file=stderr)
        return 0
    try:
        answer = _answer(name, environ, stdin)
    except CNIError as error:
        stdout.write(_error_json(error))
        return 1
    except Exception as error:
        log.exception("%s failed unexpectedly", name)
        stdout.write(_error_json(CNIError(f"{type(error).__name__}: {error}", "this is a defect of plexus")))
        return 1
    stdout.write(answer)
    return 0


def handle(plugin: Plugin, request: Request) -> Result | None:
    """Serve a request whose environment is valid: check name, version and namespace, then call the verb's handler."""
    names.validate_network_name(_string(request, "name"))
    check_version(request)
    if request.command in ("ADD", "DEL"):
        _refuse_own_netns(request)
    result: Result | None = getattr(plugin, HANDLERS[request.command])(request)
    return result


def _answer(name: str, environ: Mapping[str, str], stdin: IO[bytes]) -> str:
    command = environ["CNI_COMMAND"]
    if command not in COMMANDS:
        raise InvalidEnvironment(f"unknown CNI_COMMAND: {command}")
    check_environment(command, environ)
    if command == "VERSION":
        supported = {"cniVersion": versions.CURRENT, "supportedVersions": versions.SUPPORTED}
        return json.dumps(supported, separators=(",", ":")) + "\n"
    request = read_request(environ, stdin)
    # The version is checked before the plugin is imported: a call that cannot succeed need not be slow.
    names.validate_network_name(_string(request, "name"))
    check_version(request)
    result = handle(invoke.load(name), request)
    if result is None:
        return ""
    from cni.spec import convert

    return convert.to_json(result, request.cni_version)


def check_environment(command: str, environ: Mapping[str, str]) -> None:
    """Raise for the first variable that `command` requires and that is malformed, else for all that are missing."""
    missing = []
    for variable in VARIABLES:
        if command not in variable.required_by:
            continue
        value = environ.get(variable.name, "")
        if value and variable.validate:
            variable.validate(value)
        elif not value:
            missing.append(variable.name)
    if missing:
        raise InvalidEnvironment(f"required env variables [{','.join(missing)}] missing")


def read_request(environ: Mapping[str, str], stdin: IO[bytes]) -> Request:
    """The call as a value. Raises IOFailure, DecodingFailure."""
    try:
        text = stdin.read()
    except OSError as error:
        raise IOFailure(f"error reading from stdin: {error}") from error
    return Request(
        command=environ["CNI_COMMAND"],
        container_id=environ.get("CNI_CONTAINERID", ""),
        netns=environ.get("CNI_NETNS", ""),
        ifname=environ.get("CNI_IFNAME", ""),
        args=environ.get("CNI_ARGS", ""),
        path=tuple(part for part in environ.get("CNI_PATH", "").split(os.pathsep) if part),
        conf=document.decode(text, "the network configuration on stdin"),
        stdin=text,
        environ=environ,
    )


def check_version(request: Request) -> None:
    """Raise IncompatibleVersion or DecodingFailure unless the configuration's version has the verb and is ours."""
    version = _string(request, "cniVersion") or versions.UNSTATED
    since = SINCE.get(request.command)
    if since is not None:
        if not versions.at_least(version, since):
            raise IncompatibleVersion(f"config version does not allow {request.command}")
        if not versions.at_least(versions.CURRENT, version):
            raise IncompatibleVersion(f"plugin version does not allow {request.command}")
    if version not in versions.SUPPORTED:
        ours = " ".join(f'"{supported}"' for supported in versions.SUPPORTED)
        raise IncompatibleVersion("incompatible CNI versions", f'config is "{version}", plugin supports [{ours}]')


def _refuse_own_netns(request: Request) -> None:
    if request.environ.get("CNI_NETNS_OVERRIDE", "").lower() in ("1", "true"):
        return
    if request.netns and netns.is_own(request.netns):
        raise InvalidNetns(
            "plugin's netns and netns from CNI_NETNS should not be the same", f'CNI_NETNS is "{request.netns}"'
        )


def _string(request: Request, key: str) -> str:
    value = lookup(request.conf, key)
    if value is not None and not isinstance(value, str):
        raise DecodingFailure(
            "could not decode the network configuration on stdin",
            f"`{key}` must be a string, not {document.kind(value)}",
        )
    return value or ""


def _error_json(error: CNIError) -> str:
    fields: dict[str, Any] = {"cniVersion": versions.CURRENT, "code": error.code, "msg": error.msg}
    if error.details:
        fields["details"] = error.details
    text = json.dumps(fields, indent=4, ensure_ascii=False)
    return text.encode("utf-8", "replace").decode()  # a lone surrogate from the environment is not UTF-8


def main(name: str) -> int:
    """Be the plugin `name` for this process."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # stdout belongs to the protocol: whatever a library or a child prints goes to stderr instead.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as stdout:
        os.dup2(2, 1)
        return run(name, os.environ, sys.stdin.buffer, stdout, sys.stderr)
