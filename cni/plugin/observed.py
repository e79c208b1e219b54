"""Who is told what calls do, as they do it: the daemon's metrics, or nobody."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Protocol

from cni.spec.errors import CNIError


class Observer(Protocol):
    """Hears of all calls of this process, from their threads."""

    def step(self, phase: str, network: str, outcome: str, seconds: float) -> None:
        """A part of a call has ended, for one network or for all (""): "ok", or with an error of this code."""

    def pool(self, network: str, directory: str, capacity: Mapping[int, int]) -> None:
        """A network keeps its leases in `directory`, and can give away so many addresses of each IP version."""


observer: Observer | None = None
"""Set by who serves many calls."""


@contextlib.contextmanager
def phase(name: str, network: str = "") -> Iterator[None]:
    """Have the block known as a part of a call."""
    if observer is None:
        yield
        return
    begun = time.monotonic()
    outcome = "failed"
    try:
        yield
        outcome = "ok"
    except CNIError as error:
        outcome = str(error.code)
        raise
    finally:
        observer.step(name, network, outcome, time.monotonic() - begun)


def pool(network: str, directory: str, capacity: Mapping[int, int]) -> None:
    """Have known where a network's leases are, and how many there can be."""
    if observer is not None:
        observer.pool(network, directory, capacity)
