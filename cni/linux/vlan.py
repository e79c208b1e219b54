"""VLANs that the port of a filtering bridge is a member of."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cni.linux import kernel, messages, netlink
from cni.linux.device import Device
from cni.linux.links import AF_BRIDGE, DELETE, GET, Links
from cni.linux.netlink import nested
from cni.linux.wire import Attributes
from cni.spec.errors import KernelFailure

GET_VLANS = 114
"""The type of a message that asks for VLANs of one port, from <linux/rtnetlink.h>."""
SET = 19
"""The type of a message that changes a link, from <linux/rtnetlink.h>."""
WITH_VLANS = 2
"""Of what the kernel is asked to tell of a port, also from there."""
PVID = 0x2
UNTAGGED = 0x4
RANGE_BEGIN = 0x8
RANGE_END = 0x10
NATIVE = PVID | UNTAGGED
"""Flags from <linux/if_bridge.h>: frames without a tag belong to this VLAN, both ways."""


@dataclass(frozen=True, order=True)
class Membership:
    """One VLAN of a port; tagged unless `native`."""

    vid: int
    native: bool = False


def every(links: Links, port: Device) -> list[Membership]:
    """The port's VLANs, by number. Raises KernelFailure."""
    what = f'list the VLANs of port "{port.name}"'
    asked = netlink.message(messages.load("rtnl.br_vlan").br_vlan_msg, family=AF_BRIDGE, ifindex=port.index)
    try:
        told = links.dump(what, GET_VLANS, asked)
    except KernelFailure as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # before Linux 5.6; and of what is no port
            raise
        return _among_all(links, port, what)
    entries = (Attributes.of(entry) for message in told for entry in message.get_attrs("BRIDGE_VLANDB_ENTRY"))
    return sorted(membership for entry in entries for membership in _ranged(entry))


def replace(links: Links, port: Device, wanted: Iterable[Membership], *, keep_present: bool) -> None:
    """Make the port a member of these VLANs, and unless `keep_present` of no others. Raises KernelFailure."""
    if not keep_present:
        for present in every(links, port):
            what = f'remove port "{port.name}" from VLAN {present.vid}'
            kernel.change(what, links.netlink.ask, DELETE, _about(port, Membership(present.vid)))
    for membership in wanted:
        what = f'add port "{port.name}" to VLAN {membership.vid}'
        kernel.change(what, links.netlink.ask, SET, _about(port, membership))


def _about(port: Device, membership: Membership) -> Any:
    info = {"vid": membership.vid, "flags": NATIVE if membership.native else 0}
    return _message(("IFLA_AF_SPEC", nested(("IFLA_BRIDGE_VLAN_INFO", info))), index=port.index)


def _message(*attributes: tuple[str, Any], **fields: int) -> Any:
    return netlink.message(messages.load("rtnl.ifinfmsg").ifinfmsg, *attributes, family=AF_BRIDGE, **fields)


def _ranged(entry: Attributes) -> list[Membership]:
    """The VLANs from that of the entry to the last that is like it."""
    info = entry.get("BRIDGE_VLANDB_ENTRY_INFO")
    last = entry.get("BRIDGE_VLANDB_ENTRY_RANGE", info["vid"])
    return [Membership(vid, native=bool(info["flags"] & PVID)) for vid in range(info["vid"], last + 1)]


def _among_all(links: Links, port: Device, what: str) -> list[Membership]:
    """The same, from a list of the VLANs of all ports."""
    told = links.dump(what, GET, _message(("IFLA_EXT_MASK", WITH_VLANS)))
    entries = [entry for message in told if message["index"] == port.index for entry in _entries(message)]
    return sorted(_memberships(entries))


def _entries(message: Any) -> list[Any]:
    """Each is an attribute of the same name."""
    spec = Attributes.of(message).get("IFLA_AF_SPEC")
    return spec.get_attrs("IFLA_BRIDGE_VLAN_INFO") if spec else []


def _memberships(entries: Iterable[Any]) -> Iterable[Membership]:
    begin = 0
    for entry in entries:
        if entry["flags"] & RANGE_BEGIN:
            begin = entry["vid"]
            continue
        first = begin if entry["flags"] & RANGE_END else entry["vid"]
        for vid in range(first, entry["vid"] + 1):
            yield Membership(vid, native=bool(entry["flags"] & PVID))
