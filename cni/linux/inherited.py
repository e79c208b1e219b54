"""Descriptors that the programs executed for a call inherit besides their streams."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

descriptors: ContextVar[tuple[int, ...]] = ContextVar("descriptors", default=())
"""Of the call that is being served."""


@contextlib.contextmanager
def besides(descriptor: int) -> Iterator[None]:
    """Have those that the block executes inherit one more."""
    token = descriptors.set((*descriptors.get(), descriptor))
    try:
        yield
    finally:
        descriptors.reset(token)
