"""Whether plugins are being executed for an attachment, by somebody who lives or who was killed over it.

What is executed outlives a caller that is killed, and goes on making what the runtime's DEL, which comes at once, is to
undo. So for each attachment whoever executes plugins locks a byte of a file, by an open file that they inherit: the
lock (F_OFD_SETLK) is theirs, too, and ends with the last of them. A caller that comes to its end unlocks it itself,
whatever a plugin has left running.
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

from cni.linux import inherited
from cni.plugin import deadline
from cni.spec.errors import TryAgainLater

NAME = "executing.lock"
"""Of the file, in a directory of state; it is empty, and stays."""
PATIENCE = 20.0
"""Seconds to wait for plugins that another call has executed; less where the call has less left."""
POLL = 0.02
FLOCK = struct.Struct("@hhqqi4x")
"""`struct flock` of 64 bits: type, whence, start, length, process."""
HELD = (errno.EAGAIN, errno.EACCES)


@contextlib.contextmanager
def alone(directory: str, container_id: str, ifname: str) -> Iterator[None]:
    """Be the only one who executes plugins for the attachment, as are those whom the block executes.

    Where there can be no lock, nobody has one. Raises TryAgainLater when others do not come to their end.
    """
    path = os.path.join(directory, NAME)
    descriptor = _find(path)
    if descriptor is None:
        yield
        return
    place = _place(container_id, ifname)
    try:
        _wait(descriptor, place, path)
        with inherited.besides(descriptor):
            yield
    finally:
        _lock(descriptor, fcntl.F_UNLCK, place)
        os.close(descriptor)


def _find(path: str) -> int | None:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError:
        return None


def _wait(descriptor: int, place: int, path: str) -> None:
    seconds = deadline.for_plugin("DEL", PATIENCE)
    end = time.monotonic() + seconds
    while not _lock(descriptor, fcntl.F_WRLCK, place):
        if time.monotonic() > end:
            raise TryAgainLater(
                "could not call its plugins",
                f"those that an earlier call has executed are still running after {seconds:.0f} seconds:"
                f" `fuser {path}` names all such, of whatever container; end them if they hang",
                id="PLX-PLUGIN-RUNNING",
            )
        time.sleep(POLL)


def _lock(descriptor: int, how: int, place: int) -> bool:
    """Whether it could be done, or can never be on this file system."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, FLOCK.pack(how, os.SEEK_SET, place, 1, 0))
    except OSError as error:
        return error.errno not in HELD
    return True


def _place(container_id: str, ifname: str) -> int:
    """The byte of an attachment; two that share one would wait for each other."""
    digest = hashlib.sha256(f"{container_id}@{ifname}".encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:7], "big")
