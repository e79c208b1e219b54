"""Routes of a namespace."""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cni.linux import kernel
from cni.linux.addresses import FAMILIES
from cni.linux.link import Link
from cni.linux.links import Links
from cni.spec.errors import KernelFailure
from cni.spec.model import IPAddress

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

BOOT = 3
"""The protocol under which `ip route add` files its routes, and the reference plugins do. From <linux/rtnetlink.h>."""
LINK_SCOPE = 253
HOST_SCOPE = 254
UNICAST = 1
MAIN_TABLE = 254
NAMING = ("family", "dst", "gateway", "priority", "table")
"""What tells a route from others to the same place."""
EVERYWHERE = {4: ipaddress.ip_network("0.0.0.0/0"), 6: ipaddress.ip_network("::/0")}


@dataclass(frozen=True, kw_only=True)
class Route:
    """A route by way of one link; 0 and None leave a value to the kernel."""

    dst: Network
    gateway: IPAddress | None = None
    source: IPAddress | None = None
    """The address that our own packets get."""

    priority: int = 0
    table: int | None = None
    scope: int | None = None
    mtu: int = 0
    advmss: int = 0

    def __str__(self) -> str:
        via = f" via {self.gateway}" if self.gateway else ""
        metric = f" metric {self.priority}" if self.priority else ""
        table = f" table {self.table}" if self.table else ""
        return f"{self.dst}{via}{metric}{table}"


def add(links: Links, link: Link, route: Route) -> None:
    """Add the route, after others to the same place; an identical one that is there already will do.

    Raises KernelFailure.
    """
    what = f'add route {route} on link "{link.name}"'
    try:
        kernel.change(what, links.netlink.route, "append", oif=link.index, proto=BOOT, **_fields(route))
    except KernelFailure as error:
        if error.errno != errno.EEXIST:
            raise


def every(links: Links, family: int, link: Link | None = None) -> list[Route]:
    """The unicast routes of all tables, of one family (4 or 6), and by way of one link. Raises KernelFailure."""
    messages = links.dump(f"list the IPv{family} routes", links.netlink.get_routes, family=FAMILIES[family])
    unicast = (message for message in messages if message["type"] == UNICAST)
    return [
        route for message in unicast for index, route in _decode(message, family) if link is None or index == link.index
    ]


def set_default(ifname: str, family: int, gateways: Iterable[IPAddress]) -> None:
    """Have the default routes by way of `ifname`, in the current namespace, be those to `gateways`; others stay.

    Raises KernelFailure.
    """
    with Links() as links:
        link = links.get(ifname)
        for route in every(links, family, link):
            if route.dst == EVERYWHERE[family] and route.table == MAIN_TABLE:
                _delete(links, link, route)
        for gateway in gateways:
            add(links, link, Route(dst=EVERYWHERE[family], gateway=gateway))


def _delete(links: Links, link: Link, route: Route) -> None:
    """Delete the route by way of `link`. Nothing happens when it is gone already."""
    named = {key: value for key, value in _fields(route).items() if key in NAMING}
    try:
        what = f'remove route {route} from link "{link.name}"'
        kernel.change(what, links.netlink.route, "del", oif=link.index, **named)
    except KernelFailure as error:
        if not kernel.already_gone(error):
            raise


def _fields(route: Route) -> dict[str, Any]:
    metrics = {key: value for key, value in (("mtu", route.mtu), ("advmss", route.advmss)) if value}
    given = {
        "gateway": str(route.gateway) if route.gateway else None,
        "prefsrc": str(route.source) if route.source else None,
        "priority": route.priority or None,
        "table": route.table or None,
        "scope": route.scope,
        "metrics": metrics or None,
    }
    named = {"family": FAMILIES[route.dst.version], "dst": str(route.dst)}
    return named | {key: value for key, value in given.items() if value is not None}


def _decode(message: Any, family: int) -> list[tuple[int, Route]]:
    """The link's index and the route, for each of the route's next hops."""
    attributes = dict(message["attrs"])
    dst = attributes.get("RTA_DST") or str(EVERYWHERE[family].network_address)
    metrics = dict(attributes.get("RTA_METRICS", {}).get("attrs", ()))
    hops = [(hop["oif"], dict(hop["attrs"])) for hop in attributes.get("RTA_MULTIPATH", ())]
    return [
        (
            index,
            Route(
                dst=ipaddress.ip_network(f"{dst}/{message['dst_len']}"),
                gateway=_address(hop.get("RTA_GATEWAY")),
                source=_address(attributes.get("RTA_PREFSRC")),
                priority=attributes.get("RTA_PRIORITY", 0),
                table=_table(message),
                scope=message["scope"],
                mtu=metrics.get("RTAX_MTU", 0),
                advmss=metrics.get("RTAX_ADVMSS", 0),
            ),
        )
        for index, hop in hops or [(attributes.get("RTA_OIF", 0), attributes)]
    ]


def _table(message: Any) -> int:
    return int(dict(message["attrs"]).get("RTA_TABLE", message["table"]))


def _address(text: str | None) -> IPAddress | None:
    return ipaddress.ip_address(text) if text else None
