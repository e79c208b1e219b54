"""Serve a request by a plugin of this process, after the checks that the specification wants first (section 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from cni.linux import netns
from cni.plugin import deadline
from cni.spec import document, names, versions
from cni.spec.document import lookup
from cni.spec.errors import DecodingFailure, IncompatibleVersion, InvalidNetns
from cni.spec.request import Request

if TYPE_CHECKING:
    from cni.spec.result import Result

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


def handle(plugin: Plugin, request: Request) -> Result | None:
    """Serve a request whose environment is valid: check name, version and namespace, then call the verb's handler."""
    check(request)
    if request.command in ("ADD", "DEL"):
        _refuse_own_netns(request)
    with deadline.of_call(request.command):
        result: Result | None = getattr(plugin, HANDLERS[request.command])(request)
    return result


def check(request: Request) -> None:
    """Raise the CNIError of a request that no plugin can serve: its name, or its version.

    Raises InvalidConfiguration, DecodingFailure, IncompatibleVersion.
    """
    names.validate_network_name(_string(request, "name"))
    _check_version(request)


def _check_version(request: Request) -> None:
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
