"""The frame around every plugin: environment and stdin in, handler, result or error object out (sections 2 and 5)."""

from __future__ import annotations

import errno
import io
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any

import cni
from cni.plugin import caller, execute, files, invoke, log, serve
from cni.spec import document, names, versions
from cni.spec.errors import CNIError, Exhausted, InvalidEnvironment, IOFailure
from cni.spec.request import Request

EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN)
COMMANDS = ("ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION")


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


def run(
    name: str,
    environ: Mapping[str, str],
    stdin: IO[bytes],
    stdout: IO[str],
    stderr: IO[str],
    raised: Callable[[Exception], bool] = lambda _: False,
) -> int:
    """Be the plugin `name` for one call of the protocol; return the exit status.

    Raises nothing but failures that are to be `raised`, as the caller says of each.
    """
    if not environ.get("CNI_COMMAND"):
        print(f"CNI {name} plugin v{cni.__version__}", file=stderr)
        print(f"CNI protocol versions supported: {', '.join(versions.SUPPORTED)}", file=stderr)
        return 0
    try:
        answer = _answer(name, environ, stdin)
    except CNIError as error:
        if raised(error):
            raise
        stdout.write(_error_json(error))
        return 1
    except Exception as error:  # whatever it is, the runtime must get an answer, and the log the traceback
        if raised(error):
            raise
        stdout.write(_error_json(_exhausted(name, error) or _defect(name, error)))
        return 1
    stdout.write(answer)
    return 0


def _exhausted(name: str, error: Exception) -> CNIError | None:
    """What has run out, which can be anywhere; None for an exception of another kind."""
    if isinstance(error, MemoryError):
        return Exhausted(f'plugin "{name}" could not go on', "Cannot allocate memory")
    if isinstance(error, OSError) and error.errno in EXHAUSTED:
        return Exhausted(f'plugin "{name}" could not go on', os.strerror(error.errno))
    return None


def _defect(name: str, error: Exception) -> CNIError:
    log.defect(name, error)
    return CNIError(f"{type(error).__name__}: {error}", "this is a defect of plexus")


def _answer(name: str, environ: Mapping[str, str], stdin: IO[bytes]) -> str:
    command = environ["CNI_COMMAND"]
    if command not in COMMANDS:
        raise InvalidEnvironment(f"unknown CNI_COMMAND: {command}")
    check_environment(command, environ)
    if command == "VERSION":
        supported = {"cniVersion": versions.CURRENT, "supportedVersions": versions.SUPPORTED}
        return json.dumps(supported, separators=(",", ":")) + "\n"
    request = read_request(environ, stdin)
    if name in invoke.META:
        log.configure(request.conf)
    with log.call(request):
        # The version is checked before the plugin is imported: a call that cannot succeed need not be slow.
        serve.check(request)
        result = serve.handle(invoke.load(name), request)
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


def _error_json(error: CNIError) -> str:
    fields: dict[str, Any] = {"cniVersion": versions.CURRENT, "code": error.code, "msg": error.msg}
    if error.details:
        fields["details"] = error.details
    text = json.dumps(fields, indent=4, ensure_ascii=False)
    return text.encode("utf-8", "replace").decode()  # a lone surrogate from the environment is not UTF-8


def main(name: str, stdin: bytes | None = None, *, half_done: bool = False) -> int:
    """Be the plugin `name` for this process; `stdin` is what was read of it before, `half_done` is for `again`."""
    log.begin()
    execute.know_how_children_end()
    # stdout belongs to the protocol: whatever a library or a child prints goes to stderr instead.
    with os.fdopen(os.dup(1), "wb", buffering=0) as stdout, caller.reading(stdout.fileno()):
        os.dup2(2, 1)
        told = io.StringIO()
        if half_done:
            status = again(name, os.environ, stdin or b"", told, sys.stderr)
        else:
            given = sys.stdin.buffer if stdin is None else io.BytesIO(stdin)
            status = run(name, os.environ, given, told, sys.stderr)
        if _tell(name, stdout.fileno(), told.getvalue().encode()):
            return status
        if os.environ.get("CNI_COMMAND") == "ADD" and status == 0:
            # The runtime was killed, and the DEL of the one after it may have come before we were at our end.
            _delete(name, os.environ, stdin or b"", sys.stderr)
        return 1


def _tell(name: str, stdout: int, answer: bytes) -> bool:
    """Write the answer; whether the runtime can have heard it."""
    try:
        os.set_blocking(stdout, True)  # it is somebody else's too, who may not want to wait
        files.write(stdout, answer)
    except OSError as error:
        log.unheard(name, error)
        return False
    return True


def again(name: str, environ: Mapping[str, str], stdin: bytes, stdout: IO[str], stderr: IO[str]) -> int:
    """Serve an ADD that somebody has begun and not finished: what there is of it is deleted first."""
    status, told = _delete(name, environ, stdin, stderr)
    if status:
        stdout.write(told)
        return status
    return run(name, environ, io.BytesIO(stdin), stdout, stderr)


def _delete(name: str, environ: Mapping[str, str], stdin: bytes, stderr: IO[str]) -> tuple[int, str]:
    """DEL what an ADD has made: the exit status, and what is said."""
    told = io.StringIO()
    return run(name, {**environ, "CNI_COMMAND": "DEL"}, io.BytesIO(stdin), told, stderr), told.getvalue()
