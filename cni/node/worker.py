"""Workers: threads that serve launchers' requests, one each at a time."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from cni.linux import inherited, thread
from cni.node import wants
from cni.node.client import Client, Declined, Errand, Withdrawn
from cni.node.metrics import NOBODY, Counter
from cni.node.waiting import Waiting
from cni.plugin import caller, invoke, log, skel

logger = logging.getLogger(__name__)


class Attachments:
    """Has requests about one attachment served one after the other, as a runtime sends them.

    A runtime that has lost its patience kills the launcher and sends DEL, while the ADD may still be at work here.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: dict[tuple[str, str], tuple[threading.Lock, int]] = {}

    @contextlib.contextmanager
    def held(self, attachment: tuple[str, str]) -> Iterator[None]:
        """Be the only one with this attachment; many at once may have none, ("", "")."""
        if not any(attachment):
            yield
            return
        with self._lock:
            own, users = self._locks.get(attachment, (threading.Lock(), 0))
            self._locks[attachment] = own, users + 1
        try:
            with own:
                yield
        finally:
            with self._lock:
                _, users = self._locks.pop(attachment)
                if users > 1:
                    self._locks[attachment] = own, users - 1


@dataclass(frozen=True)
class Workshop:
    """What workers share."""

    code: str
    place: str
    waiting: Waiting
    counter: Counter = NOBODY
    attachments: Attachments = field(default_factory=Attachments)


class Worker(threading.Thread):
    """Takes one launcher after the other out of the line."""

    def __init__(self, shop: Workshop, number: int) -> None:
        super().__init__(name=f"worker-{number}", daemon=True)
        self.shop = shop

    def run(self) -> None:
        """Work until nobody will come any more."""
        thread.own_directory()
        while (client := self.shop.waiting.next()) is not None:
            try:
                self.serve(client)
            except Withdrawn:
                pass
            except (Declined, OSError) as error:
                self.shop.counter.declined()
                logger.warning("left a launcher to itself: %s", error)
            except Exception:  # the launcher goes on by itself, and so do we
                logger.critical("could not serve a launcher", exc_info=True)
            finally:
                self.shop.waiting.dismiss(client)

    def serve(self, client: Client) -> None:
        """Serve one launcher. Raises Declined, Withdrawn, OSError."""
        errand = client.receive()
        self._check(errand)
        with self.shop.attachments.held(errand.attachment):
            os.chdir(errand.directory)
            os.umask(errand.umask)
            if client.begin():
                self._work(client, errand)

    def _check(self, errand: Errand) -> None:
        """Raise Declined for a launcher whose request would end otherwise in its own process."""
        if errand.code != self.shop.code:
            raise Declined(f'its code is "{errand.code}", ours "{self.shop.code}"')
        if errand.place != self.shop.place:
            raise Declined("it is in other namespaces, or below another root")
        if errand.name not in invoke.BUILT_IN | invoke.META:
            raise Declined(f'there is no plugin "{errand.name}"')

    def _work(self, client: Client, errand: Errand) -> None:
        # Who is executed holds the connection open: when we die, the launcher waits until nobody is at work any more.
        inherited.descriptors.set((client.connection.fileno(),))
        caller.is_gone.set(client.is_gone)
        logger.debug("begin %s %s %s", errand.command, *errand.attachment)
        begun = time.monotonic()
        status, stdout, stderr = _run(errand, errand.environ)
        took = time.monotonic() - begun
        self.shop.waiting.answering(client)
        delivered = not client.is_gone() and client.answer(status, _encoded(stdout), _encoded(stderr))
        if not delivered and errand.command == "ADD" and status == 0:
            # Its DEL may have come before the ADD was at its end, to a launcher that worked alone.
            logger.warning("undo an ADD whose launcher is gone: %s %s", *errand.attachment)
            _run(errand, errand.environ | {"CNI_COMMAND": "DEL"})
        outcome = _outcome(status, stdout) if delivered else "abandoned"
        waited = begun - client.came_at
        self.shop.counter.served(errand.command, errand.name, outcome, waited=waited, took=took)


def _run(errand: Errand, environ: Mapping[str, str]) -> tuple[int, str, str]:
    stdout, stderr = io.StringIO(), io.StringIO()
    log.begin(stderr)
    try:
        status = skel.run(errand.name, environ, io.BytesIO(errand.stdin), stdout, stderr, wants.is_ours)
    except Exception as error:
        if not wants.is_ours(error):
            raise
        raise Declined(f"we lack what it takes, and it has that itself: {error}") from error
    finally:
        log.end()
    return status, stdout.getvalue(), stderr.getvalue()


def _encoded(text: str) -> bytes:
    """The bytes to print; a lone surrogate, from the environment or a path, is none."""
    return text.encode(errors="replace")


def _outcome(status: int, stdout: str) -> str:
    """What to count: that it went well, or the code of what went wrong."""
    return "ok" if status == 0 else str(json.loads(stdout)["code"])
