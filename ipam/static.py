"""static, the IPAM plugin that hands out the addresses it is told: it keeps nothing, so there is nothing to release."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cni.spec.errors import CheckFailed
from cni.spec.request import Request

if TYPE_CHECKING:
    from cni.spec.result import IPConfig, Result

# What reads the configuration is imported where it is needed: DEL and GC do without, at half the time.


def add(request: Request) -> Result:
    """Answer with the addresses that are configured or asked for, which may be none.

    Raises InvalidConfiguration, InvalidEnvironment.
    """
    from cni.spec.result import Result
    from ipam import static_config

    conf = static_config.parse(request)
    return Result(ips=conf.ips, routes=conf.routes, dns=conf.dns)


def delete(request: Request) -> None:
    """Succeed: no address is kept."""


def check(request: Request) -> None:
    """Raise CheckFailed unless prevResult has every address of ours, and its gateway where we name one."""
    from ipam import static_config

    result = request.require_prev_result()
    for wanted in static_config.parse(request).ips:
        found = [ip for ip in result.ips if ip.address.ip == wanted.address.ip]
        if not any(wanted.gateway in (None, ip.gateway) for ip in found):
            raise CheckFailed(
                f"static: Failed to match addr {wanted.address.ip} on interface {request.ifname}",
                f"expected {_told(wanted)}, found {', '.join(map(_told, found or result.ips)) or 'no address'}"
                " in prevResult",
                id="PLX-IPAM-CHANGED",
            )


def gc(request: Request) -> None:
    """Succeed: no address is kept."""


def status(request: Request) -> None:
    """Raise InvalidConfiguration when an ADD would."""
    from ipam import static_config

    static_config.parse(request)


def _told(ip: IPConfig) -> str:
    return f"{ip.address}" + (f" via {ip.gateway}" if ip.gateway else "")
