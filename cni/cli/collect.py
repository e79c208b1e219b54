"""`plexus gc` without a network: remove what belongs to nobody who is alive, on all of this node."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cni.cli import state, table
from cni.cli.runtime import read_settings
from cni.linux import netns
from cni.meta import reclaim, traces
from cni.meta.reclaim import Finding, Outcome, Reclaimer
from cni.node import layout
from cni.node.host import Host
from cni.plugin.cache import Cache, Remembered
from cni.plugin.ledger import Ledger
from cni.spec.errors import DeleteIncomplete, InvalidConfiguration
from cni.spec.request import Request

if TYPE_CHECKING:
    from ipam.directory import DirectoryStore

LEASE, RESULT = "lease", "result"
OURS = "plexus-"
"""How the IDs of the containers begin that `plexus attach` plays the runtime for."""
HEADINGS = ("WHAT", "CONTAINER", "POD", "NETWORKS", "WHY", "")


def run(options: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Remove it, or with --dry-run only tell of it. Raises DeleteIncomplete when not all of it could be removed."""
    reclaimer, records = _reclaimer(environ)
    leases, results = Leases(records), Results(Cache(options.cache_dir), records)
    dead = leases.look()
    if options.dry_run:
        found = reclaim.find(reclaimer, options.grace)
        found += [*dead, *results.look({(going.container, going.ifname) for going in found})]
        outcomes = [Outcome(finding=finding, removed=False) for finding in found]
    else:
        outcomes = reclaim.collect(reclaimer, options.grace)
        leases.remove()
        outcomes += [Outcome(finding=finding, removed=True) for finding in (*dead, *results.remove())]
    shown = _as_json if options.output == "json" else _as_text
    sys.stdout.write(shown(outcomes, dry_run=options.dry_run) + "\n")
    _raise_failures(outcomes)


class Leases:
    """Leases of host-local whose owners lived before this machine was last started."""

    def __init__(self, records: Ledger) -> None:
        self.records = records

    def look(self) -> list[Finding]:
        """Those that the next use of their network gives back."""
        return [finding for _, findings in self._every() for finding in findings]

    def remove(self) -> None:
        """Use each network that has any. Raises TryAgainLater, IOFailure."""
        for store, findings in self._every():
            if findings:
                with store.locked():
                    pass

    def _every(self) -> Iterator[tuple[DirectoryStore, list[Finding]]]:
        from ipam import networks

        for store in networks.stores(traces.data_dirs(self.records)):
            yield (
                store,
                [
                    Finding(
                        what=LEASE,
                        container=owner.container_id,
                        ifname=owner.ifname,
                        pod="",
                        networks=(f"{os.path.basename(store.location)}: {address}",),
                        why="its owner lived in an earlier boot",
                    )
                    for address, owner in store.dead()
                ],
            )


class Results:
    """What `plexus attach` remembers of containers that are in no record, and whose namespace is not where it was."""

    def __init__(self, cache: Cache, records: Ledger) -> None:
        self.cache = cache
        self.records = records

    def look(self, going: Container[tuple[str, str]] = ()) -> list[Finding]:
        """What would be removed after the records of these containers."""
        return [_of_result(known) for known in self._every(going)]

    def remove(self) -> list[Finding]:
        """Remove them. Raises IOFailure."""
        removed = []
        for known in self._every():
            self.cache.remove(known.network, known.attachment)
            removed.append(_of_result(known))
        return removed

    def _every(self, going: Container[tuple[str, str]] = ()) -> Iterator[Remembered]:
        for known in list(self.cache.attachments()):
            attachment = known.attachment
            if not attachment.container_id.startswith(OURS) or netns.is_namespace(attachment.netns):
                continue
            key = attachment.container_id, attachment.ifname
            if key in going or not self.records.has(*key):
                yield known


def _of_result(known: Remembered) -> Finding:
    return Finding(
        what=RESULT,
        container=known.attachment.container_id,
        ifname=known.attachment.ifname,
        pod="",
        networks=(known.network,),
        why="it is not attached, and its network namespace is gone",
    )


def _reclaimer(environ: Mapping[str, str]) -> tuple[Reclaimer, Ledger]:
    settings = read_settings(environ)
    conf = state.find_conf(environ)
    if conf is None:
        where = environ.get("NETCONFPATH") or layout.of_host(Host()).conf_dir
        raise InvalidConfiguration(
            "could not find out what plexus attaches here",
            f'no configuration in "{where}" has the plugin: NETCONFPATH says where to look',
            id="PLX-CONF-MISSING",
        )
    path = settings.path or (layout.of_host(Host()).bin_dir,)
    request = Request(command="GC", path=path, environ=environ).with_conf(conf)
    reclaimer = Reclaimer.of(request)
    return reclaimer, reclaimer.records


def _raise_failures(outcomes: Iterable[Outcome]) -> None:
    failed = [f'container "{outcome.finding.container}": {outcome.failure}' for outcome in outcomes if outcome.failure]
    if failed:
        raise DeleteIncomplete("could not clean up after all of them", " / ".join(failed), id="PLX-DEL")


def _as_json(outcomes: list[Outcome], *, dry_run: bool) -> str:
    entries = [asdict(outcome.finding) | ({} if dry_run else _result(outcome)) for outcome in outcomes]
    return json.dumps(entries, indent=4, ensure_ascii=False)


def _result(outcome: Outcome) -> dict[str, Any]:
    return {"removed": outcome.removed, "failure": outcome.failure}


def _as_text(outcomes: list[Outcome], *, dry_run: bool) -> str:
    if not outcomes:
        return "nothing to remove"
    rows = [(*_cells(outcome.finding), _told(outcome, dry_run=dry_run)) for outcome in outcomes]
    return "\n".join(table.lines(HEADINGS, rows))


def _cells(finding: Finding) -> tuple[str, ...]:
    return finding.what, finding.container, finding.pod, ",".join(finding.networks), " ".join(finding.why.split())


def _told(outcome: Outcome, *, dry_run: bool) -> str:
    if dry_run:
        return "would be removed"
    return "removed" if outcome.removed else "kept" if not outcome.failure else "failed"
