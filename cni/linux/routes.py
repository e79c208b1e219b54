"""Routes of a namespace."""

from __future__ import annotations

import errno
import ipaddress
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cni.linux import kernel, messages, netlink
from cni.linux.addresses import FAMILIES
from cni.linux.device import Device
from cni.linux.links import Links
from cni.linux.netlink import nested
from cni.linux.wire import Attributes
from cni.spec.errors import KernelFailure

if TYPE_CHECKING:
    from cni.spec.model import IPAddress

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

NEW, DELETE, GET = 24, 25, 26
"""Types of messages about routes, from <linux/rtnetlink.h>."""
BOOT = 3
"""The protocol under which `ip route add` files its routes, and the reference plugins do. From <linux/rtnetlink.h>."""
LINK_SCOPE = 253
HOST_SCOPE = 254
NOWHERE_SCOPE = 255
"""To the kernel, of a route that is to be deleted: whichever."""
UNICAST, LOCAL = 1, 2
MAIN_TABLE = 254
POLLS = (0.0, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.7, 1.0)
"""Seconds between looks whether the kernel has done what it does later."""
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


def add(links: Links, link: Device, route: Route) -> None:
    """Add the route, after others to the same place; an identical one that is there already will do.

    Raises KernelFailure.
    """
    what = f'add route {route} on link "{link.name}"'
    try:
        kernel.change(what, links.netlink.ask, NEW, _added(link, route), netlink.CREATE | netlink.APPEND)
    except KernelFailure as error:
        if error.errno != errno.EEXIST:
            raise


def await_local(links: Links, link: Device, address: IPAddress) -> None:
    """Wait until what is sent to our own IPv6 address arrives, some 2.5 seconds at most.

    The kernel makes the route, and joins the group at which neighbours ask for the address, some time after it has
    taken the address; who asks before has no answer, and asks again a second later.
    """
    if address.version == 6:
        for pause in POLLS:
            time.sleep(pause)
            if _is_local(links, link, address):
                return


def every(links: Links, family: int, link: Device | None = None) -> list[Route]:
    """The unicast routes of all tables, of one family (4 or 6), and by way of one link. Raises KernelFailure."""
    messages = links.dump(f"list the IPv{family} routes", GET, _message(family=FAMILIES[family]))
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


def _is_local(links: Links, link: Device, address: IPAddress) -> bool:
    sought = [("RTA_DST", str(address)), ("RTA_OIF", link.index)]
    message = _message(*sought, family=FAMILIES[address.version], dst_len=address.max_prefixlen)
    try:
        found = kernel.ask(f"look up the way to {address}", links.netlink.ask, GET, message)
    except KernelFailure:
        return False  # there is none yet
    return any(route["type"] == LOCAL for route in found)


def _delete(links: Links, link: Device, route: Route) -> None:
    """Delete the route by way of `link`. Nothing happens when it is gone already."""
    try:
        what = f'remove route {route} from link "{link.name}"'
        kernel.change(what, links.netlink.ask, DELETE, _named(link, route, scope=NOWHERE_SCOPE))
    except KernelFailure as error:
        if not kernel.already_gone(error):
            raise


def _added(link: Device, route: Route) -> Any:
    more: list[tuple[str, Any]] = []
    if route.source:
        more.append(("RTA_PREFSRC", str(route.source)))
    metrics = [(name, value) for name, value in (("RTAX_MTU", route.mtu), ("RTAX_ADVMSS", route.advmss)) if value]
    if metrics:
        more.append(("RTA_METRICS", nested(*metrics)))
    return _named(link, route, *more, proto=BOOT, type=UNICAST, scope=route.scope or 0)


def _named(link: Device, route: Route, *more: tuple[str, Any], **fields: int) -> Any:
    """What tells a route from others to the same place, and more."""
    named: list[tuple[str, Any]] = [("RTA_OIF", link.index), ("RTA_TABLE", route.table or MAIN_TABLE)]
    if route.dst.prefixlen:
        named.append(("RTA_DST", str(route.dst.network_address)))
    if route.gateway:
        named.append(("RTA_GATEWAY", str(route.gateway)))
    if route.priority:
        named.append(("RTA_PRIORITY", route.priority))
    family = FAMILIES[route.dst.version]
    return _message(*named, *more, family=family, dst_len=route.dst.prefixlen, **fields)


def _message(*attributes: tuple[str, Any], **fields: int) -> Any:
    return netlink.message(messages.load("rtnl.rtmsg").rtmsg, *attributes, **fields)


def _decode(message: Any, family: int) -> list[tuple[int, Route]]:
    """The link's index and the route, for each of the route's next hops."""
    attributes = Attributes.of(message)
    dst = attributes.get("RTA_DST") or str(EVERYWHERE[family].network_address)
    metrics = attributes.within("RTA_METRICS")
    hops = [(hop["oif"], Attributes.of(hop)) for hop in attributes.get("RTA_MULTIPATH", ())]
    return [
        (
            index,
            Route(
                dst=ipaddress.ip_network(f"{dst}/{message['dst_len']}"),
                gateway=_address(hop.get("RTA_GATEWAY")),
                source=_address(attributes.get("RTA_PREFSRC")),
                priority=attributes.get("RTA_PRIORITY", 0),
                table=attributes.get("RTA_TABLE", message["table"]),
                scope=message["scope"],
                mtu=metrics.get("RTAX_MTU", 0),
                advmss=metrics.get("RTAX_ADVMSS", 0),
            ),
        )
        for index, hop in hops or [(attributes.get("RTA_OIF", 0), attributes)]
    ]


def _address(text: str | None) -> IPAddress | None:
    return ipaddress.ip_address(text) if text else None
