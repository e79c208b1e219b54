"""Descriptors that the programs executed for a call inherit besides their streams."""

from __future__ import annotations

from contextvars import ContextVar

descriptors: ContextVar[tuple[int, ...]] = ContextVar("descriptors", default=())
"""Of the call that is being served."""
