"""GC: what belongs to no living container goes, in every network there is (section 4, "GC")."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable

from cni.meta.networks import Network
from cni.plugin import chain, deadline
from cni.plugin.chain import Host
from cni.plugin.ledger import Record
from cni.plugin.rollback import Teardown
from cni.spec import netconf
from cni.spec.errors import CNIError, TryAgainLater
from cni.spec.netconf import NetConfList

log = logging.getLogger(__name__)

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

    Each network is told which of its own attachments live: the interfaces we recorded for the living containers. Where
    the record of one is lost, only the first network, whose interface the runtime itself names, is. Raises one
    CNIError naming each failure.
    """
    living = [record for record in known if (record.container_id, record.ifname) in valid]
    unknown = valid - {(record.container_id, record.ifname) for record in living if _is_readable(record)}
    teardown = Teardown()
    for record in known:
        if record not in living:
            with teardown.step():
                _check_time(f'container "{record.container_id}"')
                undo(record)
    attachments = _attachments(living)
    for network in every_pods[:1]:
        attachments[network.conf.name] |= valid
    for conf in _collectable(every_pods, known, unknown):
        with teardown.step():
            _check_time(f'network "{conf.name}"')
            chain.gc(chain.with_every_verb(conf, host), host, sorted(attachments[conf.name]))
    teardown.finish("could not collect all garbage")


def _check_time(what: str) -> None:
    if deadline.is_over():
        raise TryAgainLater(
            f"could not collect the garbage of {what}", "the time of the call is over", id="PLX-GC-LATE"
        )


def _attachments(living: Iterable[Record]) -> defaultdict[str, Attachments]:
    """By configuration name, since that is what plugins keep their state by."""
    attachments: defaultdict[str, Attachments] = defaultdict(set)
    for record in living:
        for conf, entry in zip(_confs(record), record.entries, strict=True):
            if conf is not None:
                attachments[conf.name].add((record.container_id, entry.ifname))
    return attachments


def _collectable(every_pods: list[Network], known: Iterable[Record], unknown: Attachments) -> Iterable[NetConfList]:
    """Each network of which it is known who lives in it; `unknown` are living containers that may be in any."""
    configured = [network.conf for network in every_pods]
    recorded = [conf for record in known for conf in _confs(record) if conf is not None]
    confs = {conf.text: conf for conf in configured + recorded}.values()
    if not unknown:
        return confs
    told = "only the cluster network is collected: what else %d living containers are attached to is not recorded: %s …"
    log.warning(told, len(unknown), min(unknown)[0])
    return [conf for conf in confs if conf.name in {first.name for first in configured[:1]}]


def _confs(record: Record) -> list[NetConfList | None]:
    """The configurations of a record's entries; None for one that cannot be read."""
    return [_find_conf(entry.conf) for entry in record.entries]


def _is_readable(record: Record) -> bool:
    return None not in _confs(record)


def _find_conf(text: str) -> NetConfList | None:
    try:
        return netconf.parse(text)
    except CNIError:
        return None
