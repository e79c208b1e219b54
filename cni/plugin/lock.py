"""Locks of names, as many as are wanted, in one file of a directory: each is a byte, which a hash of the name tells.

Such a lock (F_OFD_SETLK) is the open file's: it keeps out other threads too, whoever inherits the descriptor shares it,
and it ends with the last of them, however they end. The file is empty, and stays.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import struct
import time
from collections.abc import Iterator

NAME = "executing.lock"
POLL = 0.02
FLOCK = struct.Struct("@hhqqi4x")
"""`struct flock` of 64 bits: type, whence, start, length, process."""
HELD = (errno.EAGAIN, errno.EACCES)


class Lock:
    """The lock of one name; where there can be no locks, everybody gets it."""

    def __init__(self, descriptor: int | None, name: str) -> None:
        self.descriptor = descriptor
        """Of the open file; None where there is none."""

        self._place = _place(name)

    def take(self) -> bool:
        """Whether it is ours from now on."""
        return self.descriptor is None or self._do(fcntl.F_WRLCK)

    def wait(self, seconds: float) -> bool:
        """Take it as soon as it is free; whether it was, within so many seconds."""
        end = time.monotonic() + seconds
        while not self.take():
            if time.monotonic() > end:
                return False
            time.sleep(POLL)
        return True

    def release(self) -> None:
        """Give it back, for all who share the open file."""
        if self.descriptor is not None:
            self._do(fcntl.F_UNLCK)

    def _do(self, how: int) -> bool:
        """Whether it could be done, or can never be on this file system."""
        words = FLOCK.pack(how, os.SEEK_SET, self._place, 1, 0)
        try:
            fcntl.fcntl(self.descriptor or 0, fcntl.F_OFD_SETLK, words)
        except OSError as error:
            return error.errno not in HELD
        return True


@contextlib.contextmanager
def of(directory: str, name: str) -> Iterator[Lock]:
    """The lock of a name for the block, which may take it, and has given it back at its end."""
    descriptor = _find(os.path.join(directory, NAME))
    lock = Lock(descriptor, name)
    try:
        yield lock
    finally:
        if descriptor is not None:
            lock.release()
            os.close(descriptor)


def _find(path: str) -> int | None:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError:
        return None


def _place(name: str) -> int:
    """The byte of a name; two that share one would wait for each other."""
    digest = hashlib.sha256(name.encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:7], "big")
