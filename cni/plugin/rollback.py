"""Undo beside do: what ADD pushes as it goes, and how DEL tries everything."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator
from typing import ParamSpec

from cni.spec.errors import CNIError, DeleteIncomplete

P = ParamSpec("P")
log = logging.getLogger(__name__)


class Rollback(contextlib.ExitStack):
    """Steps to undo, newest first, unless `commit` is reached."""

    def on_failure(self, undo: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Call `undo` if the block fails; a failure of its own is logged, and the rest is undone all the same."""
        self.callback(_quietly, functools.partial(undo, *args, **kwargs))

    def commit(self) -> None:
        """The block has succeeded: undo nothing."""
        self.pop_all()


def _quietly(undo: Callable[[], object]) -> None:
    try:
        undo()
    except Exception:  # the failure that is being undone must reach the caller, whatever its undoing meets
        log.warning("could not undo a step", exc_info=True)


class Teardown:
    """Steps that are all tried, whatever happens to the others; `finish` reports what could not be done."""

    def __init__(self) -> None:
        self.failures: list[CNIError] = []

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Run the block; keep its CNIError for the report."""
        try:
            yield
        except CNIError as error:
            self.failures.append(error)

    def finish(self, what: str) -> None:
        """Raise the only failure as it is, or one DeleteIncomplete that names them all."""
        if len(self.failures) == 1:
            raise self.failures[0]
        if self.failures:
            told = " / ".join(str(failure) for failure in self.failures)
            raise DeleteIncomplete(what, told, id="PLX-DEL", failures=self.failures)
