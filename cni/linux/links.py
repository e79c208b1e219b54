"""The links of the namespace that the calling thread is in, over one netlink socket."""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self

from cni.linux import device, kernel, link, messages, netlink, sysctl, wire
from cni.linux.device import Device
from cni.linux.kernel import already_gone
from cni.linux.link import IFF_PROMISC, IFF_UP, Link
from cni.linux.netlink import nested
from cni.spec.errors import KernelFailure

NEW, DELETE, GET = 16, 17, 18
"""Types of messages about links, from <linux/rtnetlink.h>."""
SKIP_STATISTICS = 8
"""Of what the kernel is asked to tell of a link, also from there: statistics are a third of an answer."""
MAX_MTU = 65535
"""Of a bridge."""
AF_BRIDGE = 7
"""From <linux/socket.h>: asked for links of this family, the kernel shows ports of bridges only."""
TXQUEUELEN = 1000
"""Packets a queueing discipline on the link may hold, if it is given one; the kernel's own default for hardware."""
UNWANTED = 0x706C7873
"""The group of links that are about to be deleted; whoever finds one in it may delete it."""
HALF_MADE = 0x706C7868
"""The group of bridges that nobody has finished yet."""
POLLS = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.7, 1.0)
"""Seconds between looks at a state the kernel reaches by itself; together as long as the reference plugins wait."""


