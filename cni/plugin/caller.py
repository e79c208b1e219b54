"""Whether who called us still waits for the answer.

A runtime that is killed leaves its calls at work, and the one after it has their containers deleted at once. An ADD
that only then comes to its first change would make what has been deleted, and what nobody knows of.
"""

from __future__ import annotations

import contextlib
import select
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from cni.spec.errors import TryAgainLater

is_gone: ContextVar[Callable[[], bool]] = ContextVar("is_gone", default=lambda: False)
"""For the call that is being served."""


@contextlib.contextmanager
def reading(descriptor: int) -> Iterator[None]:
    """Have the block's caller be who reads from this descriptor: a pipe, where it is a runtime."""
    polled = select.poll()
    polled.register(descriptor, 0)  # the kernel tells of an end whatever is asked for
    token = is_gone.set(lambda: bool(polled.poll(0)))
    try:
        yield
    finally:
        is_gone.reset(token)


def check() -> None:
    """Raise TryAgainLater where nobody waits any more; an event of the pod tells of it, and the log."""
    if is_gone.get()():
        raise TryAgainLater(
            "could not begin", "the runtime that called has ended, and nobody waits for a result", id="PLX-CALLER-GONE"
        )
