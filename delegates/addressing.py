"""From what IPAM leased to what is configured and answered: gateways, default routes, places in a chain's result."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from cni.linux import routes
from cni.spec.errors import InvalidConfiguration

if TYPE_CHECKING:
    from cni.spec.model import IPAddress, IPInterface
    from cni.spec.result import DNS, IPConfig, Result, Route
    from delegates.config import AttachmentConf

FAMILIES = (4, 6)


def with_gateways(leases: Result) -> Result:
    """Name the subnet's first address as the gateway where IPAM named none. Raises InvalidConfiguration."""
    return leases.replace(ips=tuple(_with_gateway(ip) for ip in leases.ips))


def with_default_routes(leases: Result) -> Result:
    """Lead each family's default route to its gateway, unless IPAM said where it leads."""
    for family in FAMILIES:
        gateway = leases.gateway(family)
        if gateway is not None:
            leases = leases.replace(routes=_with_default_route(leases.routes, family, gateway))
    return leases


def on_interface(leases: Result, index: int) -> Result:
    """Say of every address that it is on the interface with this index."""
    return leases.replace(ips=tuple(ip.model_copy(update={"interface": index}) for ip in leases.ips))


def planned_routes(leases: Result) -> list[routes.Route]:
    """The routes to make, by way of their family's gateway unless they say otherwise."""
    return [_planned(route, leases) for route in leases.routes]


def dns(conf: AttachmentConf, leases: Result) -> DNS:
    """The configuration's name servers if it says anything of them, else IPAM's."""
    return conf.dns if conf.dns is not None and conf.overrides_dns else leases.dns


def after(earlier: Result | None, ours: Result) -> Result:
    """The result of a chain: what earlier plugins made, then ours, whose indices move on."""
    from cni.spec.result import Result

    if earlier is None:
        return ours
    moved = len(earlier.interfaces)
    ips = tuple(
        ip.model_copy(update={"interface": ip.interface + moved}) for ip in ours.ips if ip.interface is not None
    )
    return Result(
        interfaces=earlier.interfaces + ours.interfaces,
        ips=earlier.ips + ips,
        routes=earlier.routes + ours.routes,
        dns=ours.dns or earlier.dns,
    )


def single(address: IPAddress) -> IPInterface:
    """The address as a subnet of its own."""
    return ipaddress.ip_interface(f"{address}/{address.max_prefixlen}")


def gateway_addresses(leases: Result) -> list[IPInterface]:
    """Each gateway once, with its subnet's prefix length, for the link that is to have it."""
    found = (ipaddress.ip_interface(f"{ip.gateway}/{ip.address.network.prefixlen}") for ip in leases.ips if ip.gateway)
    return list(dict.fromkeys(found))


def _with_gateway(ip: IPConfig) -> IPConfig:
    if ip.gateway is not None:
        return ip
    subnet = ip.address.network
    if subnet.num_addresses == 1:
        raise InvalidConfiguration(
            f"could not find a gateway for {ip.address}",
            "its subnet has no other address: have IPAM name a `gateway`",
            id="PLX-GATEWAY",
        )
    return ip.model_copy(update={"gateway": subnet.network_address + 1})


def _with_default_route(given: tuple[Route, ...], family: int, gateway: IPAddress) -> tuple[Route, ...]:
    from cni.spec.result import Route

    ours = [route for route in given if route.is_default and route.family == family]
    if any(route.gw for route in ours):
        return given
    bare = next((route for route in ours if route.table is None and takes_gateway(route)), None)
    if bare is None:
        return (*given, Route(dst=ipaddress.ip_interface(routes.EVERYWHERE[family]), gw=gateway))
    # IPAM wants a default route and leaves its gateway to us: a second route would only repeat it.
    return tuple(route.model_copy(update={"gw": gateway}) if route is bare else route for route in given)


def takes_gateway(route: Route) -> bool:
    """Whether the route leads beyond the link: a narrower scope means that it does not."""
    return route.scope is None or route.scope < routes.LINK_SCOPE


def _planned(route: Route, leases: Result) -> routes.Route:
    gateway = route.gw or (leases.gateway(route.family) if takes_gateway(route) else None)
    return routes.Route(
        dst=route.dst.network,
        gateway=gateway,
        priority=route.priority,
        table=route.table,
        scope=route.scope,
        mtu=route.mtu,
        advmss=route.advmss,
    )
