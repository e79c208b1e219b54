"""The socket that launchers connect to: systemd's, or our own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterator, Mapping

from cni.node import systemd
from cni.plugin import files
from cni.spec.errors import InvalidConfiguration

BACKLOG = 4096
PATIENCE = 3.0
PAUSE = 0.02
"""Seconds for another daemon to end, and between looks whether it has."""
LONGEST = 107
"""Bytes of a socket's path, from <linux/un.h>."""


@contextlib.contextmanager
def opened(path: str, environ: Mapping[str, str]) -> Iterator[list[socket.socket]]:
    """Listen for the block, at `path` unless systemd does it for us. Raises InvalidConfiguration, IOFailure."""
    handed = systemd.sockets(environ)
    if handed:
        yield handed
        for connection in handed:
            connection.close()
        return
    with _alone(path), _bound(path) as listening:
        yield [listening]


@contextlib.contextmanager
def _alone(path: str) -> Iterator[None]:
    """Keep other daemons from listening there."""
    if len(os.fsencode(path)) > LONGEST:
        reason = f"a socket's path has {LONGEST} bytes at most"
        raise InvalidConfiguration(f'could not listen at "{path}"', reason, id="PLX-DAEMON-SOCKET")
    files.ensure_directory(os.path.dirname(path), 0o700)
    lock = _lock(path)
    try:
        yield
    finally:
        files.remove(f"{path}.lock")
        os.close(lock)


def _lock(path: str) -> int:
    """Take the lock, which one that was killed may keep until the kernel has done what its threads asked for."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        lock = files.change(f'lock "{path}"', os.open, f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _inode(f"{path}.lock") == os.fstat(lock).st_ino:  # else its holder has just removed it
                return lock
        os.close(lock)
        time.sleep(PAUSE)
    raise InvalidConfiguration(f'could not listen at "{path}"', "another daemon does", id="PLX-DAEMON-RUNNING")


@contextlib.contextmanager
def _bound(path: str) -> Iterator[socket.socket]:
    """Have the socket, for root only; it takes the place of what a daemon that was killed has left."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        files.remove(path)
        files.change(f'listen at "{path}"', listening.bind, path)
        os.chmod(path, 0o600)
        listening.listen(BACKLOG)
        ours = os.stat(path).st_ino
        try:
            yield listening
        finally:
            if _inode(path) == ours:
                files.remove(path)


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0
