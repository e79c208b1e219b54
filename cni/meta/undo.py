"""Take back what an ADD made, by its record."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace
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


def undo(record: Record, records: Ledger, conf: MetaConf | Places, request: Request, *, told: str = "") -> None:
    """Take back everything that an ADD made, in the namespace that we are `told`, if any.

    Raises one CNIError naming each failure.
    """
    record = replace(record, netns=_sandbox(record, told))
    teardown = Teardown()
    with teardown.step():
        if record.pod:
            surroundings.source(conf, request).withdraw(record.pod_namespace, record.pod_name, lambda: _status(record))
    with teardown.step():
        Container(record, records, surroundings.host(conf, request, record.path), parallel=conf.parallel).detach_all()
    teardown.finish(f'could not delete container "{record.container_id}"')


def finish(record: Record, records: Ledger, conf: MetaConf | Places, request: Request) -> None:
    """Try again what is left of a record among the unfinished. Raises one CNIError naming each failure."""
    record = replace(record, netns="")  # the runtime has given it up, and its path may be another's by now
    host = surroundings.host(conf, request, record.path)
    Container(record, records.unfinished, host, parallel=conf.parallel).detach_all(leave=False)


def _status(record: Record) -> str:
    """What we said of the pod; nothing that anybody said, where that cannot be told any more."""
    from cni.meta import network_status

    with contextlib.suppress(CNIError):
        return network_status.build(record)
    return ""


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
