"""How long a call of the runtime may take, and so how long each plugin that is executed for it.

A runtime that loses its patience kills us, in the middle of whatever we do: what hangs must be given up before, and
early enough that what was made can be undone, by plugins that may hang too.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, replace

TO_ADD, TO_UNDO = 120.0, 60.0
"""Seconds of an ADD: to attach, and then to undo that. The kubelet waits for 240, a line at the daemon included."""
CALLS = {"ADD": TO_ADD + TO_UNDO, "GC": 90.0}
OTHERS = 50.0
"""Seconds of a DEL, CHECK or STATUS: containerd gives the DEL after an ADD that failed a minute."""
LEAST = 1.0
"""Seconds that a plugin gets although the time is over, so that everything is tried."""


@dataclass(frozen=True)
class _Deadline:
    end: float
    """By the monotonic clock."""

    to_undo: float = 0.0
    """Seconds before the end that are for undoing only."""


_current: ContextVar[_Deadline | None] = ContextVar("deadline", default=None)


@contextlib.contextmanager
def of_call(command: str) -> Iterator[None]:
    """Have the block be a call of the runtime; a call within another one has its time."""
    if _current.get() is not None:
        yield
        return
    end = time.monotonic() + CALLS.get(command, OTHERS)
    with _being(_Deadline(end, TO_UNDO if command == "ADD" else 0.0)):
        yield


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Have the block take so many seconds at most, or what is left of the call, if that is less."""
    end, now = time.monotonic() + seconds, _current.get()
    with _being(_Deadline(end) if now is None else replace(now, end=min(end, now.end - now.to_undo), to_undo=0.0)):
        yield


def for_plugin(command: str, most: float) -> float:
    """The seconds that an executed plugin gets now: at `most` so many; what undoes leaves half for what comes next."""
    now = _current.get()
    if now is None:
        return most
    left = now.end - time.monotonic()
    left = left / 2 if command in ("DEL", "GC") else left - now.to_undo
    return max(LEAST, min(most, left))


def is_over() -> bool:
    """Whether the time of the call is over."""
    now = _current.get()
    return now is not None and time.monotonic() >= now.end


@contextlib.contextmanager
def _being(deadline: _Deadline) -> Iterator[None]:
    token = _current.set(deadline)
    try:
        yield
    finally:
        _current.reset(token)
