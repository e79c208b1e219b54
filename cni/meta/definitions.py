"""The NetworkAttachmentDefinitions of one pod: each is looked up once, and several at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from contextvars import copy_context
from functools import partial
from types import TracebackType
from typing import Self

from cni.kube.objects import NetworkAttachmentDefinition
from cni.kube.source import Source

Key = tuple[str, str]
"""Namespace and name."""
Answer = Callable[[], NetworkAttachmentDefinition | None]


class Definitions:
    """What a source knows of definitions, remembered; in a `with` block, at whose end nobody is asked any more."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._answers: dict[Key, Answer] = {}
        self._asking = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._asking.close()

    def expect(self, keys: Iterable[Key]) -> None:
        """Begin to ask for all of them, as many at a time as the source says; what it answers is told by `find`."""
        wanted = list(dict.fromkeys(keys))
        at_once = min(self.source.questions_at_once, len(wanted))
        if at_once > 1:
            self._ask(wanted, at_once)

    def find_network(self, namespace: str, name: str) -> NetworkAttachmentDefinition | None:
        """Return the definition, or None when it certainly does not exist. Raises what the source raises."""
        key = (namespace, name)
        if key not in self._answers:
            found = self.source.find_network(namespace, name)
            self._answers[key] = lambda: found
        return self._answers[key]()

    def _ask(self, keys: list[Key], at_once: int) -> None:
        from concurrent.futures import ThreadPoolExecutor

        threads = ThreadPoolExecutor(at_once, "definitions")
        self._asking.callback(threads.shutdown, wait=True, cancel_futures=True)
        for key in keys:
            ask = partial(self.source.find_network, *key)
            self._answers[key] = threads.submit(copy_context().run, ask).result  # within the call that is being served
