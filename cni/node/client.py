"""The daemon's half of its talk with a launcher; the other half, and what both agree on, is in `launcher`."""

from __future__ import annotations

import os
import socket
import struct
import time
from dataclasses import dataclass

from cni.node.launcher import ANSWER, BUSY, MAGIC, NAMESPACES, ROOT, WAIT

HEAD = len(MAGIC) + 4
LONGEST = 64 << 20
"""Bytes of a request; the longest are GC's, which name every attachment of the node."""
PART = 65536
PATIENCE = 5
"""Seconds for a launcher to take or to give what it has ready."""


class Declined(Exception):
    """We do not serve this launcher, which therefore works alone."""


class Withdrawn(Exception):
    """It asks for nothing: it was killed, or only wanted to know whether we live."""


@dataclass(frozen=True)
class Errand:
    """All that makes the launcher's process another than ours."""

    code: str
    """The file that its code is in: another installation, or version, has another."""

    place: str
    """Its namespaces and root directory."""

    directory: str
    umask: int
    name: str
    """The plugin that it is to be."""

    environ: dict[str, str]
    stdin: bytes

    @property
    def command(self) -> str:
        """The protocol's verb."""
        return self.environ.get("CNI_COMMAND", "")

    @property
    def attachment(self) -> tuple[str, str]:
        """Container ID and ifname, empty for verbs that concern none."""
        return self.environ.get("CNI_CONTAINERID", ""), self.environ.get("CNI_IFNAME", "")


class Client:
    """A launcher that waits for us."""

    def __init__(self, connection: socket.socket) -> None:
        # Not Python's own time-outs, which would hold for `reassure` too.
        for direction in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            connection.setsockopt(socket.SOL_SOCKET, direction, struct.pack("ll", PATIENCE, 0))
        self.connection = connection
        self.came_at = time.monotonic()
        self.token = -1

    def is_roots(self) -> bool:
        """Whether root is at the other end."""
        credentials = self.connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return bool(struct.unpack("3i", credentials)[1] == ROOT)

    def reassure(self) -> None:
        """Say that we live, unless it has more than enough of that to read, or is gone."""
        self._say(WAIT)

    def refuse(self) -> None:
        """Say that we have too much to do."""
        self._say(BUSY)

    def receive(self) -> Errand:
        """Read the request. Raises Declined, Withdrawn, OSError."""
        try:
            received, descriptors, _, _ = socket.recv_fds(self.connection, PART, 1)
        except ConnectionResetError as error:
            raise Withdrawn from error  # it has not even read that we live
        self.token = descriptors[0] if descriptors else -1  # ours to close, whoever it is from
        if not received:
            raise Withdrawn
        if not descriptors or not received.startswith(MAGIC) or len(received) < HEAD:
            raise Declined("it speaks another protocol")
        size = int.from_bytes(received[len(MAGIC) : HEAD], "big")
        if size > LONGEST:
            raise Declined(f"its request has {size} bytes")
        return _parse(self._read(bytearray(received[HEAD:]), size))

    def begin(self) -> bool:
        """Whether the request is ours to serve: the launcher is there, and has not begun by itself."""
        try:
            return bool(os.read(self.token, 1)) and not self.is_gone()
        except BlockingIOError:
            return False

    def is_gone(self) -> bool:
        """Whether the launcher has ended, or does not wait for us any more."""
        try:
            return not self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def answer(self, status: int, stdout: bytes, stderr: bytes) -> bool:
        """Whether the answer could be given."""
        lengths = len(stdout).to_bytes(4, "big") + len(stderr).to_bytes(4, "big")
        try:
            self.connection.sendall(ANSWER + bytes([status]) + lengths + stdout + stderr)
            return True
        except OSError:
            return False

    def close(self) -> None:
        """Let it go; without an answer, it works alone."""
        self.connection.close()
        if self.token >= 0:
            os.close(self.token)
            self.token = -1

    def _say(self, word: bytes) -> None:
        try:
            self.connection.send(word, socket.MSG_DONTWAIT)
        except OSError:
            return

    def _read(self, body: bytearray, size: int) -> bytes:
        while len(body) < size:
            part = self.connection.recv(min(PART, size - len(body)))
            if not part:
                raise Declined("its request is cut short")
            body += part
        return bytes(body)


def own_place() -> str:
    """Where we are, as a launcher would say it."""
    found = map(os.stat, NAMESPACES)
    return " ".join(f"{status.st_dev}:{status.st_ino}" for status in found)


def _parse(body: bytes) -> Errand:
    try:
        code, place, directory, umask, name, variables, stdin = _parts(body)
        pairs = (os.fsdecode(variable).partition("=") for variable in variables.split(b"\0") if variable)
        return Errand(
            code=os.fsdecode(code),
            place=place.decode(),
            directory=os.fsdecode(directory),
            umask=int(umask),
            name=name.decode(),
            environ={name: value for name, _, value in pairs},
            stdin=stdin,
        )
    except ValueError as error:
        raise Declined("its request makes no sense") from error


def _parts(body: bytes) -> list[bytes]:
    parts = []
    while body:
        end = 4 + int.from_bytes(body[:4], "big")
        parts.append(body[4:end])
        body = body[end:]
    return parts
