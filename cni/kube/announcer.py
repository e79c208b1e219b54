"""Tells of events besides the calls that they are about: what nobody waits for need not keep a pod waiting."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Callable

logger = logging.getLogger(__name__)

MOST = 1024
"""Events that wait to be sent; those beyond are not sent, as when there is no answer."""


class Announcer:
    """Sends one event after the other, in a thread that begins with the first."""

    def __init__(self) -> None:
        self._line: queue.Queue[Callable[[], None] | None] = queue.Queue(MOST)
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def announce(self, send: Callable[[], None]) -> None:
        """Have an event sent when those before it are; never raises, and never waits."""
        try:
            self._line.put_nowait(send)
        except queue.Full:
            logger.warning("left out an event: %d wait to be sent", MOST)
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._send_all, name="announcer", daemon=True)
                self._thread.start()

    def finish(self, seconds: float) -> None:
        """Wait until all is sent, for so long at most."""
        if self._thread is not None:
            with contextlib.suppress(queue.Full):
                self._line.put(None, timeout=seconds)
            self._thread.join(seconds)

    def _send_all(self) -> None:
        while (send := self._line.get()) is not None:
            try:
                send()
            except Exception:  # no event is worth those that come after it
                logger.critical("could not send an event", exc_info=True)
