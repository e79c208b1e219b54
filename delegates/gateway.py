"""The host's address in an attachment's subnet, shared by all attachments to the bridge."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterable

from cni.linux import addresses, netns, routes, sysctl, vlan
from cni.linux.device import Device
from cni.linux.link import NO_MAC, Link
from cni.linux.links import Links
from cni.plugin.rollback import Rollback
from cni.spec.errors import InvalidConfiguration, KernelFailure
from cni.spec.model import IPInterface
from delegates.config import BridgeConf

FORWARDING = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}


def enable_forwarding(families: Iterable[int]) -> None:
    """Have the host pass packets on. It serves everybody, so it is never undone. Raises KernelFailure."""
    for family in sorted(set(families)):
        sysctl.ensure(FORWARDING[family], "1")


def ensure_vlan_interface(host: Links, bridge: Link, conf: BridgeConf) -> Link:
    """The host's own interface in the VLAN, with its way into the bridge repaired; it is never rolled back.

    An 802.1Q interface of that name is an administrator's, and taken as it is. Raises InvalidConfiguration where
    something else has the name, KernelFailure.
    """
    if host.find(conf.gateway_name) is None:
        _create_vlan_interface(host, bridge, conf)
    found = host.get(conf.gateway_name)
    if found.kind == "veth":
        _repair_vlan_port(host, bridge, found, conf)
    elif found.kind != "vlan":
        raise _no_gateway(conf, f'it is a link of type "{found.kind or "hardware"}": rename or remove it')
    host.refuse_router_advertisements(found)
    if not found.up:
        host.set_up(found)
    return found


def find_vlan_port(host: Links, interface: Link) -> Link | None:
    """The other end of the host's own interface in a VLAN: a port of the bridge. Raises KernelFailure."""
    port = host.find_index(interface.peer) if interface.peer else None
    return port if port and port.peer == interface.index else None


def _repair_vlan_port(host: Links, bridge: Link, interface: Link, conf: BridgeConf) -> None:
    port = find_vlan_port(host, interface)
    if port is None or port.master not in (0, bridge.index):
        raise _no_gateway(conf, f'its other end is no port of bridge "{bridge.name}": remove it, the next ADD makes it')
    host.refuse_router_advertisements(port)
    if not port.master:
        host.add_port(bridge, port)
    if not port.up:
        host.set_up(port)
    membership = vlan.Membership(conf.vlan, native=True)
    if membership not in vlan.every(host, port):
        vlan.replace(host, port, [membership], keep_present=conf.preserve_default_vlan)


def _no_gateway(conf: BridgeConf, reason: str) -> InvalidConfiguration:
    return InvalidConfiguration(
        f'could not use "{conf.gateway_name}" as the host\'s interface in VLAN {conf.vlan}',
        reason,
        id="PLX-VLAN-GATEWAY",
    )


def _create_vlan_interface(host: Links, bridge: Link, conf: BridgeConf) -> None:
    """A veth of which one end is a port of the bridge; both are in the host's namespace."""
    name = conf.gateway_name
    port = f"veth{hashlib.sha512(name.encode()).hexdigest()[:8]}"
    with netns.opened(netns.OWN) as own, Rollback() as rollback:
        try:
            host.add_veth(port, peer=name, peer_netns=own, mtu=bridge.mtu, master=bridge)
        except KernelFailure as error:
            if error.errno == errno.EEXIST and host.find(name):
                return  # another ADD was quicker
            raise
        rollback.on_failure(host.delete_named, port)
        membership = vlan.Membership(conf.vlan, native=True)
        vlan.replace(host, host.get_device(port), [membership], keep_present=conf.preserve_default_vlan)
        rollback.commit()


def ensure_address(host: Links, link: Device, wanted: IPInterface, conf: BridgeConf, rollback: Rollback) -> None:
    """Give the link the address, and a MAC that stays.

    IPv4 allows one address only, IPv6 one for each subnet: another is replaced by force, else refused. Where duplicates
    are looked for, so are other hosts with this address. Raises InvalidConfiguration, KernelFailure.
    """
    present = [found.address for found in addresses.every(host, link, wanted.version)]
    if wanted in present:
        _settle(host, link, wanted, conf)
        return
    for other in present:
        if wanted.version == 6 and not _overlap(other, wanted):
            continue
        if not conf.force_address:
            raise InvalidConfiguration(
                f'failed to set bridge addr: "{link.name}" already has an IP address different from {wanted}',
                f"it has {other}: correct the subnet or the gateway, or write `forceAddress` to replace it",
                id="PLX-BRIDGE-ADDRESS",
            )
        addresses.delete(host, link, other)
        rollback.on_failure(addresses.add, host, link, other)
    # Without a MAC of its own a bridge takes its ports' lowest, and neighbours lose it as ports come and go.
    host.set_mac(link, link.mac if link.mac != NO_MAC else host.get_device(link.name).mac)
    _add_address(host, link, wanted, conf, rollback)


def _add_address(host: Links, link: Device, wanted: IPInterface, conf: BridgeConf, rollback: Rollback) -> None:
    try:
        addresses.add(host, link, wanted, detect_duplicates=conf.enabledad)
    except KernelFailure as error:
        if error.errno != errno.EEXIST:  # another ADD was quicker, and it is that one's to undo
            raise
    else:
        rollback.on_failure(addresses.delete, host, link, wanted)
    _settle(host, link, wanted, conf)


def _settle(host: Links, link: Device, wanted: IPInterface, conf: BridgeConf) -> None:
    """Wait until the address can be used: a sandbox's first packet goes to it."""
    if conf.enabledad and wanted.version == 6:
        addresses.settle(host, link)
    routes.await_local(host, link, wanted.ip)


def _overlap(one: IPInterface, other: IPInterface) -> bool:
    return one.version == other.version and (one.ip in other.network or other.ip in one.network)
