"""Where launchers arrive: each is told that we live, and waits in line for a worker."""

from __future__ import annotations

import logging
import selectors
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from types import FrameType

from cni.node import launcher, systemd
from cni.node.client import Client, own_place
from cni.node.metrics import NOBODY, Counter
from cni.node.waiting import Waiting
from cni.node.worker import Worker, Workshop

logger = logging.getLogger(__name__)

SIGN_OF_LIFE = 0.25
"""Seconds between what launchers hear while they wait; see `launcher.SILENCE`."""
DRAIN = 30.0
"""Seconds in which, when we are to end, those in line are still served."""
HOPELESS = 60.0
"""Seconds after which a line that has not moved is sent away: whoever comes now would not be served either."""
STUCK = 200.0
"""Seconds after which nobody has come out of a line that somebody stood in: no call takes so long, see `deadline`."""


class Reception:
    """Welcomes launchers, reassures them while they wait, and has workers serve them."""

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        waiting: Waiting,
        slots: int,
        environ: Mapping[str, str],
        counter: Counter = NOBODY,
    ) -> None:
        self.listeners = listeners
        self.environ = environ
        self.waiting = waiting
        self.counter = counter
        self.ending = False
        shop = Workshop(code=launcher.__file__, place=own_place(), waiting=waiting, counter=counter)
        self.workers = [Worker(shop, number) for number in range(slots)]
        self.watchdog = systemd.watchdog_seconds(environ) / 3
        self._notified = 0.0
        self.signals, self._wake = socket.socketpair()
        self._wake.setblocking(False)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)

    def end(self, _number: int = 0, _frame: FrameType | None = None) -> None:
        """Welcome nobody any more; a signal's handler."""
        self.ending = True

    def work(self) -> None:
        """Welcome whoever comes, until it is to end."""
        for worker in self.workers:
            worker.start()
        with selectors.DefaultSelector() as selector:
            for source in (self.signals, *self.listeners):
                source.setblocking(False)
                selector.register(source, selectors.EVENT_READ)
            while not self.ending:
                for key, _ in selector.select(self._pause()):
                    if key.fileobj in self.listeners:
                        self._welcome(key.fileobj)  # type: ignore[arg-type]
                self._show_life()

    def finish(self) -> None:
        """Serve those in line, for a while; then wait for those that are being served, however long it takes."""
        self.waiting.close(len(self.workers))
        end = time.monotonic() + DRAIN
        for worker in self.workers:
            while worker.is_alive():
                worker.join(SIGN_OF_LIFE)
                self._show_life()
                if time.monotonic() > end:
                    self.waiting.dismiss_line()
                    self.waiting.close(len(self.workers))
                    end = float("inf")

    def _pause(self) -> float | None:
        """How long nothing need be done unless somebody comes."""
        return SIGN_OF_LIFE if self.waiting.any else self.watchdog or None

    def _welcome(self, listener: socket.socket) -> None:
        """Put all in line who have come."""
        while not self.ending:
            try:
                connection, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:  # it may be over in a moment, as when there are too many descriptors
                logger.warning("could not welcome a launcher: %s", error)
                time.sleep(SIGN_OF_LIFE)
                return
            client = Client(connection)
            if client.is_roots():
                if not self.waiting.admit(client):
                    self.counter.refused()
            else:
                logger.warning("sent away a launcher that is not root's")
                client.close()

    def _show_life(self) -> None:
        self.waiting.reassure()
        self.waiting.sweep()
        if self.waiting.is_stuck(HOPELESS) and not self.ending:
            self._send_line_away()
        if self.watchdog and not self.waiting.is_stuck(STUCK):
            self._notify_watchdog()

    def _notify_watchdog(self) -> None:
        """Say that we live, no more often than anybody needs to hear it."""
        now = time.monotonic()
        if now - self._notified >= self.watchdog:
            systemd.notify(self.environ, "WATCHDOG=1")
            self._notified = now

    def _send_line_away(self) -> None:
        refused = self.waiting.refuse_line()
        if not refused:
            return
        logger.error("no slot has been free for %.0f seconds: told %d launchers to come later", HOPELESS, refused)
        for _ in range(refused):
            self.counter.refused()
