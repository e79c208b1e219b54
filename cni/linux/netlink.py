"""Sockets to the kernel for pyroute2's messages: a request is sent, and what the kernel answers is read at once.

pyroute2's own sockets run an event loop for each request, which takes fifty times as long as the kernel does
(docs/performance.md). Nothing here knows what a message means.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from cni.linux import wire
from cni.linux.wire import Message

ROUTE = 0
NETFILTER = 12
"""Families of netlink, from <linux/netlink.h>, as is what follows."""

REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
EXCL, CREATE, APPEND = 0x200, 0x400, 0x800
"""Flags of a request."""
DUMP_INTERRUPTED = 0x10
"""Flag of an answer."""
ERROR, DONE = 2, 3
"""Types of messages that are no answer, but the end of it."""
SOL_NETLINK = 270
GET_STRICT_CHECK = 12
HEADER = struct.Struct("=IHHII")
"""Length, type, flags, sequence number, sender."""
STATUS = struct.Struct("=i")
NFGEN = struct.Struct(">BBH")
"""Of netfilter: family, version, and in the bounds of a batch the subsystem."""
BATCH_BEGIN, BATCH_END = 0x10, 0x11
SO_SNDBUFFORCE = 32
DUMP_TRIES = 10
LARGEST = 65536
"""More than the kernel puts into one answer."""


class Interrupted(Exception):
    """What was listed has changed meanwhile."""


class Refused(OSError):
    """Of a batch nothing was done; `position` is that of the first change which the kernel refused, or -1."""

    def __init__(self, number: int, position: int) -> None:
        super().__init__(number, os.strerror(number))
        self.position = position


class Socket:
    """A socket in the namespace that the calling thread is in; one thread uses it, in a `with` block.

    Every method raises OSError, with the kernel's errno.
    """

    def __init__(self, family: int = ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family)
        self._socket.bind((0, 0))
        self._sequence = 0
        with contextlib.suppress(OSError):  # old kernels list more than was asked for
            self._socket.setsockopt(SOL_NETLINK, GET_STRICT_CHECK, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Have no socket any more."""
        self._socket.close()

    def fileno(self) -> int:
        """The descriptor."""
        return self._socket.fileno()

    def ask(self, kind: int, message: Message, flags: int = 0) -> list[Any]:
        """Send a request of the type `kind`; what the kernel answers, which for a change is nothing."""
        return _read(message, self.ask_raw(kind, message.body, flags))

    def dump(self, kind: int, message: Message, *, about: bytes = b"") -> list[Any]:
        """Ask for a list of things, of which only those whose description has `about` in it are looked at.

        Asked again where something changed while it was told: an answer may then lack what was there all the time.
        """
        return _read(message, self.dump_raw(kind, message.body, about=about))

    def ask_raw(self, kind: int, body: bytes, flags: int = 0) -> list[bytes]:
        """Do as `ask`, with messages as bytes: what is sent without its header, answers with theirs."""
        self._send(kind, body, REQUEST | ACK | flags)
        return list(self._answers())

    def dump_raw(self, kind: int, body: bytes, *, about: bytes = b"") -> list[bytes]:
        """Do as `dump`, with messages as bytes."""
        for _ in range(DUMP_TRIES):
            self._send(kind, body, REQUEST | DUMP)
            with contextlib.suppress(Interrupted):
                return list(self._answers(about))
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def change_all(self, subsystem: int, changes: Sequence[tuple[int, int, bytes]]) -> None:
        """Have a subsystem of netfilter make all of the changes, each a type, flags and a body, or none of them.

        Raises Refused.
        """
        bound = NFGEN.pack(0, 0, subsystem)
        first = self._sequence + 2
        batch = [(BATCH_BEGIN, 0, bound), *changes, (BATCH_END, 0, bound)]
        data = b"".join(self._packed(kind, body, REQUEST | flags) for kind, flags, body in batch)
        if len(data) > LARGEST:  # less can always be sent
            self._socket.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 2 * len(data))
        self._socket.send(data)
        refusals = [(sequence - first, status) for sequence, status in self._told() if status and sequence >= first - 1]
        if refusals:
            position, status = refusals[0]
            raise Refused(-status, position)

    def _told(self) -> Iterator[tuple[int, int]]:
        """Sequence number and status of what the kernel has answered; it has when sending returns, and to refuse."""
        with contextlib.suppress(BlockingIOError):
            while True:
                data = self._socket.recv(LARGEST, socket.MSG_DONTWAIT)
                for offset, _, kind, _, sequence in _messages(data):
                    if kind == ERROR:
                        yield sequence, STATUS.unpack_from(data, offset + HEADER.size)[0]

    def _send(self, kind: int, body: bytes, flags: int) -> None:
        self._socket.send(self._packed(kind, body, flags))

    def _packed(self, kind: int, body: bytes, flags: int) -> bytes:
        self._sequence += 1
        return HEADER.pack(HEADER.size + len(body), kind, flags, self._sequence, 0) + body

    def _answers(self, about: bytes = b"") -> Iterator[bytes]:
        """The answers to the last request, to the end of them."""
        interrupted = False
        while True:
            data, _, flags, _ = self._socket.recvmsg(LARGEST)
            if flags & socket.MSG_TRUNC:
                raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
            for offset, end, kind, flags, sequence in _messages(data):
                if sequence != self._sequence:  # left of another request
                    continue
                interrupted |= bool(flags & DUMP_INTERRUPTED)
                if kind in (ERROR, DONE):
                    _raise_for(data, offset)
                    if interrupted:
                        raise Interrupted
                    return
                if data.find(about, offset, end) >= 0:
                    yield data[offset:end]


def message(kind: type, *attributes: tuple[str, Any], **fields: int) -> Message:
    """A message of one of pyroute2's classes."""
    return Message(kind, fields, list(attributes))


def nested(*attributes: tuple[str, Any]) -> dict[str, Any]:
    """The value of an attribute that has attributes inside."""
    return {"attrs": list(attributes)}


def _read(message: Message, answers: list[bytes]) -> list[Any]:
    """Answers as messages of the same class as the request."""
    return [wire.read(message.kind, data, 0, len(data)) for data in answers]


def _messages(data: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """Begin, end, type, flags and sequence number of each message."""
    offset = 0
    while offset + HEADER.size <= len(data):
        length, kind, flags, sequence, _ = HEADER.unpack_from(data, offset)
        yield offset, offset + length, kind, flags, sequence
        offset += max(length + 3 & ~3, HEADER.size)


def _raise_for(data: bytes, offset: int) -> None:
    """Raise what the end of an answer says; that of a list may say nothing."""
    if offset + HEADER.size + STATUS.size <= len(data):
        (status,) = STATUS.unpack_from(data, offset + HEADER.size)
        if status < 0:
            raise OSError(-status, os.strerror(-status))
