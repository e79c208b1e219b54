"""Who works on a file of state: many may hold it at once, one may claim it alone; both end with their process.

It is flock(2) of the file itself, so that there is nothing more to keep, and only for as long as the file is the one
of that name: whoever writes it anew or removes it does so at the end of what it does.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator

from cni.plugin import files
from cni.spec.errors import IOFailure, TryAgainLater

PATIENCE = 60.0
"""Seconds to wait for who has claimed the file."""
POLL = 0.02
NO_FILE = (errno.ELOOP, errno.ENXIO, errno.ENODEV)
"""What the kernel says of links in a circle, sockets and devices that are not there."""
NONE = -1
"""Instead of a descriptor, where there is no file."""


@contextlib.contextmanager
def held(path: str) -> Iterator[None]:
    """Keep out who would claim the file; where there is none, nobody does. Raises TryAgainLater, IOFailure."""
    end = time.monotonic() + PATIENCE
    while (descriptor := _locked(path, fcntl.LOCK_SH)) is None:
        if time.monotonic() > end:
            raise TryAgainLater(
                f'could not use "{path}"',
                f"another process has been cleaning up by it for {PATIENCE:.0f} seconds: `fuser {path}` names it",
                id="PLX-LEDGER-BUSY",
            )
        time.sleep(POLL)
    with _closed(descriptor):
        yield


@contextlib.contextmanager
def claimed(path: str) -> Iterator[bool]:
    """Be alone with the file; whether there is one, and nobody holds it. Raises IOFailure."""
    descriptor = _locked(path, fcntl.LOCK_EX)
    with _closed(descriptor):
        yield descriptor not in (None, NONE)


def _locked(path: str, how: int) -> int | None:
    """A descriptor of the file that is locked; NONE where there is no file, None when somebody else has it."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return NONE
        except OSError as error:
            if error.errno in NO_FILE:
                return NONE
            raise IOFailure(f'could not read "{path}"', files.reason(error), id="PLX-IO") from error
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:
            pass  # it was removed meanwhile, as the next look tells
        os.close(descriptor)


@contextlib.contextmanager
def _closed(descriptor: int | None) -> Iterator[None]:
    try:
        yield
    finally:
        if descriptor is not None and descriptor != NONE:
            os.close(descriptor)
