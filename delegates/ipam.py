"""Hand the addresses' part of a request to the IPAM plugin that the configuration names, with the same stdin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cni.plugin import invoke, observed
from cni.spec import netconf
from cni.spec.errors import PluginFailed
from cni.spec.request import Request

if TYPE_CHECKING:
    from cni.spec.result import Result


def add(request: Request) -> Result:
    """Have the IPAM plugin choose addresses. Raises its error, or PluginFailed when it gave none."""
    kind = netconf.ipam_type(request.conf)
    with observed.phase("ipam"):
        result = invoke.add(kind, request)
    if not result.ips:
        raise PluginFailed(
            "IPAM plugin returned missing IP config",
            f'"{kind}" answered without any address for network "{request.network}"',
            id="PLX-IPAM-NO-IPS",
        )
    return result


def delegate(request: Request) -> None:
    """Have the IPAM plugin, where there is one, serve the same command. Raises its error."""
    kind = netconf.ipam_type(request.conf)
    if kind:
        with observed.phase("ipam"):
            invoke.call(kind, request)


def delete(request: Request) -> None:
    """Have the IPAM plugin, where there is one, release what it gave. Raises its error."""
    delegate(request.replace(command="DEL"))
