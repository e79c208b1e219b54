"""GC: what belongs to no living container goes, in every network there is (section 4, "GC")."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

from cni.meta.networks import Network
from cni.plugin import chain
from cni.plugin.chain import Host
from cni.plugin.ledger import Record
from cni.plugin.rollback import Teardown
from cni.spec import netconf
from cni.spec.netconf import NetConfList

Attachments = set[tuple[str, str]]
"""(container ID, ifname) pairs."""


def collect(
    *,
    every_pods: list[Network],
    known: list[Record],
    valid: Attachments,
    host: Host,
    undo: Callable[[Record], None],
) -> None:
    """Undo the records whose (container ID, CNI_IFNAME) is not in `valid`, then forward GC to all networks.

    Each network is told which of its own attachments live: the interfaces we recorded for the living containers.
    Raises one CNIError naming each failure.
    """
    living = [record for record in known if (record.container_id, record.ifname) in valid]
    teardown = Teardown()
    for record in known:
        if record not in living:
            with teardown.step():
                undo(record)
    attachments = _attachments(living)
    for network in every_pods[:1]:
        attachments[network.conf.name] |= valid
    for conf in _distinct([network.conf for network in every_pods], known):
        with teardown.step():
            chain.gc(chain.with_every_verb(conf, host), host, sorted(attachments[conf.name]))
    teardown.finish("could not collect all garbage")


def _attachments(living: Iterable[Record]) -> defaultdict[str, Attachments]:
    """By configuration name, since that is what plugins keep their state by."""
    attachments: defaultdict[str, Attachments] = defaultdict(set)
    for record in living:
        for entry in record.entries:
            attachments[netconf.parse(entry.conf).name].add((record.container_id, entry.ifname))
    return attachments


def _distinct(configured: list[NetConfList], known: Iterable[Record]) -> Iterable[NetConfList]:
    recorded = [netconf.parse(entry.conf) for record in known for entry in record.entries]
    return {conf.text: conf for conf in configured + recorded}.values()
