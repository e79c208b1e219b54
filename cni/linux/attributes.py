"""Attributes of netlink messages, written and read as bytes.

For nftables, whose rules have dozens of them: to import pyroute2's classes for it takes a tenth of a second, and to
write one rule by them 3 ms (docs/performance.md).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

HEADER = struct.Struct("=HH")
"""Length, with this header, and type."""
TYPE = 0x3FFF
"""What of the second is the type; the rest are flags."""

Value = int | str | bytes


def attribute(kind: int, value: Value) -> bytes:
    """An attribute."""
    inside = content(value)
    return HEADER.pack(HEADER.size + len(inside), kind) + inside + bytes(-len(inside) % 4)


def content(value: Value) -> bytes:
    """What the attribute has inside; of a number 32 bits, as netfilter writes them."""
    if isinstance(value, int):
        return struct.pack(">i", value)
    return encoded(value) + b"\0" if isinstance(value, str) else value


def encoded(value: str) -> bytes:
    """Text as the kernel has it; a name of ours may hold bytes that are no UTF-8."""
    return value.encode(errors="surrogateescape")


def joined(*attributes: tuple[int, Value]) -> bytes:
    """Attributes one after another: what a message, or an attribute, has inside."""
    return b"".join(attribute(kind, value) for kind, value in attributes)


def read(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and content of each attribute."""
    offset = 0
    while offset + HEADER.size <= len(data):
        length, kind = HEADER.unpack_from(data, offset)
        yield kind & TYPE, data[offset + HEADER.size : offset + length]
        offset += max(length + 3 & ~3, HEADER.size)


def text(inside: bytes) -> str:
    """The content of an attribute that is text."""
    return inside.partition(b"\0")[0].decode(errors="surrogateescape")
