"""Take back what an ADD made, by its record."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from cni.linux import netns
from cni.linux.netns import Identity
from cni.meta import surroundings
from cni.meta.container import Container
from cni.plugin import ledger
from cni.plugin.ledger import Ledger, Record
from cni.plugin.rollback import Teardown
from cni.spec.errors import CNIError
from cni.spec.request import Request

if TYPE_CHECKING:
    from cni.meta.config import MetaConf
    from cni.meta.places import Places

log = logging.getLogger(__name__)


def undo(
    record: Record,
    records: Ledger,
    conf: MetaConf | Places,
    request: Request,
    *,
    told: str = "",
    is_dead: bool = False,
) -> None:
    """Take back everything that an ADD made, in the namespace that we are `told`, if any, and in none of the dead.

    Raises one CNIError naming each failure.
    """
    sandbox = "" if is_dead else _sandbox(record, told)
    host = surroundings.host(conf, request, record.path)
    container = Container(record, records, host, parallel=conf.parallel, sandbox=sandbox)
    teardown = Teardown()
    with teardown.step():
        if record.pod:
            source = surroundings.source(conf, request)
            source.withdraw(
                record.pod_namespace, record.pod_name, lambda present: _is_said_by(record, records, present)
            )
    is_withdrawn = not teardown.failures
    with teardown.step():
        container.detach_all(settle=is_withdrawn)
    with teardown.step():
        if not is_withdrawn:
            container.remember()  # for the next DEL, be it with nothing to detach any more
    teardown.finish(f'could not delete container "{record.container_id}"')


def finish(record: Record, records: Ledger, conf: MetaConf | Places, request: Request) -> None:
    """Try again what is left of a record among the unfinished. Raises one CNIError naming each failure."""
    host = surroundings.host(conf, request, record.path)
    # The runtime has given it up, and its path may be another's by now.
    container = Container(record, records.unfinished, host, parallel=conf.parallel, sandbox="")
    container.detach_all(leave=False)


def _is_said_by(record: Record, records: Ledger, present: str) -> bool:
    """Whether a network-status is this container's, or that of none who is attached."""
    from cni.meta import network_status

    with contextlib.suppress(CNIError):
        if present == network_status.build(record):
            return True
    others = (other for other in records.records() if (other.container_id, other.ifname) != _name(record))
    return all(other.pod != record.pod for other in others)


def _name(record: Record) -> tuple[str, str]:
    return record.container_id, record.ifname


def _sandbox(record: Record, told: str) -> str:
    """The namespace to clean: the one DEL names, else the recorded one; none that is another container's by now."""
    path = told or record.netns
    if not record.netns_inode or not path:
        return told
    try:
        found = netns.identity(path)
    except CNIError:
        return told
    if _is_of_this_boot(record) and found.may_be(Identity(record.netns_inode, record.netns_cookie)):
        return path
    if told:
        log.warning('nothing is done in "%s", which is not where container "%s" was', told, record.container_id)
    return ""


def _is_of_this_boot(record: Record) -> bool:
    """Whether what told namespaces apart then does so now: each boot begins to count anew."""
    return record.boot_id in ("", ledger.boot_id())
