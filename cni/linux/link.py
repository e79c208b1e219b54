"""One link of a namespace as the kernel describes it, read from a netlink message."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cni.linux.device import Device
from cni.linux.wire import Attributes

IFF_UP = 0x1
IFF_PROMISC = 0x100
IFF_LOWER_UP = 0x10000
"""From <linux/if.h>."""
NO_MAC = "00:00:00:00:00:00"
"""What a bridge without ports reports."""


@dataclass(frozen=True, kw_only=True)
class Link(Device):
    """All that we ask of a link, at the moment it was asked for."""

    kind: str
    """The driver, for example "veth"; "" for hardware and lo."""

    up: bool
    """Whether an administrator switched it on."""

    operstate: str
    """Whether it carries traffic, "UP" or, for example, "LOWERLAYERDOWN"."""

    carrier: bool
    """Whether it is connected to anything, a bridge to ports that are up; known sooner than `operstate`."""

    promisc: bool
    txqueuelen: int
    alias: str
    group: int
    master: int
    """Index of the bridge that it is a port of; 0 for none."""

    peer: int
    """Index of a veth's other end, in the namespace which that is in; 0 for none."""

    info: Attributes = field(repr=False, compare=False)
    """What its driver and its bridge tell of it: as much again, and seldom asked for."""

    @property
    def hairpin(self) -> bool:
        """Of a bridge's port: whether a frame may leave by the port that it came by."""
        return bool(self.info.within("IFLA_INFO_SLAVE_DATA").get("IFLA_BRPORT_MODE"))

    @property
    def isolated(self) -> bool:
        """Of a bridge's port: whether it is kept apart from other ports that are isolated."""
        return bool(self.info.within("IFLA_INFO_SLAVE_DATA").get("IFLA_BRPORT_ISOLATED"))

    @property
    def vlan_filtering(self) -> bool:
        """Of a bridge: whether it keeps VLANs apart."""
        return bool(self.info.within("IFLA_INFO_DATA").get("IFLA_BR_VLAN_FILTERING"))


def decode(message: Any) -> Link:
    """Read an RTM_NEWLINK message."""
    attributes = Attributes.of(message)
    info = attributes.within("IFLA_LINKINFO")
    kind = info.get("IFLA_INFO_KIND", "")
    return Link(
        index=message["index"],
        name=attributes.get("IFLA_IFNAME", ""),
        kind=kind,
        mac=attributes.get("IFLA_ADDRESS") or "",
        mtu=attributes.get("IFLA_MTU", 0),
        up=bool(message["flags"] & IFF_UP),
        operstate=attributes.get("IFLA_OPERSTATE", "UNKNOWN"),
        carrier=bool(message["flags"] & IFF_LOWER_UP),
        promisc=bool(message["flags"] & IFF_PROMISC),
        txqueuelen=attributes.get("IFLA_TXQLEN", 0),
        alias=attributes.get("IFLA_IFALIAS", ""),
        group=attributes.get("IFLA_GROUP", 0),
        master=attributes.get("IFLA_MASTER", 0),
        peer=attributes.get("IFLA_LINK", 0) if kind == "veth" else 0,
        info=info,
    )
