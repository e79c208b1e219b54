"""Who works on a container: one call at a time, the runtime's or of who cleans up.

A runtime never calls twice for a container at the same time (section 2, "Lifecycle & Ordering"), but one that is killed
leaves its calls at work, and the one that follows it knows nothing of them: its DEL would undo what an ADD is only
about to make, and forget it. Those who are executed do not inherit this lock, see `underway`: it ends with our process.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator

from cni.plugin import deadline, lock
from cni.spec.errors import TryAgainLater

log = logging.getLogger(__name__)

PATIENCE = 60.0
"""Seconds to wait for another call; less where ours has less left."""


@contextlib.contextmanager
def held(directory: str, name: str, *, despite_others: bool = False) -> Iterator[None]:
    """Be the only one who works on what has this name.

    When another does not come to its end, the block goes on `despite_others`, or TryAgainLater is raised.
    """
    seconds = deadline.for_plugin("DEL", PATIENCE)
    with lock.of(directory, name) as ours:
        if not ours.wait(seconds):
            busy = _busy(seconds, os.path.join(directory, lock.NAME))
            if not despite_others:
                raise busy
            log.warning("going on all the same: %s", busy)
        yield


def _busy(seconds: float, path: str) -> TryAgainLater:
    return TryAgainLater(
        "could not begin",
        f"another call for the same container, or who cleans up after it, is still at work after {seconds:.0f} seconds:"
        f" `fuser {path}` names all such, of whatever container",
        id="PLX-LEDGER-BUSY",
    )


@contextlib.contextmanager
def claimed(directory: str, name: str) -> Iterator[bool]:
    """Be the only one, where nobody is at work now; whether that is so."""
    with lock.of(directory, name) as ours:
        yield ours.take()
