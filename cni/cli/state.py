"""`plexus status` without a network: what is attached on this node, and what could not be undone."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from cni.cli import table
from cni.node import layout
from cni.node.host import Host
from cni.plugin import files, ledger
from cni.plugin.cache import Cache
from cni.plugin.ledger import Failure, Ledger
from cni.spec import document, model
from cni.spec.document import Document

if TYPE_CHECKING:
    from cni.meta.config import MetaConf

HEADINGS = ("CONTAINER", "POD", "NETWORK", "INTERFACE", "SINCE", "TRIES", "REASON")


@dataclass(frozen=True, kw_only=True)
class Unfinished:
    """One attachment that could not be undone; the fields are named as in the JSON."""

    container: str
    pod: str
    network: str
    interface: str
    since: str
    tries: int
    reason: str
    blocking: bool
    """Whether its runtime is told still that DEL failed."""


@dataclass(frozen=True, kw_only=True)
class State:
    """What the ledger says; the fields are named as in the JSON."""

    ledger: str
    attached: int
    """Containers of this boot."""

    earlier: int
    """Containers of an earlier boot, which died with it."""

    unfinished: list[Unfinished]
    damaged: list[str]
    newer: list[str]
    """Records that only a newer version of plexus can read."""


def status(options: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Print the state of the ledger. Raises CNIError when it cannot be found."""
    conf = _find_meta_conf(environ)
    derived = (conf.status_directory, os.path.join(conf.device_info_dir, "cni"), Cache(options.cache_dir).directory)
    state = read(Ledger(conf.ledger_directory), derived)
    sys.stdout.write((_as_json(state) if options.output == "json" else _as_text(state)) + "\n")


def find_conf(environ: Mapping[str, str]) -> Document | None:
    """The meta plugin's configuration, of those that the runtime may use; None where none is. Raises IOFailure."""
    return layout.find_conf(environ, Host())


def find_ledger(environ: Mapping[str, str]) -> Ledger:
    """The records of what the meta plugin attached, where it keeps them. Raises InvalidConfiguration."""
    return Ledger(_find_meta_conf(environ).ledger_directory)


def _find_meta_conf(environ: Mapping[str, str]) -> MetaConf:
    """What the configuration says of places; the rest of it may be wrong."""
    from cni.meta.config import MetaConf

    conf = find_conf(environ) or {}
    keys = {key: document.lookup(conf, key) for key in ("cniDir", "deviceInfoDir")}
    return model.parse(MetaConf, keys, "the configuration of plexus")


def read(records: Ledger, derived: Iterable[str] = ()) -> State:
    """What the ledger says now, and what was set aside in the directories of what is derived from it."""
    boot = ledger.boot_id()
    every = list(records.records())
    attached = [record for record in every if record.boot_id in ("", boot)]
    return State(
        ledger=records.directory,
        attached=len(attached),
        earlier=len(every) - len(attached),
        unfinished=[*_unfinished(records.unfinished, blocking=False), *_unfinished(records, blocking=True)],
        damaged=[*records.damaged(), *records.unfinished.damaged(), *_set_aside(derived)],
        newer=[*records.newer(), *records.unfinished.newer()],
    )


def _set_aside(directories: Iterable[str]) -> Iterator[str]:
    for directory in directories:
        for place, inner, names in os.walk(directory):
            yield from (os.path.join(place, name) for name in sorted((*inner, *names)) if name.endswith(files.DAMAGED))
            inner[:] = [name for name in inner if not name.endswith(files.DAMAGED)]


def _unfinished(records: Ledger, *, blocking: bool) -> list[Unfinished]:
    return [
        Unfinished(
            container=record.container_id,
            pod=record.pod,
            network=entry.network,
            interface=entry.ifname,
            since=_moment(entry.failure),
            tries=entry.failure.tries,
            reason=entry.failure.reason,
            blocking=blocking,
        )
        for record in records.records()
        for entry in record.entries
        if entry.failure
    ]


def _moment(failure: Failure) -> str:
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(failure.since))
    except (OverflowError, ValueError, OSError):
        return str(failure.since)


def _as_json(state: State) -> str:
    return json.dumps(asdict(state), indent=4, ensure_ascii=False)


def _as_text(state: State) -> str:
    earlier = f", and {state.earlier} of an earlier boot" if state.earlier else ""
    lines = [f"attached    {state.attached} containers{earlier}"]
    lines += [f"damaged     {path}" for path in state.damaged]
    lines += [f"newer       {path}: install the version of plexus that wrote it" for path in state.newer]
    left = [entry for entry in state.unfinished if not entry.blocking]
    blocking = [entry for entry in state.unfinished if entry.blocking]
    lines += _told(f"unfinished  {len(left)} attachments that no DEL could undo; plexus gc tries them again", left)
    lines += _told(f"failing     {len(blocking)} attachments whose DEL has failed; the runtime tries again", blocking)
    return "\n".join(lines)


def _told(heading: str, entries: list[Unfinished]) -> list[str]:
    rows = [_cells(entry) for entry in entries]
    return [heading, *(f"  {line}" for line in table.lines(HEADINGS, rows))] if rows else []


def _cells(entry: Unfinished) -> tuple[str, ...]:
    container = os.fsencode(entry.container).decode(errors="replace")
    reason = " ".join(entry.reason.split())
    return container, entry.pod, entry.network, entry.interface, entry.since, str(entry.tries), reason
