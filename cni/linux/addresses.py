"""IP addresses of a link."""

from __future__ import annotations

import ipaddress
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cni.linux import kernel, messages, netlink
from cni.linux.device import Device
from cni.linux.links import Links
from cni.linux.wire import Attributes
from cni.spec.errors import KernelFailure

if TYPE_CHECKING:
    from cni.spec.model import IPInterface

FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
NEW, DELETE, GET = 20, 21, 22
"""Types of messages about addresses, from <linux/rtnetlink.h>."""
NO_DAD = 0x02
NO_PREFIX_ROUTE = 0x200
TENTATIVE = 0x40
DAD_FAILED = 0x08
"""From <linux/if_addr.h>."""
SETTLE_TIMEOUT = 5.0
SETTLE_POLLS = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
"""Seconds between looks; the last goes on until the timeout."""


@dataclass(frozen=True)
class Found:
    """An address as the kernel has it."""

    address: IPInterface
    flags: int


def every(links: Links, link: Device, family: int | None = None) -> list[Found]:
    """The link's addresses, of one family (4 or 6) or both. Raises KernelFailure."""
    what = f'list the addresses of link "{link.name}"'
    wanted = FAMILIES[family] if family else socket.AF_UNSPEC
    messages = links.dump(what, GET, _message(index=link.index, family=wanted))
    # An old kernel answers for all links.
    return [_decode(message) for message in messages if message["index"] == link.index]


def add(
    links: Links, link: Device, address: IPInterface, *, prefix_route: bool = True, detect_duplicates: bool = True
) -> None:
    """Give the link an address; without `prefix_route` the kernel makes no route to its subnet.

    An IPv6 address can be used at once without `detect_duplicates`, else after a second or two. Raises KernelFailure.
    """
    flags = (0 if prefix_route else NO_PREFIX_ROUTE) | (0 if detect_duplicates or address.version == 4 else NO_DAD)
    made = _named(link, address, *_broadcast(address), *([("IFA_FLAGS", flags)] if flags else []))
    what = f'add address {address} to link "{link.name}"'
    kernel.change(what, links.netlink.ask, NEW, made, netlink.CREATE | netlink.EXCL)


def delete(links: Links, link: Device, address: IPInterface) -> None:
    """Take the address from the link. Nothing happens when it is gone already. Raises KernelFailure."""
    what = f'remove address {address} from link "{link.name}"'
    try:
        kernel.change(what, links.netlink.ask, DELETE, _named(link, address))
    except KernelFailure as error:
        if not kernel.already_gone(error):
            raise


def settle(links: Links, link: Device) -> None:
    """Wait until duplicate address detection is over for the link's IPv6 addresses. Raises KernelFailure."""
    deadline = time.monotonic() + SETTLE_TIMEOUT
    polls = iter(SETTLE_POLLS)
    while tentative := [found for found in every(links, link, 6) if found.flags & TENTATIVE]:
        _refuse_duplicates(link, tentative)
        if time.monotonic() > deadline:
            _refuse_unsettled(links, link, tentative)
            return
        time.sleep(next(polls, SETTLE_POLLS[-1]))


def _refuse_duplicates(link: Device, tentative: list[Found]) -> None:
    for found in tentative:
        if found.flags & DAD_FAILED:
            raise KernelFailure(
                f'could not use address {found.address.ip} on link "{link.name}"',
                "somebody else on the network has it (duplicate address detection failed): find who, or exclude it",
                id="PLX-ADDRESS-DUPLICATE",
            )


def _refuse_unsettled(links: Links, link: Device, tentative: list[Found]) -> None:
    if links.refresh(link).operstate != "UP":
        return  # it goes on when there is somebody to ask
    raise KernelFailure(
        f'could not use address {tentative[0].address.ip} on link "{link.name}"',
        f"duplicate address detection took longer than {SETTLE_TIMEOUT:.0f} seconds",
        id="PLX-ADDRESS-TENTATIVE",
    )


def _named(link: Device, address: IPInterface, *more: tuple[str, Any]) -> Any:
    text = str(address.ip)
    fields = {"index": link.index, "family": FAMILIES[address.version], "prefixlen": address.network.prefixlen}
    return _message(("IFA_LOCAL", text), ("IFA_ADDRESS", text), *more, **fields)


def _broadcast(address: IPInterface) -> list[tuple[str, Any]]:
    if address.version == 6 or address.network.prefixlen > 30:
        return []
    return [("IFA_BROADCAST", str(address.network.broadcast_address))]


def _message(*attributes: tuple[str, Any], **fields: int) -> Any:
    return netlink.message(messages.load("rtnl.ifaddrmsg").ifaddrmsg, *attributes, **fields)


def _decode(message: Any) -> Found:
    attributes = Attributes.of(message)
    text = attributes.get("IFA_LOCAL") or attributes.get("IFA_ADDRESS")
    address = ipaddress.ip_interface(f"{text}/{message['prefixlen']}")
    return Found(address, attributes.get("IFA_FLAGS", message["flags"]))
