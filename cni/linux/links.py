"""The links of the namespace that the calling thread is in, over one netlink socket."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

from cni.linux import kernel, link, sysctl
from cni.linux.kernel import already_gone
from cni.linux.link import IFF_PROMISC, Link
from cni.spec.errors import InvalidConfiguration, KernelFailure

DUMP_TRIES = 10
TXQUEUELEN = 1000
"""Packets a queueing discipline on the link may hold, if it is given one; the kernel's own default for hardware."""
POLLS = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.7, 1.0)
"""Seconds between looks at a state the kernel reaches by itself; together as long as the reference plugins wait."""


class Links:
    """A netlink socket in the current namespace; one thread uses it, in a `with` block.

    Every method raises KernelFailure.
    """

    netlink: Any

    def __enter__(self) -> Self:
        from pyroute2 import IPRoute  # 120 ms

        self.netlink = kernel.ask("open a netlink socket", IPRoute)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.netlink.close()

    def find(self, name: str) -> Link | None:
        """The link of that name, or None."""
        return self._find(f'look up link "{name}"', ifname=name)

    def find_index(self, index: int) -> Link | None:
        """The link with that index, or None."""
        return self._find(f"look up link {index}", index=index)

    def get(self, name: str) -> Link:
        """The link of that name."""
        found = self.find(name)
        if found is None:
            raise KernelFailure(f'could not find link "{name}"', "it does not exist", errno=errno.ENODEV)
        return found

    def refresh(self, old: Link) -> Link:
        """The same link as it is now."""
        found = self.find_index(old.index)
        if found is None:
            raise KernelFailure(f'could not find link "{old.name}"', "it is gone", errno=errno.ENODEV)
        return found

    def every(self, kind: str) -> list[Link]:
        """All links of one driver."""
        links = [link.decode(message) for message in self.dump("list the links", self.netlink.get_links)]
        return [found for found in links if found.kind == kind]

    def dump(self, what: str, call: Callable[..., Iterable[Any]], **query: Any) -> list[Any]:
        """Everything that a query answers; asked again where the answer changed while it was being given."""
        from pyroute2.netlink.exceptions import NetlinkDumpInterrupted

        for _ in range(DUMP_TRIES):
            try:
                return kernel.ask(what, lambda: list(call(**query)))
            except NetlinkDumpInterrupted:
                continue
        raise KernelFailure(f"could not {what}", f"the answer changed {DUMP_TRIES} times while it was being read")

    def ensure_bridge(self, name: str, *, mtu: int, promisc: bool, vlan_filtering: bool) -> Link:
        """The bridge of that name, created (with `mtu`, 0 for the kernel's default) where it is missing, and up.

        Raises InvalidConfiguration when another kind of link has that name.
        """
        bridge = self.find(name) or self._create_bridge(name, mtu, vlan_filtering)
        if bridge.kind != "bridge":
            raise InvalidConfiguration(
                f'failed to create bridge "{name}": "{name}" already exists but is not a bridge',
                f'it is a link of type "{bridge.kind or "hardware"}": name another `bridge`, or remove it',
                id="PLX-BRIDGE-TYPE",
            )
        if promisc and not bridge.promisc:
            flags = {"flags": IFF_PROMISC, "change": IFF_PROMISC}
            self._set(f'set promiscuous mode on bridge "{name}"', bridge, **flags)
        self.refuse_router_advertisements(bridge)
        if not bridge.up:
            self.set_up(bridge)
        return bridge

    def add_veth(
        self, name: str, *, peer: str, peer_netns: int, peer_mac: str = "", mtu: int = 0, master: Link | None = None
    ) -> None:
        """Create a veth, up and a port of `master`; its peer is in the namespace of the descriptor `peer_netns`.

        One message makes all of it, so that there is nothing to undo where the kernel refuses. An `errno` of EEXIST
        means that either name is taken.
        """
        size = {"mtu": mtu} if mtu else {}
        other = {"ifname": peer, "net_ns_fd": peer_netns} | size | ({"address": peer_mac} if peer_mac else {})
        port = {"master": master.index} if master else {}
        kernel.change(
            f'create interface "{peer}", with the other end "{name}"',
            self.netlink.link,
            "add",
            ifname=name,
            kind="veth",
            state="up",
            txqlen=TXQUEUELEN,
            peer=other,
            **port,
            **size,
        )

    def set_port(self, port: Link, *, alias: str, hairpin: bool, isolated: bool) -> None:
        """Set the flags that a bridge keeps of its port, and the link's alias, in one message."""
        flags = {"mode": int(hairpin), "isolated": int(isolated)}
        self._set(f'set up the bridge port "{port.name}"', port, kind="bridge_slave", ifalias=alias, **flags)

    def set_alias(self, wanted: Link, alias: str) -> None:
        """Write the alias, a remark of at most 255 bytes that the kernel keeps with the link."""
        self._set(f'set the alias of link "{wanted.name}"', wanted, ifalias=alias)

    def set_up(self, wanted: Link) -> None:
        """Switch the link on."""
        self._set(f'set up link "{wanted.name}"', wanted, state="up")

    def refuse_router_advertisements(self, ours: Link) -> None:
        """Keep others on the network from giving the host routes by way of this link, where it knows IPv6."""
        sysctl.ensure_quietly(f"net/ipv6/conf/{ours.name}/accept_ra", "0")

    def set_mac(self, wanted: Link, mac: str) -> None:
        """Give the link a MAC to keep: a bridge has its ports' lowest until then, and none at all without ports."""
        self._set(f'set the MAC of link "{wanted.name}" to {mac}', wanted, address=mac)

    def delete(self, unwanted: Link) -> None:
        """Delete the link; a veth's peer goes with it. Nothing happens when it is gone already."""
        try:
            kernel.change(f'delete link "{unwanted.name}"', self.netlink.link, "del", index=unwanted.index)
        except KernelFailure as error:
            if not already_gone(error):
                raise

    def delete_named(self, name: str) -> None:
        """Delete the link of that name, if there is one."""
        unwanted = self.find(name)
        if unwanted:
            self.delete(unwanted)

    def wait_up(self, port: Link) -> Link:
        """Wait until a bridge's port carries traffic, some 2.5 seconds at most."""
        for pause in POLLS:
            time.sleep(pause)
            port = self.refresh(port)
            if port.operstate == "UP":
                return port
        raise KernelFailure(
            f"bridge port in error state: {port.operstate}",
            f'port "{port.name}" carries no traffic: is its bridge up?',
            id="PLX-PORT-STATE",
        )

    def _find(self, what: str, **which: Any) -> Link | None:
        try:
            found = kernel.ask(what, self.netlink.link, "get", **which)
        except KernelFailure as error:
            if error.errno in (errno.ENODEV, errno.ERANGE, errno.EINVAL):  # EINVAL, ERANGE: no link has such a name
                return None
            raise
        return link.decode(found[0])

    def _create_bridge(self, name: str, mtu: int, vlan_filtering: bool) -> Link:
        size = {"mtu": mtu} if mtu else {}
        filtering = {"br_vlan_filtering": 1} if vlan_filtering else {}
        what = f'create bridge "{name}"' + (" with VLAN filtering" if vlan_filtering else "")
        try:
            kernel.change(what, self.netlink.link, "add", ifname=name, kind="bridge", state="up", **size, **filtering)
        except KernelFailure as error:
            if error.errno != errno.EEXIST:  # another ADD was quicker
                raise
        return self.get(name)

    def _set(self, what: str, wanted: Link, **changes: Any) -> None:
        kernel.change(what, self.netlink.link, "set", index=wanted.index, **changes)
