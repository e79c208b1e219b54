"""ADD of the `veth` delegate."""

from __future__ import annotations

import functools

from cni.linux import addresses, netns, routes
from cni.linux.device import Device
from cni.linux.links import Links
from cni.plugin.rollback import Rollback
from cni.spec.errors import InvalidConfiguration
from cni.spec.model import IPAddress
from cni.spec.request import Request
from cni.spec.result import IPConfig, Result
from delegates import addressing, config, gateway, host_veth, interface, ipam, masquerade
from delegates.config import VethConf

INSIDE = 1
"""Index in our result of the sandbox's interface, after the host's end."""


def add(request: Request) -> Result:
    """Link the sandbox with the host; a failure leaves nothing behind."""
    conf = config.veth(request)
    mac = config.requested_mac(conf, request, strict_args=False)
    earlier = request.prev_result
    with netns.opened(request.netns) as sandbox, Links() as host, Rollback() as rollback:
        rollback.on_failure(ipam.delete, request)  # before the call: a failed ADD needs its DEL too
        leases = addressing.on_interface(ipam.add(request), INSIDE)
        _require_gateways(request, leases)
        gateway.enable_forwarding(ip.address.version for ip in leases.ips)

        outside = _link(request, conf, host, sandbox, mac, rollback)
        inside = _configure(request, sandbox, leases, rollback)
        host.await_up(outside)
        _route(host, outside, leases)
        if conf.ip_masq:
            # Before the call: with iptables each family is a change of its own.
            rollback.on_failure(masquerade.remove, request, [ip.address.ip for ip in leases.ips])
            masquerade.apply(request, conf, [ip.address for ip in leases.ips])
        made = (interface.described(outside), interface.described(inside, request.netns))
        rollback.commit()
    return addressing.after(earlier, leases.replace(interfaces=made, dns=addressing.dns(conf, leases)))


def _require_gateways(request: Request, leases: Result) -> None:
    for ip in leases.ips:
        if ip.gateway is None or ip.gateway.version != ip.address.version:
            raise InvalidConfiguration(
                f"could not route {ip.address} to the host",
                f'the IPAM of network "{request.network}" named no `gateway` for it, and a veth needs one',
                id="PLX-GATEWAY",
            )


def _link(request: Request, conf: VethConf, host: Links, sandbox: int, mac: str, rollback: Rollback) -> Device:
    make = functools.partial(host.add_veth, peer=request.ifname, peer_netns=sandbox, peer_mac=mac, mtu=conf.mtu)
    name = host_veth.create(request, host, make)
    rollback.on_failure(host.delete_named, name)
    outside = host.get_device(name)
    host.set_alias(outside, host_veth.alias(request))
    host.refuse_router_advertisements(outside)
    host.trust_addresses(outside)
    return outside


def _configure(request: Request, sandbox: int, leases: Result, rollback: Rollback) -> Device:
    plan = interface.Plan(
        ifname=request.ifname,
        addresses=tuple(ip.address for ip in leases.ips),
        # A subnet on the link is what a veth has not: the kernel's own route would say that.
        prefix_routes=False,
        routes=(*_inside_routes(leases), *addressing.planned_routes(leases)),
        # Nobody but the host can have the same address: asking would only cost a second.
        detect_duplicates=False,
        settings=((f"net/ipv6/conf/{request.ifname}/accept_dad", "0"),),
    )
    if plan.has_ipv6:
        interface.enable_ipv6(sandbox, request.ifname, rollback)
    return netns.enter(sandbox, functools.partial(interface.configure, plan))


def _inside_routes(leases: Result) -> list[routes.Route]:
    """The gateway is on the link, and the rest of the subnet behind it."""
    found = []
    for ip in leases.ips:
        on_link = addressing.single(_gateway(ip)).network
        found.append(routes.Route(dst=on_link, scope=routes.LINK_SCOPE, source=ip.address.ip))
        if ip.address.network != on_link:
            found.append(routes.Route(dst=ip.address.network, gateway=ip.gateway, source=ip.address.ip))
    return found


def _route(host: Links, outside: Device, leases: Result) -> None:
    """Make the host's end the gateway, and the way to the sandbox's addresses."""
    for address in dict.fromkeys(addressing.single(_gateway(ip)) for ip in leases.ips):
        addresses.add(host, outside, address, detect_duplicates=False)
        routes.await_local(host, outside, address.ip)
    for ip in leases.ips:
        towards = routes.Route(dst=addressing.single(ip.address.ip).network, scope=routes.HOST_SCOPE)
        routes.add(host, outside, towards)


def _gateway(ip: IPConfig) -> IPAddress:
    assert ip.gateway is not None  # noqa: S101 - _require_gateways has seen to it
    return ip.gateway
