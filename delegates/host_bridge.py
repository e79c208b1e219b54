"""The host's bridge, which everybody who is plugged into it shares: it stays as whoever made it wants it.

A bridge whose MTU nobody chose gets the lowest of its ports, and 1500 when it has none (br_mtu_auto_adjust in the
kernel). So no port of ours has a lower MTU than the bridge; and where that is not enough, the bridge is told to keep
its own before it gets our port.
"""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING

from cni.linux import netns, sysctl
from cni.linux.link import Link
from cni.linux.links import HALF_MADE, Links
from cni.spec.errors import InvalidConfiguration, KernelFailure, PluginUnavailable, UnsupportedField

if TYPE_CHECKING:
    from delegates.config import BridgeConf

ALIAS = "plexus:bridge"
"""The mark on a bridge that we made."""
DEFAULT_MTU = 1500
"""Of a bridge without ports."""
CONTAINERS_END = re.compile(r"veth[0-9a-f]{8}")
"""How we, and the reference plugins, name the port of a container: all others are the machine's own."""


def ensure(host: Links, conf: BridgeConf) -> Link:
    """The bridge, up and fit for an attachment; made where it is missing, if that is allowed.

    Called within `netns.exclusive`, until the bridge has the attachment's port. Raises InvalidConfiguration,
    UnsupportedField, KernelFailure.
    """
    found = host.find(conf.bridge)
    if found is None:
        bridge = _create(host, conf)
    elif _is_half_made(found):
        bridge = host.finish_bridge(found, alias=ALIAS, mtu=conf.mtu, detect_duplicates=conf.enabledad)
        _check(host, bridge, conf)
    else:
        bridge = found
        _check(host, bridge, conf)
    if conf.promisc_mode and not bridge.promisc:
        host.set_promisc(bridge)
    host.refuse_router_advertisements(bridge)
    if conf.enabledad and bridge.alias == ALIAS:
        sysctl.ensure_quietly(f"net/ipv6/conf/{bridge.name}/accept_dad", "1")
    if not bridge.up:
        host.set_up(bridge)
    return bridge


def sizes(bridge: Link, conf: BridgeConf) -> tuple[int, int]:
    """The MTUs of the host's end, which never is lower than the bridge's, and of the sandbox's interface."""
    inside = conf.mtu or bridge.mtu
    return max(inside, bridge.mtu), inside


def remove_unused(name: str) -> None:
    """Delete the bridge, if we made it and it has no port. Raises KernelFailure."""
    with netns.exclusive(), Links() as host:
        bridge = host.find(name)
        if bridge and bridge.kind == "bridge" and _is_ours(bridge) and not _has_ports(host, bridge):
            host.delete(bridge)


def require(conf: BridgeConf) -> None:
    """Raise PluginUnavailable when the bridge is missing, and not to be made."""
    if conf.create_bridge:
        return
    with Links() as host:
        if host.find(conf.bridge) is None:
            missing = _missing(host, conf)
            raise PluginUnavailable(missing.msg, missing.reason, id=missing.id)


def _create(host: Links, conf: BridgeConf) -> Link:
    if not conf.create_bridge:
        raise _missing(host, conf)
    try:
        return host.create_bridge(
            conf.bridge,
            alias=ALIAS,
            mtu=conf.mtu,
            vlan_filtering=conf.vlan_filtering,
            detect_duplicates=conf.enabledad,
        )
    except KernelFailure as error:
        if conf.vlan_filtering and error.errno == errno.EOPNOTSUPP:
            reason = "this kernel has no bridge VLAN filtering (CONFIG_BRIDGE_VLAN_FILTERING)"
            raise _no_vlans(conf, reason) from error
        raise


def _is_ours(bridge: Link) -> bool:
    return bridge.alias == ALIAS or _is_half_made(bridge)


def _is_half_made(link: Link) -> bool:
    """Whether one of us was killed while making it: nobody else looks while somebody does."""
    return link.group == HALF_MADE and link.kind == "bridge"


def _missing(host: Links, conf: BridgeConf) -> InvalidConfiguration:
    bridges = ", ".join(f'"{bridge.name}"' for bridge in host.every("bridge"))
    return InvalidConfiguration(
        f'could not find bridge "{conf.bridge}"',
        f"`createBridge` is false, and {f'the bridges here are {bridges}' if bridges else 'there is no bridge here'}:"
        " create it, or correct `bridge`",
        id="PLX-BRIDGE-MISSING",
    )


def _check(host: Links, bridge: Link, conf: BridgeConf) -> None:
    """Refuse a bridge that cannot serve the attachment; have one that can keep its MTU."""
    if bridge.kind != "bridge":
        raise InvalidConfiguration(
            f'failed to create bridge "{bridge.name}": "{bridge.name}" already exists but is not a bridge',
            f'it is a link of type "{bridge.kind or "hardware"}": name another `bridge`, or remove it',
            id="PLX-BRIDGE-TYPE",
        )
    if conf.vlan_filtering and not bridge.vlan_filtering:
        raise _no_vlans(
            conf,
            "the bridge exists and does not keep VLANs apart; to have it do so for all its ports:"
            f" ip link set dev {conf.bridge} type bridge vlan_filtering 1",
        )
    if conf.mtu > bridge.mtu:
        _refuse_uplinks(host, bridge, conf)
        host.keep_mtu(bridge)  # it would grow as smaller ports leave
    elif bridge.mtu != DEFAULT_MTU and not _has_ports(host, bridge):
        host.keep_mtu(bridge)  # it would fall back to the default with its last port


def _refuse_uplinks(host: Links, bridge: Link, conf: BridgeConf) -> None:
    uplinks = [name for name in host.ports(bridge) if not CONTAINERS_END.fullmatch(name)]
    if uplinks:
        raise UnsupportedField(
            f'could not use bridge "{bridge.name}": `mtu` is {conf.mtu}, and the bridge\'s is {bridge.mtu}',
            f'larger frames would be lost on its way out by "{uplinks[0]}": ask for {bridge.mtu} at most, or leave'
            " `mtu` out, or raise that of the bridge and of its ports",
            id="PLX-BRIDGE-MTU",
        )


def _has_ports(host: Links, bridge: Link) -> bool:
    # A bridge that never had a port has a carrier; one that lost its last is said to be up for a while.
    is_connected = bridge.carrier and bridge.operstate == "UP"
    return is_connected or bool(host.ports(bridge))


def _no_vlans(conf: BridgeConf, reason: str) -> UnsupportedField:
    asked = f"`vlan` is {conf.vlan}" if conf.vlan else "`vlanTrunk` is set"
    return UnsupportedField(f'could not use VLANs on bridge "{conf.bridge}": {asked}', reason, id="PLX-BRIDGE-VLAN")