class Links:
    """A netlink socket in the current namespace; one thread uses it, in a `with` block.

    Every method raises KernelFailure.
    """

    netlink: netlink.Socket

    def __enter__(self) -> Self:
        self.netlink = kernel.ask("open a netlink socket", netlink.Socket)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.netlink.close()

    def find_device(self, name: str) -> Device | None:
        """What results tell of the link of that name, or None; it is quick, and waits for nobody."""
        return kernel.ask(f'look up link "{name}"', device.find, self.netlink.fileno(), name)

    def get_device(self, name: str) -> Device:
        """What results tell of the link of that name."""
        found = self.find_device(name)
        if found is None:
            raise _missing(name)
        return found

    def find(self, name: str) -> Link | None:
        """The link of that name, or None."""
        if not kernel.ask(f'look up link "{name}"', device.find_index, self.netlink.fileno(), name):
            return None
        return self._find(f'look up link "{name}"', ("IFLA_IFNAME", name))

    def find_index(self, index: int) -> Link | None:
        """The link with that index, or None."""
        return self._find(f"look up link {index}", index=index)

    def get(self, name: str) -> Link:
        """The link of that name."""
        found = self.find(name)
        if found is None:
            raise _missing(name)
        return found

    def refresh(self, old: Device) -> Link:
        """The same link as it is now."""
        found = self.find_index(old.index)
        if found is None:
            raise KernelFailure(f'could not find link "{old.name}"', "it is gone", errno=errno.ENODEV)
        return found

    def every(self, kind: str) -> list[Link]:
        """All links of one driver."""
        messages = self.dump("list the links", GET, _message(("IFLA_EXT_MASK", SKIP_STATISTICS)))
        return [found for found in map(link.decode, messages) if found.kind == kind]

    def dump(self, what: str, kind: int, message: Any) -> list[Any]:
        """Everything that a query answers."""
        return kernel.ask(what, self.netlink.dump, kind, message)

    def create_bridge(
        self, name: str, *, alias: str, mtu: int = 0, vlan_filtering: bool = False, detect_duplicates: bool = True
    ) -> Link:
        """Create a bridge, up, with an MTU that stays (0 for the kernel's default, which follows the ports').

        Where somebody was quicker, theirs is returned as it is.
        """
        filtering = [("IFLA_INFO_DATA", nested(("IFLA_BR_VLAN_FILTERING", 1)))] if vlan_filtering else []
        info = nested(("IFLA_INFO_KIND", "bridge"), *filtering)
        what = f'create bridge "{name}"' + (" with VLAN filtering" if vlan_filtering else "")
        try:
            self._create(what, ("IFLA_IFNAME", name), ("IFLA_GROUP", HALF_MADE), ("IFLA_LINKINFO", info))
        except KernelFailure as error:
            if error.errno != errno.EEXIST:
                raise
            return self.get(name)
        return self.finish_bridge(self.get(name), alias=alias, mtu=mtu, detect_duplicates=detect_duplicates)

    def finish_bridge(self, made: Link, *, alias: str, mtu: int = 0, detect_duplicates: bool = True) -> Link:
        """Have a half-made bridge as `create_bridge` makes it; whoever began it may have been killed over it."""
        if not detect_duplicates:
            self.trust_addresses(made)
        try:
            # Not with the message that creates it: it takes no alias, and no MTU for more than a suggestion.
            size = [("IFLA_MTU", mtu)] if mtu else []
            what = f'set up bridge "{made.name}"'
            self._set(what, made, ("IFLA_IFALIAS", alias), ("IFLA_GROUP", 0), *size, flags=IFF_UP)
        except KernelFailure:
            self.delete(made)
            raise
        return self.refresh(made)

    def keep_mtu(self, bridge: Link) -> None:
        """Have the bridge keep its MTU, instead of its ports' lowest, which a kernel gives it if nobody chose one.

        A choice counts when it is a change; one byte up and back is too short for anybody to send such a frame.
        """
        detour = bridge.mtu + (1 if bridge.mtu < MAX_MTU else -1)
        what = f'have bridge "{bridge.name}" keep its MTU of {bridge.mtu}'
        self._set(what, bridge, ("IFLA_MTU", detour))
        try:
            self._set(what, bridge, ("IFLA_MTU", bridge.mtu))
        except KernelFailure:
            self._set(what, bridge, ("IFLA_MTU", bridge.mtu))
            raise

    def ports(self, bridge: Device) -> list[str]:
        """The names of the bridge's ports."""
        what = f'list the ports of bridge "{bridge.name}"'
        messages = self.dump(what, GET, _message(family=AF_BRIDGE))
        found = [wire.Attributes.of(message) for message in messages if message["index"] != bridge.index]
        return [port.get("IFLA_IFNAME") for port in found if port.get("IFLA_MASTER") == bridge.index]

    def set_promisc(self, wanted: Device) -> None:
        """Have the link receive all frames, whoever they are for."""
        self._set(f'set promiscuous mode on link "{wanted.name}"', wanted, flags=IFF_PROMISC)

    def add_veth(
        self,
        name: str,
        *,
        peer: str,
        peer_netns: int,
        peer_mac: str = "",
        mtu: int = 0,
        peer_mtu: int = 0,
        master: Device | None = None,
    ) -> None:
        """Create a veth, up and a port of `master`; its peer is in the namespace of the descriptor `peer_netns`.

        One message makes all of it, so that there is nothing to undo where the kernel refuses. An `errno` of EEXIST
        means that either name is taken. The peer has the same `mtu` unless it has its own.
        """
        inside = [("IFLA_IFNAME", peer), ("IFLA_NET_NS_FD", peer_netns)]
        if peer_mtu or mtu:
            inside.append(("IFLA_MTU", peer_mtu or mtu))
        if peer_mac:
            inside.append(("IFLA_ADDRESS", peer_mac))
        pair = nested(("VETH_INFO_PEER", nested(*inside)))
        outside: list[tuple[str, Any]] = [
            ("IFLA_IFNAME", name),
            ("IFLA_TXQLEN", TXQUEUELEN),
            ("IFLA_LINKINFO", nested(("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_DATA", pair))),
        ]
        if mtu:
            outside.append(("IFLA_MTU", mtu))
        if master:
            outside.append(("IFLA_MASTER", master.index))
        self._create(f'create interface "{peer}", with the other end "{name}"', *outside, flags=IFF_UP)

    def set_port(self, port: Device, *, alias: str, hairpin: bool, isolated: bool) -> None:
        """Set the flags that a bridge keeps of its port, and the link's alias, in one message."""
        data = nested(("IFLA_BRPORT_MODE", int(hairpin)), ("IFLA_BRPORT_ISOLATED", int(isolated)))
        info = nested(("IFLA_INFO_SLAVE_KIND", "bridge"), ("IFLA_INFO_SLAVE_DATA", data))
        self._set(f'set up the bridge port "{port.name}"', port, ("IFLA_IFALIAS", alias), ("IFLA_LINKINFO", info))

    def add_port(self, bridge: Device, port: Device) -> None:
        """Make the link a port of the bridge."""
        self._set(f'make "{port.name}" a port of bridge "{bridge.name}"', port, ("IFLA_MASTER", bridge.index))

    def set_alias(self, wanted: Device, alias: str) -> None:
        """Write the alias, a remark of at most 255 bytes that the kernel keeps with the link."""
        self._set(f'set the alias of link "{wanted.name}"', wanted, ("IFLA_IFALIAS", alias))

    def set_up(self, wanted: Device) -> None:
        """Switch the link on."""
        self._set(f'set up link "{wanted.name}"', wanted, flags=IFF_UP)

    def refuse_router_advertisements(self, ours: Device) -> None:
        """Keep others on the network from giving the host routes by way of this link, where it knows IPv6."""
        sysctl.ensure_quietly(f"net/ipv6/conf/{ours.name}/accept_ra", "0")

    def trust_addresses(self, ours: Device) -> None:
        """Have IPv6 addresses of this link be usable at once, without asking if anybody else has them.

        Until its link-local address can be used, the host finds nobody by way of this link.
        """
        sysctl.ensure_quietly(f"net/ipv6/conf/{ours.name}/accept_dad", "0")

    def set_mac(self, wanted: Device, mac: str) -> None:
        """Give the link a MAC to keep: a bridge has its ports' lowest until then, and none at all without ports."""
        self._set(f'set the MAC of link "{wanted.name}" to {mac}', wanted, ("IFLA_ADDRESS", mac))

    def delete(self, unwanted: Device) -> None:
        """Delete the link; a veth's peer goes with it. Nothing happens when it is gone already."""
        with _gone_is_fine():
            kernel.change(f'delete link "{unwanted.name}"', self.netlink.ask, DELETE, _message(index=unwanted.index))

    def delete_together(self, unwanted: Iterable[Device]) -> None:
        """Delete the links as one; for each deletion the kernel waits until nobody can be using what is deleted."""
        for each in unwanted:
            with _gone_is_fine():
                self._set(f'prepare link "{each.name}" for deletion', each, ("IFLA_GROUP", UNWANTED))
        with _gone_is_fine():
            what = f"delete the links of group {UNWANTED:#x}"
            kernel.change(what, self.netlink.ask, DELETE, _message(("IFLA_GROUP", UNWANTED)))

    def delete_named(self, name: str) -> None:
        """Delete the link of that name, if there is one."""
        unwanted = self.find(name)
        if unwanted:
            self.delete(unwanted)

    def wait_up(self, port: Device) -> Link:
        """Wait until a bridge's port carries traffic, some 2.5 seconds at most."""
        found = self.await_up(port)
        if found.operstate != "UP":
            raise KernelFailure(
                f"bridge port in error state: {found.operstate}",
                f'port "{port.name}" carries no traffic: is its bridge up?',
                id="PLX-PORT-STATE",
            )
        return found

    def await_up(self, wanted: Device) -> Link:
        """The link as soon as it carries traffic, or as it is after some 2.5 seconds.

        The kernel opens it some time after both ends have been switched on: what is sent before is lost.
        """
        for pause in POLLS:
            time.sleep(pause)
            found = self.refresh(wanted)
            if found.operstate == "UP":
                break
        return found

    def _find(self, what: str, *named: tuple[str, Any], index: int = 0) -> Link | None:
        try:
            sought = _message(*named, ("IFLA_EXT_MASK", SKIP_STATISTICS), index=index)
            (found,) = kernel.ask(what, self.netlink.ask, GET, sought)
        except KernelFailure as error:
            if error.errno in (errno.ENODEV, errno.ERANGE, errno.EINVAL):  # EINVAL, ERANGE: no link has such a name
                return None
            raise
        return link.decode(found)

    def _create(self, what: str, *attributes: tuple[str, Any], flags: int = 0) -> None:
        made = _message(*attributes, flags=flags, change=flags)
        kernel.change(what, self.netlink.ask, NEW, made, netlink.CREATE | netlink.EXCL)

    def _set(self, what: str, wanted: Device, *attributes: tuple[str, Any], flags: int = 0) -> None:
        """Change the link's attributes, and switch on its flags."""
        changed = _message(*attributes, index=wanted.index, flags=flags, change=flags)
        kernel.change(what, self.netlink.ask, NEW, changed)


@contextlib.contextmanager
def _gone_is_fine() -> Iterator[None]:
    try:
        yield
    except KernelFailure as error:
        if not already_gone(error):
            raise


def _message(*attributes: tuple[str, Any], **fields: int) -> Any:
    return netlink.message(messages.load("rtnl.ifinfmsg").ifinfmsg, *attributes, **fields)


def _missing(name: str) -> KernelFailure:
    return KernelFailure(f'could not find link "{name}"', "it does not exist", errno=errno.ENODEV)
