"""The node agent: keeps the runtime's entry, the kubeconfig and the launchers right, as long as it runs.

It takes nothing away when it ends: pods come and go without it, by what it wrote.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import replace
from threading import Event

from cni.node import entry, kubeconfig, primary
from cni.node.plan import DIRECTORY, Plan
from cni.node.primary import Candidate, Choice
from cni.plugin import confdir, files
from cni.spec.document import Document
from cni.spec.errors import CNIError, InvalidConfiguration

log = logging.getLogger(__name__)

INTERVAL = 1.0
"""Seconds between two looks: a directory with a handful of small files."""
ASIDE = ".before-plexus"
"""What is appended to the name of a configuration of Multus whose place we take."""


class Agent:
    """Does what the plan says, again and again; what goes wrong is told once, and tried again."""

    def __init__(self, plan: Plan, clock: Callable[[], float] = time.monotonic) -> None:
        self.plan = plan
        self._choice = Choice(plan.settle)
        self._clock = clock
        self._told: dict[str, str] = {}
        self._seen: object = None
        self._launchers = plan.launchers

    def run(self, stop: Event, interval: float = INTERVAL) -> None:
        """Work until `stop` is set, and leave everything as it is then."""
        while not stop.is_set():
            self.step()
            stop.wait(interval)
        log.info("stopped; the runtime's configuration, plugins and kubeconfig stay")

    def step(self) -> bool:
        """Look at everything once; whether all of it is right."""
        # The entry names the others, so it comes after them.
        steps = (self._keep_launchers, self._keep_kubeconfig, self._keep_entry, self._keep_first)
        outcomes = [self._try(step) for step in steps]
        return all(outcomes)

    def _try(self, step: Callable[[], None]) -> bool:
        try:
            step()
            problem = ""
        except (CNIError, OSError) as error:
            problem = str(error)
        name = step.__name__
        if problem and problem != self._told.get(name):
            log.error("%s", problem)
        elif self._told.get(name) and not problem:
            log.info("this is over: %s", self._told[name])
        self._told[name] = problem
        return not problem

    def _keep_launchers(self) -> None:
        if self.plan.install is None:
            return
        if self._launchers is None or not self._launchers.can_run:
            self._launchers = self.plan.install()
        self._launchers.place_missing()

    def _keep_kubeconfig(self) -> None:
        plan, path = self.plan, self.plan.kubeconfig
        if plan.account is None:
            return
        token = plan.token.get() if plan.token else ""
        if token is None and os.path.lexists(plan.host.local(path)):
            return  # what is there may be good still
        plan.prefix.ensure_directory(os.path.dirname(path), 0o700)
        for name in (kubeconfig.FILE, kubeconfig.CA_FILE):
            plan.prefix.record("file", os.path.join(os.path.dirname(path), name))
        if kubeconfig.refresh(plan.account, token or "", path, plan.host.local(path)):
            log.info('wrote "%s"', path)

    def _keep_entry(self) -> None:
        """Write the entry if the primary, or what else is in it, has changed. Raises CNIError."""
        directory = self.plan.host.directory(self.plan.conf_dir)
        seen = (_read_all(directory), self._extra_text())
        if seen == self._seen:
            return  # most of the time
        self._publish(self._build_or_restore(directory))
        self._seen = seen  # and not what is there now, which may have changed since it was read

    def _publish(self, content: bytes) -> None:
        local, written = self.plan.host.local(self.plan.entry), self._written()
        if content != files.read(written):
            self.plan.prefix.record("conf", self.plan.entry)
            files.ensure_directory(os.path.dirname(written), 0o755)
            files.replace(written, content)
        if content != files.read(local):
            files.replace(local, content)
            log.info('wrote "%s"', self.plan.entry)

    def _build_or_restore(self, directory: str) -> bytes:
        """What the entry has to be. Raises CNIError where that cannot be told; the last one stays, or is put back."""
        try:
            return self._build(directory)
        except CNIError:
            last = files.read(self._written())
            if last is not None and not os.path.lexists(self.plan.host.local(self.plan.entry)):
                self._publish(last)
            raise

    def _build(self, directory: str) -> bytes:
        plan = self.plan
        current = entry.find_primary(plan.host.local(plan.entry)) or entry.find_primary(self._written())
        found = primary.find(directory, plan.primary)
        chosen = self._choice.choose(found, current, self._clock())
        if chosen is None or chosen.network is None:
            raise _no_primary(found, plan, current)
        settings = replace(plan.settings, extra=self._extra())
        return entry.build(chosen.network, os.path.join(plan.conf_dir, chosen.name), settings)

    def _written(self) -> str:
        """Where the last entry is kept, besides in its place."""
        return self.plan.prefix.local("written", self.plan.entry)

    def _extra(self) -> Document:
        return entry.parse_extra(self._extra_text(), f'"{self.plan.settings_file}"')

    def _extra_text(self) -> bytes:
        return (files.read(self.plan.settings_file) if self.plan.settings_file else None) or b""

    def _keep_first(self) -> None:
        """Raise InvalidConfiguration while the runtime takes another file than ours."""
        plan = self.plan
        first = plan.first()
        if plan.as_multus and self._is_set() and _is_multus(plan.host.local(os.path.join(plan.conf_dir, first))):
            self._set_aside(first)
        if self._is_set():
            plan.check_first()

    def _is_set(self) -> bool:
        return os.path.lexists(self.plan.host.local(self.plan.entry))

    def _set_aside(self, name: str) -> None:
        path = os.path.join(self.plan.conf_dir, name)
        local = self.plan.host.local(path)
        self.plan.prefix.record("aside", path)
        files.change(f'rename "{path}"', os.rename, local, local + ASIDE)
        log.info('renamed "%s" to "%s"; uninstalling brings it back', path, name + ASIDE)


def _is_multus(path: str) -> bool:
    """Whether the file is a configuration of Multus, or of ours, under another name than our entry's."""
    try:
        return os.path.basename(path) != entry.FILE and primary.is_ours(confdir.load_file(path))
    except CNIError:
        return False


def _read_all(directory: str) -> dict[str, bytes | None]:
    """Every file that may say what the primary is, drop-in plugins included."""
    found = {path: _read(path) for path in confdir.paths(directory)}
    own = [below.path for below in os.scandir(directory) if below.is_dir() and below.name != DIRECTORY]
    return found | {path: _read(path) for below in own for path in confdir.paths(below)}


def _read(path: str) -> bytes | None:
    try:
        return files.read(path)
    except CNIError:
        return None


def _no_primary(found: list[Candidate], plan: Plan, current: str) -> InvalidConfiguration:
    reasons = [f"{candidate.name}: {candidate.problem}" for candidate in found if candidate.problem]
    usable = [candidate.name for candidate in found if candidate.network]
    if usable:
        reasons.append(f'"{usable[0]}" is taken when that has been so for {plan.settle:g} seconds')
    elif not found:
        reasons.append("no file there is another plugin's")
    if current:
        reasons.append(f'what "{entry.FILE}" has of "{current}" stays in use')
    return InvalidConfiguration(
        f'could not find the primary network\'s configuration in "{plan.conf_dir}"',
        "; ".join(reasons),
        id="PLX-NODE-PRIMARY",
    )
