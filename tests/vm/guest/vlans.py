"""What a kernel that filters VLANs tells of them: memberships of ports, and frames on the wire."""

import json
import socket
import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from machine import Namespace, Runtime

from cni.linux import netns

ETHERTYPE = 0x88B5
"""For experiments, says IEEE 802: nobody else sends such frames."""
DOT1Q = 0x8100
ETH_P_ALL = 3
SOL_PACKET, PACKET_AUXDATA = 263, 8
VLAN_VALID = 0x10
AUXDATA = struct.Struct("IIIHHHH")
"""struct tpacket_auxdata of <linux/if_packet.h>: the kernel takes the tag out of a frame and puts it here."""


def memberships(host: Namespace, port: str) -> dict[int, str]:
    """The VLANs of a bridge's port, with their flags, as `bridge` shows them."""
    return every_membership(host).get(port, {})


def every_membership(host: Namespace, names: Mapping[str, str] = MappingProxyType({})) -> dict[str, dict[int, str]]:
    """The VLANs of all ports, and of the bridges themselves, some under other names."""
    told = json.loads(host.run("bridge", "-json", "vlan", "show"))
    return {
        names.get(link["ifname"], link["ifname"]): {
            vlan["vlan"]: ", ".join(vlan.get("flags", [])) for vlan in link["vlans"]
        }
        for link in told
    }


def ports(host: Namespace, bridge: str = "cni0") -> list[str]:
    """The ports of a bridge."""
    return sorted(link["ifname"] for link in host.ip_json(f"link show master {bridge}"))


def peer(host: Namespace, name: str) -> str:
    """The other end of a veth whose ends are both here."""
    return str(host.link(name)["link"])


def filters(host: Namespace, bridge: str = "cni0") -> bool:
    """Whether the bridge keeps VLANs apart."""
    return bool(host.link(bridge)["linkinfo"]["info_data"]["vlan_filtering"])


def add_tagged(sandbox: Namespace, vid: int, address: str) -> None:
    """Give the sandbox an interface of its own for one VLAN, as what runs in it would."""
    sandbox.ip(f"link add link eth0 name eth0.{vid} type vlan id {vid}")
    sandbox.ip(f"addr add {address} dev eth0.{vid}")
    sandbox.ip(f"link set eth0.{vid} up")


def attach(runtime: Runtime, **keys: Any) -> str:
    """Attach a sandbox without addresses; return the name of its port."""
    return runtime.add(runtime.conf(**keys)).interfaces[1].name


class Wire:
    """The frames of one sandbox's eth0."""

    def __init__(self, sandbox: Namespace) -> None:
        self.socket = netns.run_inside(sandbox.path, _packet_socket)

    def send(self, text: str, tag: int = 0) -> None:
        """Send a frame to everybody, with a tag unless that is 0."""
        own = self.socket.getsockname()[4]
        tagged = struct.pack("!HH", DOT1Q, tag) if tag else b""
        frame = b"\xff" * 6 + own + tagged + struct.pack("!H", ETHERTYPE) + text.encode().ljust(46, b"\0")
        self.socket.send(frame)

    def heard(self) -> list[tuple[str, int]]:
        """The frames that have come in since the last time, with the tag of each, 0 for none."""
        found = []
        while True:
            try:
                frame, extra, _, source = self.socket.recvmsg(2048, 256)
            except BlockingIOError:
                return found
            if source[2] != socket.PACKET_OUTGOING and source[1] == ETHERTYPE:
                found.append((frame[14:].rstrip(b"\0").decode(), _tag(extra)))


def _packet_socket() -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(ETH_P_ALL))
    made.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    made.bind(("eth0", ETH_P_ALL))
    return made


def _tag(extra: list[tuple[int, int, bytes]]) -> int:
    for level, kind, data in extra:
        if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
            status, *_, tci, _ = AUXDATA.unpack(data[: AUXDATA.size])
            return tci & 0xFFF if status & VLAN_VALID else 0
    return 0
