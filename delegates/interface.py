"""The sandbox's side of an attachment."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from cni.linux import addresses, netns, routes, sysctl
from cni.linux.device import Device
from cni.linux.links import Links
from cni.plugin.rollback import Rollback
from cni.spec.model import IPInterface
from cni.spec.result import Interface


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the interface is to have."""

    ifname: str
    addresses: tuple[IPInterface, ...] = ()
    routes: tuple[routes.Route, ...] = ()
    prefix_routes: bool = True
    """Whether the kernel makes a route to each address's subnet."""

    settings: tuple[tuple[str, str], ...] = ()
    """Kernel parameters (key, value) that are set where the kernel has them."""

    detect_duplicates: bool = False
    """Whether to ask the network if it knows an IPv6 address already, and to wait for what it says."""

    up: bool = True

    @property
    def has_ipv6(self) -> bool:
        """Whether any address needs IPv6."""
        return any(address.version == 6 for address in self.addresses)


def enable_ipv6(sandbox: int, ifname: str, rollback: Rollback) -> None:
    """Switch IPv6 on in the sandbox, for lo too, where it is off. Raises KernelFailure."""
    for name in ("lo", ifname):
        key = f"net/ipv6/conf/{name}/disable_ipv6"
        if netns.enter(sandbox, functools.partial(sysctl.ensure, key, "0")):
            rollback.on_failure(netns.enter, sandbox, functools.partial(sysctl.ensure, key, "1"))


def configure(plan: Plan) -> Device:
    """Give the interface its addresses, switch it on, add its routes; in the namespace of the calling thread.

    Raises KernelFailure.
    """
    with Links() as links:
        link = links.get_device(plan.ifname)
        for key, value in plan.settings:
            sysctl.ensure_quietly(key, value)
        if plan.has_ipv6:
            sysctl.ensure(f"net/ipv6/conf/{plan.ifname}/keep_addr_on_down", "1")
        for address in plan.addresses:
            addresses.add(
                links,
                link,
                address,
                prefix_route=plan.prefix_routes,
                # Said of the address too: the interface's setting does not count where that of `all` is on.
                detect_duplicates=plan.detect_duplicates,
            )
        if plan.up:
            links.set_up(link)
        if plan.detect_duplicates and plan.has_ipv6:
            addresses.settle(links, link)
        if plan.up:
            for address in plan.addresses:
                routes.await_local(links, link, address.ip)
        for route in plan.routes:
            routes.add(links, link, route)
        return link


def described(link: Device, sandbox: str = "") -> Interface:
    """The link as a result tells of it."""
    return Interface(name=link.name, mac=link.mac, mtu=link.mtu, sandbox=sandbox)


def read(ifname: str) -> Device:
    """The interface as it is, in the namespace of the calling thread. Raises KernelFailure."""
    with Links() as links:
        return links.get_device(ifname)
