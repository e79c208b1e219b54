"""ADD of the `bridge` delegate."""

from __future__ import annotations

import functools

from cni.linux import netns, vlan
from cni.linux.device import Device
from cni.linux.link import Link
from cni.linux.links import Links
from cni.linux.vlan import Membership
from cni.plugin.rollback import Rollback
from cni.spec import netconf
from cni.spec.request import Request
from cni.spec.result import Result
from delegates import addressing, config, gateway, host_bridge, host_veth, interface, ipam, masquerade, spoofcheck
from delegates.config import BridgeConf

INSIDE = 2
"""Index in our result of the sandbox's interface, after the bridge and the host's end."""
DEFAULT_VID = 1


def add(request: Request) -> Result:
    """Plug the sandbox into the bridge; a failure leaves nothing behind but the bridge."""
    conf = config.bridge(request)
    config.require_expressible(request)
    mac = config.requested_mac(conf, request, strict_args=True)
    earlier = request.prev_result
    with netns.opened(request.netns) as sandbox, Links() as host, Rollback() as rollback:
        bridge, port = _plug(request, conf, host, sandbox, mac, rollback)
        _set_up_port(request, conf, host, port)
        if conf.macspoofchk:
            own_mac = mac or netns.enter(sandbox, functools.partial(interface.read, request.ifname)).mac
            spoofcheck.apply(request, port.name, own_mac)
            rollback.on_failure(spoofcheck.remove, request)

        leases = _lease(request, conf, rollback)
        inside = _configure(request, conf, sandbox, leases, rollback)
        if not conf.disable_container_interface:
            host.wait_up(port)
        if conf.ip_masq and leases.ips:
            # Before the call: with iptables each family is a change of its own.
            rollback.on_failure(masquerade.remove, request, [ip.address.ip for ip in leases.ips])
            masquerade.apply(request, conf, [ip.address for ip in leases.ips])

        # Last, because everybody shares it: nothing may fail after somebody else has begun to rely on it.
        vlan_interface = _ensure_gateway(conf, host, bridge, leases, rollback)
        made = [host.get_device(bridge.name), port, inside, *vlan_interface]
        rollback.commit()
    places = ("", "", request.netns, "")
    interfaces = tuple(interface.described(link, place) for link, place in zip(made, places, strict=False))
    ours = leases.replace(interfaces=interfaces, dns=addressing.dns(conf, leases))
    return addressing.after(earlier, ours)


def memberships(conf: BridgeConf) -> list[Membership]:
    """The VLANs that the host's end is to be a member of; a trunk without `vlan` has the default one untagged."""
    if not conf.vlan and not conf.trunk:
        return []
    native = conf.vlan or DEFAULT_VID
    return [Membership(native, native=True), *(Membership(vid) for vid in conf.trunk if vid != native)]


def _plug(
    request: Request, conf: BridgeConf, host: Links, sandbox: int, mac: str, rollback: Rollback
) -> tuple[Link, Device]:
    """Create the pair, one end in the sandbox and down, the other a port of the bridge, which is made if it must be."""
    if conf.remove_bridge:
        rollback.on_failure(host_bridge.remove_unused, conf.bridge)
    with netns.exclusive():  # nobody else may find the bridge without ports until it has ours
        bridge = host_bridge.ensure(host, conf)  # shared by every attachment: never rolled back unless told to
        outside, inside = host_bridge.sizes(bridge, conf)
        make = functools.partial(
            host.add_veth,
            peer=request.ifname,
            peer_netns=sandbox,
            peer_mac=mac,
            mtu=outside,
            peer_mtu=inside,
            master=bridge,
        )
        name = host_veth.create(request, host, make)
        rollback.on_failure(host.delete_named, name)
    return bridge, host.get_device(name)


def _set_up_port(request: Request, conf: BridgeConf, host: Links, port: Device) -> None:
    host.set_port(port, alias=host_veth.alias(request), hairpin=conf.hairpin_mode, isolated=conf.port_isolation)
    host.refuse_router_advertisements(port)
    if wanted := memberships(conf):
        vlan.replace(host, port, wanted, keep_present=conf.preserve_default_vlan)


def _lease(request: Request, conf: BridgeConf, rollback: Rollback) -> Result:
    if not netconf.ipam_type(request.conf):
        return Result()
    rollback.on_failure(ipam.delete, request)  # before the call: a failed ADD needs its DEL too
    leases = ipam.add(request)
    if conf.gateway:
        leases = addressing.with_gateways(leases)
    if conf.is_default_gateway:
        leases = addressing.with_default_routes(leases)
    return addressing.on_interface(leases, INSIDE)


def _configure(request: Request, conf: BridgeConf, sandbox: int, leases: Result, rollback: Rollback) -> Device:
    plan = interface.Plan(
        ifname=request.ifname,
        addresses=tuple(ip.address for ip in leases.ips),
        routes=tuple(addressing.planned_routes(leases)),
        settings=_settings(request.ifname, conf) if leases.ips else (),
        detect_duplicates=conf.enabledad,
        up=not conf.disable_container_interface,
    )
    if plan.has_ipv6:
        interface.enable_ipv6(sandbox, request.ifname, rollback)
    return netns.enter(sandbox, functools.partial(interface.configure, plan))


def _settings(ifname: str, conf: BridgeConf) -> tuple[tuple[str, str], ...]:
    ipv6 = f"net/ipv6/conf/{ifname}"
    detection = (
        {f"{ipv6}/enhanced_dad": "1", f"{ipv6}/accept_dad": "1"} if conf.enabledad else {f"{ipv6}/accept_dad": "0"}
    )
    # Tell neighbours of a reused address when the interface comes up.
    return (*detection.items(), (f"net/ipv4/conf/{ifname}/arp_notify", "1"))


def _ensure_gateway(conf: BridgeConf, host: Links, bridge: Link, leases: Result, rollback: Rollback) -> list[Device]:
    """Give the host the gateways' addresses; return the VLAN's interface, if it is that which has them."""
    if not conf.gateway or not leases.ips:
        return []
    gateway.enable_forwarding(ip.address.version for ip in leases.ips)
    link: Device = gateway.ensure_vlan_interface(host, bridge, conf) if conf.vlan else bridge
    for wanted in addressing.gateway_addresses(leases):
        gateway.ensure_address(host, link, wanted, conf, rollback)
    return [link] if conf.vlan else []
