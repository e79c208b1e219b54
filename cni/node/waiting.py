"""The launchers that wait for an answer: in line for a worker, or with one."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterator
from queue import Empty, SimpleQueue

from cni.node.client import Client

READING = 2.0
"""Seconds for a launcher to read one byte."""


class Waiting:
    """A line of at most `capacity` launchers; each is a descriptor here, its request still in the kernel."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._line: SimpleQueue[Client | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._clients: set[Client] = set()
        self._served: set[Client] = set()
        self._refused: deque[tuple[float, Client]] = deque()
        self._stands_since: float | None = None

    @property
    def length(self) -> int:
        """How many wait for a worker."""
        return self._line.qsize()

    @property
    def served(self) -> int:
        """How many workers have a launcher."""
        return len(self._served)

    @property
    def any(self) -> bool:
        """Whether anybody waits, for a worker or for its answer, or reads that there is none."""
        return bool(self._clients or self._refused)

    def admit(self, client: Client) -> bool:
        """Put a launcher in line, unless that is full; whether it was."""
        if self.length >= self.capacity:
            self._refuse(client)
            return False
        client.reassure()
        with self._lock:
            self._clients.add(client)
            if self._stands_since is None:
                self._stands_since = time.monotonic()
            self._line.put(client)
        return True

    def next(self) -> Client | None:
        """The next in line, when there is one; None when there will not be any more."""
        client = self._line.get()
        with self._lock:
            self._stands_since = time.monotonic() if self.length else None
        if client is not None:
            self._served.add(client)
        return client

    def is_stuck(self, seconds: float) -> bool:
        """Whether nobody has been taken for so long from a line that somebody stood in."""
        with self._lock:
            return self._stands_since is not None and time.monotonic() - self._stands_since > seconds

    def answering(self, client: Client) -> None:
        """Leave a launcher its answer to read, and nothing else."""
        with self._lock:
            self._clients.discard(client)

    def dismiss(self, client: Client) -> None:
        """Let a launcher go."""
        self.answering(client)
        self._served.discard(client)
        client.close()

    def reassure(self) -> None:
        """Tell all that we live."""
        with self._lock:
            for client in self._clients:
                client.reassure()

    def sweep(self) -> None:
        """Let those go who have had the time to read that they were refused."""
        while self._refused and time.monotonic() - self._refused[0][0] > READING:
            self._refused.popleft()[1].close()

    def close(self, workers: int) -> None:
        """Say that nobody will come any more, to each worker that finds the line empty."""
        for _ in range(workers):
            self._line.put(None)

    def refuse_line(self) -> int:
        """Tell everybody who is in line to come later; how many they were."""
        refused = 0
        for client in self._leave_line():
            self.answering(client)
            self._refuse(client)
            refused += 1
        return refused

    def dismiss_line(self) -> None:
        """Let everybody go who is in line: they work alone."""
        for client in self._leave_line():
            self.dismiss(client)

    def _refuse(self, client: Client) -> None:
        client.refuse()
        self._refused.append((time.monotonic(), client))  # closed at once, the kernel would lose what was said

    def _leave_line(self) -> Iterator[Client]:
        with contextlib.suppress(Empty):
            while True:
                client = self._line.get_nowait()
                if client is not None:
                    yield client
