"""What DEL could not undo: when a runtime is told to try again, and when it is left for those who clean up.

A runtime keeps a sandbox until its DEL succeeds. What no DEL mends must not keep it for ever, nor be forgotten: it
leaves the container's record for one among the unfinished, which `plexus gc` and the daemon try again.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import replace

from cni.linux import netns
from cni.meta import devices_gone
from cni.plugin.ledger import DamagedRecord, Entry, Ledger, NewerRecord, Record
from cni.spec import netconf
from cni.spec.errors import (
    CNIError,
    DecodingFailure,
    DeleteIncomplete,
    IncompatibleVersion,
    InvalidConfiguration,
    InvalidEnvironment,
    IOFailure,
    TryAgainLater,
    UnknownContainer,
    UnsupportedField,
)

log = logging.getLogger(__name__)

UNREADABLE = ("PLX-LEDGER-DAMAGED", "PLX-PLUGIN-TYPE")
"""Errors of what is recorded, which does not change any more."""
MISSING = "PLX-PLUGIN-MISSING"
VERDICTS = (IncompatibleVersion, UnsupportedField, InvalidEnvironment, DecodingFailure, InvalidConfiguration)
"""A plugin that answers with one of these codes has judged what is recorded: it will not think better of it."""
PASSING = (TryAgainLater.code, IOFailure.code)
FEW, MANY = 3, 5
"""DELs that fail before it is left: for what no DEL mends, and for all else."""
PATIENCE = 600
"""Seconds for which all else is tried besides."""


def failures(error: CNIError) -> list[CNIError]:
    """The failures that an error tells of, without those that say that there is nothing to undo."""
    parts = error.failures if isinstance(error, DeleteIncomplete) else ()
    every = [failure for part in parts for failure in failures(part)] if parts else [error]
    return [failure for failure in every if failure.code != UnknownContainer.code]


def is_left(entry: Entry, error: CNIError, record: Record, now: float) -> bool:
    """Whether the runtime need not try the entry's DEL again, which has failed with this error, too."""
    if entry.failure is None:
        return False
    reasons = failures(error)
    if all(reason.id in UNREADABLE for reason in reasons):
        return True
    if all(_is_beyond_retry(reason, entry, record) for reason in reasons):
        return entry.failure.tries >= FEW
    return entry.failure.tries >= MANY and now - entry.failure.since >= PATIENCE


def keep(records: Ledger, record: Record, left: tuple[Entry, ...]) -> None:
    """Have these entries of the record among the unfinished, beside what is there already. Raises IOFailure."""
    unfinished = records.unfinished
    known = _find(unfinished, record)
    before = () if known is None else known.entries
    same = {_identity(entry) for entry in left}
    others = tuple(entry for entry in before if _identity(entry) not in same)
    unfinished.write(replace(record, entries=others + left))
    for entry in left:
        log.warning(
            'left for `plexus gc`: network "%s", interface "%s" of container "%s": %s',
            entry.network,
            entry.ifname,
            record.container_id,
            entry.failure.reason if entry.failure else "",
        )


def besides(unfinished: Ledger, record: Record) -> Record | None:
    """The record without what a DEL has left of its container already; None where that is all of it."""
    who = (record.container_id, record.ifname)
    if not unfinished.has(*who) or unfinished.is_newer(*who):  # a DEL that left it to a newer plexus may be cut off
        return record
    try:
        left = unfinished.find(*who)
    except DamagedRecord as error:
        log.warning("%s; taken for all that there is of it", error)
        return None
    names = {_name(entry) for entry in left.entries} if left else set()
    entries = tuple(entry for entry in record.entries if _name(entry) not in names)
    return record.with_entries(entries) if entries else None


def every(records: Ledger) -> Iterator[Record]:
    """The unfinished that may be tried: not those of a container that is attached anew under the same name."""
    for record in records.unfinished.records():
        if not _is_attached(records, record):
            yield record


def _is_attached(records: Ledger, record: Record) -> bool:
    try:
        return records.find(record.container_id, record.ifname) is not None
    except CNIError:
        return True


def _find(unfinished: Ledger, record: Record) -> Record | None:
    try:
        return unfinished.find(record.container_id, record.ifname)
    except (DamagedRecord, NewerRecord) as error:
        log.warning("%s; set aside", error)
        unfinished.set_aside(record.container_id, record.ifname)
        return None


def _name(entry: Entry) -> tuple[str, str]:
    """What tells a network's attachments from others of the container, though its configuration be another by now."""
    try:
        return netconf.parse(entry.conf).name, entry.ifname
    except CNIError:
        return entry.network, entry.ifname


def _identity(entry: Entry) -> tuple[str, str, str]:
    return entry.conf, entry.ifname, entry.args


def _is_beyond_retry(reason: CNIError, entry: Entry, record: Record) -> bool:
    """Whether it takes a hand, or nothing at all, to mend it."""
    if reason.id == MISSING or reason.id in UNREADABLE:
        return True
    if reason.code in PASSING:
        return False
    judged = reason.code in {verdict.code for verdict in VERDICTS}
    return judged or _sandbox_is_gone(record) or devices_gone.any_of(entry)


def _sandbox_is_gone(record: Record) -> bool:
    """Whether a plugin may have failed because it wants the namespace, which the specification does not let it."""
    inode = netns.find_inode(record.netns) if record.netns else 0
    return not inode or (record.netns_inode not in (0, inode)) or not os.path.exists(record.netns)
