"""The host's address in an attachment's subnet, shared by all attachments to the bridge."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterable

from cni.linux import addresses, netns, sysctl, vlan
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
    """The host's own interface in the VLAN, which is never rolled back. Raises KernelFailure."""
    name = conf.gateway_name
    found = host.find(name)
    if found is None:
        _create_vlan_interface(host, bridge, conf)
        found = host.get(name)
    if not found.up:
        host.set_up(found)
    return found


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
        vlan.replace(host, host.get(port), [membership], keep_present=conf.preserve_default_vlan)
        rollback.commit()


def ensure_address(host: Links, link: Link, wanted: IPInterface, conf: BridgeConf, rollback: Rollback) -> None:
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
    host.set_mac(link, link.mac if link.mac != NO_MAC else host.refresh(link).mac)
    _add_address(host, link, wanted, conf, rollback)


def _add_address(host: Links, link: Link, wanted: IPInterface, conf: BridgeConf, rollback: Rollback) -> None:
    try:
        addresses.add(host, link, wanted, detect_duplicates=conf.enabledad)
    except KernelFailure as error:
        if error.errno != errno.EEXIST:  # another ADD was quicker, and it is that one's to undo
            raise
    else:
        rollback.on_failure(addresses.delete, host, link, wanted)
    _settle(host, link, wanted, conf)


def _settle(host: Links, link: Link, wanted: IPInterface, conf: BridgeConf) -> None:
    """Wait until the address can be used: a sandbox's first packet goes to it."""
    if conf.enabledad and wanted.version == 6:
        addresses.settle(host, link)


def _overlap(one: IPInterface, other: IPInterface) -> bool:
    return one.version == other.version and (one.ip in other.network or other.ip in one.network)
