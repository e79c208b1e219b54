"""The NetworkAttachmentDefinitions of one pod: each is looked up once, and several at a time where that takes long.

An API server nearby answers sooner than another connection to it is made, so that is only done when answers are
waited for.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from concurrent import futures
from concurrent.futures import Future
from contextvars import copy_context
from types import TracebackType
from typing import Self

from cni.kube.objects import NetworkAttachmentDefinition
from cni.kube.source import Source

PATIENCE = 0.005
"""Seconds that one thread asks one question after another."""
Key = tuple[str, str]
"""Namespace and name."""
Answer = Future[NetworkAttachmentDefinition | None]


class Definitions:
    """What a source knows of definitions, remembered; in a `with` block, at whose end nobody is asked any more."""

    def __init__(self, source: Source, *, parallel: bool = True) -> None:
        self.source = source
        self.at_once = source.questions_at_once if parallel else 1
        self._answers: dict[Key, Answer] = {}
        self._questions: deque[Key] = deque()
        self._threads: futures.Executor | None = None
        self._more_threads = 0
        self._patient_until = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._questions.clear()
        if self._threads:
            self._threads.shutdown()

    def expect(self, keys: Iterable[Key]) -> None:
        """Begin to ask for all of them, where the source says that this helps; what it answers is told later."""
        wanted = list(dict.fromkeys(keys))
        at_once = min(self.at_once, len(wanted))
        if at_once < 2:
            return
        self._answers = {key: Future() for key in wanted}
        self._questions.extend(wanted)
        self._threads = futures.ThreadPoolExecutor(at_once, "definitions")
        self._more_threads = at_once - 1
        self._patient_until = time.monotonic() + PATIENCE
        self._start_asking()

    def find_network(self, namespace: str, name: str) -> NetworkAttachmentDefinition | None:
        """Return the definition, or None when it certainly does not exist. Raises what the source raises."""
        key = (namespace, name)
        if key not in self._answers:
            self._answers[key] = Future()
            self._ask(key)
        self._wait(self._answers[key])
        return self._answers[key].result()

    def _wait(self, answer: Answer) -> None:
        futures.wait([answer], timeout=max(self._patient_until - time.monotonic(), 0))
        while not answer.done() and self._questions and self._more_threads:
            self._more_threads -= 1
            self._start_asking()

    def _start_asking(self) -> None:
        if self._threads:
            self._threads.submit(copy_context().run, self._ask_all)  # within the call that is being served

    def _ask_all(self) -> None:
        while True:
            try:
                key = self._questions.popleft()
            except IndexError:
                return
            self._ask(key)

    def _ask(self, key: Key) -> None:
        try:
            self._answers[key].set_result(self.source.find_network(*key))
        except BaseException as error:  # noqa: BLE001 - told to whoever wants this one
            self._answers[key].set_exception(error)
