"""VLANs that the port of a filtering bridge is a member of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cni.linux import kernel
from cni.linux.link import Link
from cni.linux.links import Links

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


def every(links: Links, port: Link) -> list[Membership]:
    """The port's VLANs, by number. Raises KernelFailure."""
    what = f'list the VLANs of port "{port.name}"'
    messages = links.dump(what, links.netlink.get_vlans)
    entries = [entry for message in messages if message["index"] == port.index for entry in _entries(message)]
    return sorted(_memberships(entries))


def replace(links: Links, port: Link, wanted: Iterable[Membership], *, keep_present: bool) -> None:
    """Make the port a member of these VLANs, and unless `keep_present` of no others. Raises KernelFailure."""
    if not keep_present:
        for present in every(links, port):
            what = f'remove port "{port.name}" from VLAN {present.vid}'
            kernel.change(what, links.netlink.vlan_filter, "del", index=port.index, vlan_info={"vid": present.vid})
    for membership in wanted:
        info = {"vid": membership.vid, "flags": NATIVE if membership.native else 0}
        what = f'add port "{port.name}" to VLAN {membership.vid}'
        kernel.change(what, links.netlink.vlan_filter, "add", index=port.index, vlan_info=info)


def _entries(message: Any) -> list[Any]:
    spec = dict(message["attrs"]).get("IFLA_AF_SPEC", {})
    return [value for key, value in spec.get("attrs", ()) if key == "IFLA_BRIDGE_VLAN_INFO"]


def _memberships(entries: Iterable[Any]) -> Iterable[Membership]:
    begin = 0
    for entry in entries:
        if entry["flags"] & RANGE_BEGIN:
            begin = entry["vid"]
            continue
        first = begin if entry["flags"] & RANGE_END else entry["vid"]
        for vid in range(first, entry["vid"] + 1):
            yield Membership(vid, native=bool(entry["flags"] & PVID))
