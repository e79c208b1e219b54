"""Ethernet frames as nobody's IP stack would send them, and what arrives of them."""

import contextlib
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from machine import Namespace

from cni.linux import netns

EXPERIMENTAL = 0x88B5
"""An EtherType for local experiments: no kernel answers to it."""
VLAN = 0x8100
EVERYBODY = "ff:ff:ff:ff:ff:ff"
LAST = b"the last frame"


@dataclass(frozen=True)
class Frame:
    """A frame to everybody."""

    source: str
    text: bytes
    tagged: bool = False

    def encode(self) -> bytes:
        tag = VLAN.to_bytes(2, "big") + (7).to_bytes(2, "big") if self.tagged else b""
        head = _octets(EVERYBODY) + _octets(self.source) + tag + EXPERIMENTAL.to_bytes(2, "big")
        return head + self.text.ljust(60, b"\0")


def send(there: Namespace, link: str, frames: Iterable[Frame]) -> None:
    """Send the frames from the link."""
    with contextlib.closing(_open(there, link)) as wire:
        for frame in frames:
            wire.send(frame.encode())


class Listener:
    """What a link gets."""

    def __init__(self, wire: socket.socket) -> None:
        self.wire = wire

    def heard(self) -> list[bytes]:
        """The texts of the frames before the last, which must come: what has not come by then never will."""
        texts: list[bytes] = []
        deadline = time.monotonic() + 5
        while LAST not in texts:
            self.wire.settimeout(max(deadline - time.monotonic(), 0.001))
            frame = self.wire.recv(2000)
            if EXPERIMENTAL.to_bytes(2, "big") in (frame[12:14], frame[16:18]):
                texts.append(frame[18 if frame[12:14] == VLAN.to_bytes(2, "big") else 14 :].rstrip(b"\0"))
        return texts[:-1]


@contextlib.contextmanager
def listening(there: Namespace, link: str) -> Iterator[Listener]:
    """Listen on the link within the block."""
    with contextlib.closing(_open(there, link)) as wire:
        yield Listener(wire)


def _open(there: Namespace, link: str) -> socket.socket:
    def opened() -> socket.socket:
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
        wire.bind((link, 0))
        return wire

    return netns.run_inside(there.path, opened)


def _octets(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))
