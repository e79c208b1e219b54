"""pyroute2's messages to bytes and back, without its machinery where that is plain: it takes five times as long.

pyroute2's classes say which attributes a message has, by which number and of which type. Numbers, texts and addresses,
and attributes inside of attributes, are written and read here; of all others the classes do it themselves.
"""

from __future__ import annotations

import functools
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any

ATTRIBUTE = struct.Struct("=HH")
"""Length and type, from <linux/netlink.h>."""
TYPE = 0x3FFF
"""What of the type is its number."""
BEGIN = 16
"""Where a message begins, after the header that all messages have."""

PADDING = "x"
FORMS = (*"BHIQbhiq", PADDING)
"""Of fields, as `struct` has them."""


class Special(Exception):
    """Something is pyroute2's to do."""


def _number(form: str) -> tuple[Callable[[Any], bytes], Callable[[bytes], Any]]:
    packed = struct.Struct("=" + form)
    return packed.pack, lambda data: packed.unpack_from(data)[0]


def _write_text(text: str) -> bytes:
    return text.encode() + b"\0"


def _read_text(data: bytes) -> str:
    try:
        return data.rstrip(b"\0").decode()
    except UnicodeDecodeError:
        raise Special from None


def _write_address(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def _read_address(data: bytes) -> str:
    if len(data) not in (4, 16):
        raise Special
    return socket.inet_ntop(socket.AF_INET if len(data) == 4 else socket.AF_INET6, data)


def _write_mac(text: str) -> bytes:
    return struct.pack("6B", *(int(octet, 16) for octet in text.split(":")))


def _read_mac(data: bytes) -> str:
    if len(data) != 6:
        raise Special
    return data.hex(":")


ADDRESS = _write_address, _read_address
PLAIN: Mapping[str, tuple[Callable[[Any], bytes], Callable[[bytes], Any]]] = {
    "uint8": _number("B"),
    "uint16": _number("H"),
    "uint32": _number("I"),
    "uint64": _number("Q"),
    "int32": _number("i"),
    "asciiz": (_write_text, _read_text),
    "ipaddr": ADDRESS,
    "target": ADDRESS,
    "l2addr": (_write_mac, _read_mac),
}
"""How values are written and read, by what pyroute2 calls their types."""


@dataclass(frozen=True)
class Layout:
    """What one of pyroute2's classes says: its fields, and number and type of each attribute by name."""

    head: struct.Struct
    fields: tuple[str, ...]
    attributes: Mapping[str, tuple[int, str]]
    flags: int
    """Of the attribute's type, where it is one."""


@functools.cache
def layout(kind: Any) -> Layout:
    """The layout of a class. Raises Special."""
    forms = [form for _, form in kind.fields]
    if not all(isinstance(form, str) and form in FORMS for form in forms):
        raise Special
    fields = tuple(name for name, form in kind.fields if form != PADDING)
    attributes = {}
    for number, entry in enumerate(kind.nla_map):
        told = entry if isinstance(entry[0], int) else (number, *entry)
        if len(told) == 3:  # more is flags
            attributes[told[1]] = (told[0], told[2])
    return Layout(struct.Struct("=" + "".join(forms)), fields, attributes, kind.nla_flags)


@dataclass
class Message:
    """A message to the kernel: one of pyroute2's classes, values of its fields, names and values of its attributes."""

    kind: Any
    fields: Mapping[str, int]
    attributes: list[tuple[str, Any]]

    @functools.cached_property
    def body(self) -> bytes:
        """All but the header."""
        try:
            return _written(self.kind, self.fields, self.attributes)
        except Special:
            return self._by_its_class()

    def _by_its_class(self) -> bytes:
        made = self.kind()
        made.update(self.fields)
        made["attrs"] = self.attributes
        made.data = bytearray()
        made.encode()
        return bytes(made.data[BEGIN:])


class Answer:
    """A message from the kernel: its fields by name, and where its attributes are."""

    def __init__(self, kind: Any, data: bytes, begin: int, end: int) -> None:
        self._kind, self._data, self._begin = kind, data, begin
        self._layout = layout(kind)
        values = self._layout.head.unpack_from(data, begin + BEGIN)
        self._fields = dict(zip(self._layout.fields, values, strict=True))
        self.attributes = Attributes(
            kind, data, begin + BEGIN + self._layout.head.size, min(end, len(data)), self._by_its_class
        )

    def __getitem__(self, field: str) -> Any:
        return self._fields[field]

    def get_attrs(self, name: str) -> list[Any]:
        """The values of all attributes of that name, as pyroute2 reads them."""
        values: list[Any] = _by_its_class(self._kind, self._data, self._begin).get_attrs(name)
        return values

    def _by_its_class(self) -> Attributes:
        return Slots(_by_its_class(self._kind, self._data, self._begin))


def read(kind: Any, data: bytes, begin: int, end: int) -> Any:
    """The message of the class `kind` that is there; pyroute2's own where it is special."""
    try:
        return Answer(kind, data, begin, end)
    except Special:
        return _by_its_class(kind, data, begin)


class Attributes:
    """The attributes of a message, or in one of them, by name; each is read when it is asked for."""

    def __init__(self, kind: Any, data: bytes, begin: int, end: int, special: Callable[[], Attributes]) -> None:
        self._kind, self._data, self._special = kind, data, special
        self._places = dict(_places(data, begin, end))

    @staticmethod
    def of(message: Any) -> Attributes:
        """Those of a message, whoever has read it."""
        return message.attributes if isinstance(message, Answer) else Slots(message)

    def get(self, name: str, default: Any = None) -> Any:
        """The value of the attribute, or `default` where the message has none of that name."""
        number, told = layout(self._kind).attributes.get(name, (-1, ""))
        place = self._places.get(number)
        if place is None:
            return default
        begin, end = place
        try:
            return self._value(told, begin, end)
        except Special:
            return self._special().get(name, default)

    def within(self, name: str) -> Attributes:
        """The attributes inside an attribute."""
        number, told = layout(self._kind).attributes.get(name, (-1, ""))
        begin, end = self._places.get(number, (0, 0))
        kind = getattr(self._kind, told, None)
        if isinstance(kind, type) and kind.nla_map and not kind.fields:  # type: ignore[attr-defined]
            return Attributes(kind, self._data, begin, end, lambda: self._special().within(name))
        return self._special().within(name) if number in self._places else Slots(())

    def _value(self, told: str, begin: int, end: int) -> Any:
        if told in PLAIN:
            return PLAIN[told][1](self._data[begin:end])
        kind = getattr(self._kind, told, None)
        if isinstance(kind, type) and not kind.nla_map:  # type: ignore[attr-defined]
            alone = kind(data=self._data, offset=begin - ATTRIBUTE.size, length=end - begin + ATTRIBUTE.size)
            alone.decode()
            return alone.value
        raise Special


class Slots(Attributes):
    """The same of a message that pyroute2 has read; a driver that it does not know has mere bytes, and none."""

    def __init__(self, message: Any) -> None:
        slots = message["attrs"] if hasattr(message, "keys") else ()
        self._slots = {slot.name: slot for slot in slots}

    def get(self, name: str, default: Any = None) -> Any:
        """The value of the attribute, or `default`."""
        slot = self._slots.get(name)
        return default if slot is None else slot.value

    def within(self, name: str) -> Attributes:
        """The attributes inside an attribute."""
        return Slots(self.get(name))


class _Parent:
    """What pyroute2's classes ask of the message around them, to tell what an attribute is in this one."""

    def __init__(self, kind: Any, attributes: list[tuple[str, Any]]) -> None:
        self._kind, self._attributes = kind, dict(attributes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kind, name)

    def get_attr(self, name: str) -> Any:
        return self._attributes.get(name)

    def __getitem__(self, field: str) -> Any:
        raise Special


def _by_its_class(kind: Any, data: bytes, begin: int) -> Any:
    message = kind(data, offset=begin)
    message.decode()
    return message


def _written(kind: Any, fields: Mapping[str, int], attributes: list[tuple[str, Any]]) -> bytes:
    """The fields of a message, and its attributes. Raises Special."""
    told = layout(kind)
    parts = [told.head.pack(*(fields.get(name, 0) for name in told.fields))]
    for name, value in attributes:
        number, content = _content(kind, told, attributes, name, value)
        parts.append(ATTRIBUTE.pack(ATTRIBUTE.size + len(content), number))
        parts.append(content + bytes(-len(content) & 3))
    return b"".join(parts)


def _content(kind: Any, told: Layout, attributes: list[tuple[str, Any]], name: str, value: Any) -> tuple[int, bytes]:
    """Type and value of an attribute. Raises Special."""
    number, what = told.attributes.get(name, (-1, ""))
    if what in PLAIN:
        return number, PLAIN[what][0](value)
    inner = getattr(kind, what, None)
    if isinstance(inner, FunctionType):
        inner = inner(_Parent(kind, attributes))
    if not isinstance(inner, type):
        raise Special
    inside = layout(inner)
    if isinstance(value, int) and inside.fields == ("value",):
        return number, inside.head.pack(value)
    if isinstance(value, dict) and set(value) == {"attrs"} and inside.attributes:
        return number | inside.flags, _written(inner, {}, value["attrs"])
    raise Special


def _places(data: bytes, begin: int, end: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """Where the value of each attribute is, by its number."""
    while begin + ATTRIBUTE.size <= end:
        length, kind = ATTRIBUTE.unpack_from(data, begin)
        length = max(length, ATTRIBUTE.size)
        yield kind & TYPE, (begin + ATTRIBUTE.size, min(begin + length, end))
        begin += length + 3 & ~3
