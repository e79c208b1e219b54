"""Threads that do one thing, and what a thread may have of its own."""

from __future__ import annotations

import _thread
import contextvars
import ctypes
import os
from collections.abc import Callable

from cni.spec.errors import CNIError

CLONE_FS = 0x00000200
PATIENCE = 10.0
"""Seconds until a thread is asked for whether it has begun."""


def begin(work: Callable[[], None]) -> Callable[[], bool]:
    """Have a thread do `work`, which raises nothing; return what waits for its end, and says whether it was done.

    It was not where there is no thread to be had, or no memory for it: then it dies before it does anything, and nobody
    is told. threading.Thread waits for that for ever, and in any case twice.
    """
    begun, ended = _thread.allocate_lock(), _thread.allocate_lock()
    ended.acquire()

    def run() -> None:
        if begun.acquire(blocking=False):
            try:
                work()
            finally:
                ended.release()

    def wait() -> bool:
        if ended.acquire(timeout=PATIENCE):
            return True
        if begun.acquire(blocking=False):
            return False  # and it will not be done any more
        ended.acquire()
        return True

    try:
        _thread.start_new_thread(contextvars.copy_context().run, (run,))  # the call that is served stays the same
    except RuntimeError:
        return lambda: False
    return wait


def own_directory() -> None:
    """Give the calling thread, and those it starts, a working directory and a umask of their own. Raises CNIError."""
    # os.unshare is new in Python 3.12
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_FS) != 0:
        raise CNIError("could not give a thread its own working directory", os.strerror(ctypes.get_errno()))
