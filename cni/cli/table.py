"""Columns for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def lines(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A heading, and the rows below it, in columns; an empty cell is a dash."""
    every = [headings, *([cell or "-" for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in every) for column in range(len(headings))]
    padded = ([cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in every)
    return ["  ".join(line).rstrip() for line in padded]
