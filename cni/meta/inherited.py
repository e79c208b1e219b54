"""What Multus attached before us, from what it remembers: libcni's files, in `results` of its `cniDir`."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable

from cni.plugin import files
from cni.plugin.cache import Cache, Remembered
from cni.plugin.ledger import Entry, Record
from cni.spec.errors import CNIError

MULTUS = "/var/lib/cni/multus"
"""Its `cniDir`, where nobody says otherwise."""


class Inheritance:
    """The attachments that Multus remembers below some directories."""

    def __init__(self, *directories: str) -> None:
        self.directories = tuple(dict.fromkeys(directories))

    def find(self, container_id: str, ifname: str) -> Record | None:
        """What it attached for one call of the runtime, as a record of ours would tell it; None for nothing."""
        return next(iter(self.records({(container_id, ifname)})), None)

    def records(self, calls: Collection[tuple[str, str]]) -> list[Record]:
        """The same for many calls, (container ID, CNI_IFNAME) pairs; files that cannot be read are passed over."""
        known: dict[str, list[Entry]] = {}
        netns: dict[str, str] = {}
        for remembered in self._remembered({container_id for container_id, _ in calls}):
            entry = _entry(remembered)
            if entry is not None:
                known.setdefault(remembered.attachment.container_id, []).append(entry)
                netns[remembered.attachment.container_id] = remembered.attachment.netns
        return [
            Record(container_id=container_id, ifname=ifname, netns=netns[container_id], entries=tuple(entries))
            for container_id, entries in known.items()
            for of, ifname in calls
            if of == container_id and ifname in {entry.ifname for entry in entries}
        ]

    def forget(self, container_id: str) -> None:
        """Remove what it remembers of a container: from now on we do. Raises IOFailure."""
        for remembered in self._remembered({container_id}):
            files.remove(remembered.path)
        for directory in self.directories:
            scratch = os.path.join(directory, container_id)
            if os.path.isfile(scratch):
                files.remove(scratch)

    def _remembered(self, container_ids: Collection[str]) -> Iterable[Remembered]:
        for directory in self.directories:
            yield from Cache(directory).of_containers(container_ids)


def _entry(remembered: Remembered) -> Entry | None:
    entry = Entry(
        network=remembered.network,
        conf=remembered.config,
        ifname=remembered.attachment.ifname,
        args=remembered.attachment.args,
        runtime_config=dict(remembered.attachment.runtime_config),
    )
    try:
        return entry.attached(remembered.get_result()) if remembered.config else None
    except CNIError:
        return entry
