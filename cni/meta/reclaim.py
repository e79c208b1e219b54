"""Clean up after the dead: what no DEL came for, and what DEL could not finish.

Each is marked, and removed when it is found dead again after a while, and once more in the moment of its removal, when
nobody else is at work on its record. So whoever is only just beginning, or moving, is never taken for dead.
"""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cni.meta import places, strays, undo, unfinished
from cni.meta.alive import World
from cni.meta.places import Places
from cni.plugin import deadline, files
from cni.plugin.ledger import Ledger, Record
from cni.spec.errors import CNIError
from cni.spec.request import Request

if TYPE_CHECKING:
    from cni.meta.config import MetaConf

log = logging.getLogger(__name__)

CONTAINER, UNFINISHED, RULE = "container", "unfinished", "rule"
GRACE = 1.0
"""Seconds between two looks where an ADD waits for them."""
FEW = 32
"""Containers that an ADD cleans up after."""
MOST = 1000
"""Containers that are cleaned up after at once."""
LONGEST = 30.0
"""Seconds for each of them, since a DEL of its runtime would wait for us; for all of them, where an ADD waits."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What can go, and why; the fields are named as in the JSON."""

    what: str
    container: str
    ifname: str
    pod: str
    networks: tuple[str, ...]
    why: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a finding."""

    finding: Finding
    removed: bool
    failure: str = ""
    """Why not; "" where it was not to be removed any more."""


class Reclaimer:
    """Finds and removes what the meta plugin of one configuration left."""

    def __init__(self, conf: MetaConf | Places, request: Request, *, finish: bool = True) -> None:
        self.conf = conf
        self.request = request
        self.finish = finish
        """Whether what DEL could not finish is tried again, and what nobody remembers goes."""

        self.records = Ledger(conf.ledger_directory)

    @classmethod
    def of(cls, request: Request) -> Reclaimer:
        """Read what DEL reads of the configuration, too. Raises InvalidConfiguration."""
        return cls(places.parse(request), request)

    def look(self) -> list[Finding]:
        """All that can go, now."""
        world = self._world()
        return [*self._dead(world), *((*self.unfinished(), *_strays()) if self.finish else ())]

    def remove(self, finding: Finding) -> Outcome:
        """Remove it, if it still can go, and nobody else is at work on it."""
        try:
            with deadline.within(LONGEST):
                removed = self._remove(finding)
        except CNIError as error:
            log.warning('could not clean up after container "%s": %s', finding.container, error)
            return Outcome(finding=finding, removed=False, failure=str(error))
        return Outcome(finding=finding, removed=removed)

    def _remove(self, finding: Finding) -> bool:
        if finding.what == RULE:
            return strays.remove(finding.container)
        return self._finish(finding) if finding.what == UNFINISHED else self._undo(finding)

    def sweep(self) -> None:
        """Remove what calls that were killed have left half written: no record, and no DEL, knows of it."""
        status = self.conf.status_directory
        directories = [self.records.directory, self.records.unfinished.directory]
        try:
            for directory in [*directories, *(os.path.join(status, name) for name in files.names(status))]:
                files.sweep(directory)
        except CNIError as error:
            log.warning("could not remove what is half written: %s", error)

    def _world(self) -> World:
        return World(self.records.directory)

    def _dead(self, world: World) -> Iterator[Finding]:
        for record in self.records.records():
            why = world.death_of(record)
            if why:
                yield _finding(CONTAINER, record, why)

    def unfinished(self) -> Iterator[Finding]:
        """What DEL could not finish, and nobody has attached anew; what was tried least comes first."""
        for record in sorted(unfinished.every(self.records), key=_tries):
            reasons = [entry.failure.reason for entry in record.entries if entry.failure]
            yield _finding(UNFINISHED, record, " / ".join(reasons))

    def _undo(self, finding: Finding) -> bool:
        with self.records.claimed(finding.container, finding.ifname) as mine:
            record = self.records.find(finding.container, finding.ifname) if mine else None
            if record is None or not self._world().death_of(record):
                return False
            undo.undo(record, self.records, self.conf, self.request, is_dead=True)
            return not self.records.unfinished.has(finding.container, finding.ifname)

    def _finish(self, finding: Finding) -> bool:
        left = self.records.unfinished
        with left.claimed(finding.container, finding.ifname) as mine:
            record = left.find(finding.container, finding.ifname) if mine else None
            if record is None or self.records.has(finding.container, finding.ifname):
                return False
            undo.finish(record, self.records, self.conf, self.request)
            return True


def _strays() -> Iterator[Finding]:
    for stray in strays.find():
        why = f'its interface "{stray.link}" is gone'
        yield Finding(what=RULE, container=stray.identity, ifname="", pod="", networks=("macspoofchk",), why=why)


def find(reclaimer: Reclaimer, grace: float, wait: Callable[[float], object] = time.sleep) -> list[Finding]:
    """What is found twice, with the grace between."""
    marked = {_identity(finding) for finding in reclaimer.look()}
    if not marked:
        return []
    wait(grace)
    return [finding for finding in reclaimer.look() if _identity(finding) in marked]


def collect(
    reclaimer: Reclaimer, grace: float, wait: Callable[[float], object] = time.sleep, *, most: int = MOST
) -> list[Outcome]:
    """Remove what is found, as far as the time goes, and what is half written."""
    reclaimer.sweep()
    found = find(reclaimer, grace, wait)[:most]
    return [reclaimer.remove(finding) for finding in itertools.takewhile(_is_time, found)]


def make_room(conf: MetaConf | Places, request: Request) -> bool:
    """Clean up after some of the dead, because an ADD has found no address; whether there were any."""
    with deadline.within(LONGEST):
        outcomes = collect(Reclaimer(conf, request, finish=False), GRACE, most=FEW)
    return any(outcome.removed for outcome in outcomes)


def finish_all(conf: MetaConf | Places, request: Request) -> None:
    """Try again what DEL could not finish, and sweep; what fails stays, and is only logged."""
    reclaimer = Reclaimer(conf, request)
    reclaimer.sweep()
    for finding in itertools.takewhile(_is_time, list(reclaimer.unfinished())):
        reclaimer.remove(finding)


def _is_time(_: Finding) -> bool:
    return not deadline.is_over()


def _tries(record: Record) -> int:
    return min((entry.failure.tries for entry in record.entries if entry.failure), default=0)


def _identity(finding: Finding) -> tuple[str, str, str]:
    return finding.what, finding.container, finding.ifname


def _finding(what: str, record: Record, why: str) -> Finding:
    return Finding(
        what=what,
        container=record.container_id,
        ifname=record.ifname,
        pod=record.pod,
        networks=tuple(entry.network for entry in record.entries),
        why=why,
    )
