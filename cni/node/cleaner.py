"""Cleaning up after the dead, from time to time, in a thread of its own: what a runtime never asked for."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping

from cni.meta import reclaim
from cni.meta.reclaim import Outcome, Reclaimer
from cni.node import layout
from cni.node.host import Host
from cni.node.metrics import Counter
from cni.spec.errors import CNIError
from cni.spec.request import Request

logger = logging.getLogger(__name__)

GRACE = 30.0
"""Seconds between the two looks."""
MOST = 64
"""Containers that are cleaned up after each time."""
LAST = 5.0
"""Seconds for what has been begun when the daemon ends; all of it may be cut off anywhere."""


class _Ended(Exception):
    pass


class Cleaner(threading.Thread):
    """Cleans up at once and then every `period` seconds, by the configuration as it is then."""

    def __init__(
        self,
        period: float,
        environ: Mapping[str, str],
        counter: Counter,
        pause: Callable[[float], bool] | None = None,
        host: Host = Host(),  # noqa: B008 - a frozen value
    ) -> None:
        super().__init__(name="cleaner", daemon=True)
        self.period = period
        self.environ = environ
        self.counter = counter
        self.host = host
        self._ended = threading.Event()
        self._pause = pause or self._ended.wait
        """Waits so many seconds; whether it is time to end."""

    def run(self) -> None:
        """Work until the end."""
        try:
            while True:
                self._clean_despite_failures()
                self._wait(self.period)
        except _Ended:
            logger.debug("the cleaner ends")

    def end(self) -> None:
        """Begin nothing any more."""
        self._ended.set()

    def finish(self) -> None:
        """Give what is being done a moment."""
        if self.is_alive():
            self.join(LAST)

    def clean(self) -> list[Outcome]:
        """Clean up once, and count it. Raises CNIError where it cannot be told after whom."""
        conf = layout.find_conf(self.environ, self.host)
        if conf is None:
            return []
        path = tuple(part for part in self.environ.get("CNI_PATH", "").split(os.pathsep) if part)
        path = path or (layout.of_host(self.host).bin_dir,)
        request = Request(command="GC", path=path, environ=self.environ).with_conf(conf)
        reclaimer = Reclaimer.of(request)
        outcomes = reclaim.collect(reclaimer, GRACE, self._wait, most=MOST)
        for outcome in outcomes:
            self._tell(outcome)
        self.counter.unfinished(sum(1 for _ in reclaimer.unfinished()))
        return outcomes

    def _clean_despite_failures(self) -> None:
        try:
            self.clean()
        except CNIError as error:
            logger.warning("could not clean up: %s", error)
        except _Ended:
            raise
        except Exception:  # it is of no use to those who are served, and must not be in their way
            logger.critical("could not clean up", exc_info=True)

    def _tell(self, outcome: Outcome) -> None:
        finding = outcome.finding
        result = "removed" if outcome.removed else "failed" if outcome.failure else "kept"
        self.counter.cleaned(finding.what, result)
        if outcome.removed:
            logger.info(
                'cleaned up after %s "%s" %s: %s',
                finding.what,
                finding.container,
                finding.pod,
                "done at last" if finding.what == reclaim.UNFINISHED else finding.why,
            )

    def _wait(self, seconds: float) -> None:
        if self._pause(seconds) or self._ended.is_set():
            raise _Ended
