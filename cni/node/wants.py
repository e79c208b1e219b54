"""Failures for want of something that each process has for itself: memory, descriptors, threads.

The daemon serves many calls with what it has; a launcher that works alone has all of its own.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

from cni.spec.errors import DeleteIncomplete, Exhausted

NUMBERS = (errno.EMFILE, errno.ENOMEM)
NO_THREAD = "can't start new thread"
"""Python's own words, of a RuntimeError that has nothing else to tell it by."""


def is_ours(error: BaseException) -> bool:
    """Whether the failure, or what it came from, is that this process has no more of something."""
    return any(_is_want(cause) for cause in _causes(error, set()))


def _is_want(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in NUMBERS
    return isinstance(error, MemoryError | Exhausted) or (isinstance(error, RuntimeError) and str(error) == NO_THREAD)


def _causes(error: BaseException | None, seen: set[int]) -> Iterator[BaseException]:
    """The error, and whatever led to it."""
    if error is None or id(error) in seen:
        return
    seen.add(id(error))
    yield error
    several = error.failures if isinstance(error, DeleteIncomplete) else ()
    for cause in (error.__cause__, error.__context__, *several):
        yield from _causes(cause, seen)
