"""What a machine shows of a container that no record tells of: the host's ends of its interfaces, and its leases.

Both name the network, and are undone by the DEL of what is built in; what other plugins made shows nothing.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterable, Iterator

from cni.linux.links import Links
from cni.plugin.ledger import Entry, Ledger, Record
from cni.spec import document, netconf
from cni.spec.document import Document
from cni.spec.errors import CNIError

log = logging.getLogger(__name__)


def added(record: Record, records: Ledger) -> Record:
    """The record with what is seen of the container besides."""
    known = {(netconf.parse(entry.conf).name, entry.ifname) for entry in record.entries}
    seen = {**_links(record.container_id), **_leases(record.container_id, records)}
    return record.with_entries(
        (*record.entries, *(_entry(*trace, seen[trace]) for trace in sorted(seen) if trace not in known))
    )


def data_dirs(records: Ledger) -> Iterator[str]:
    """Where the attachments that are known have their leases, and where they are if nobody says otherwise."""
    from ipam.host_local import DATA_DIR

    yield DATA_DIR
    for record in (*records.records(), *records.unfinished.records()):
        for entry in record.entries:
            with contextlib.suppress(CNIError):
                yield from _named(netconf.parse(entry.conf).plugins)


def _entry(network: str, ifname: str, data_dir: str) -> Entry:
    log.warning('interface "%s" is on network "%s", by what it has there', ifname, network)
    ipam = {"ipam": {"type": "host-local", "dataDir": data_dir}} if data_dir else {}
    conf = {"cniVersion": "1.0.0", "name": network, "type": "bridge"} | ipam
    return Entry(network=network, conf=json.dumps(conf), ifname=ifname)


def _links(container_id: str) -> dict[tuple[str, str], str]:
    """The (network, ifname) that marks on the host's interfaces tell of; a long network's name is cut."""
    from delegates import host_veth

    with contextlib.suppress(CNIError), Links() as host:
        marks = filter(None, (host_veth.attachment_of(link.alias, container_id) for link in host.every("veth")))
        return dict.fromkeys(marks, "")
    return {}


def _leases(container_id: str, records: Ledger) -> dict[tuple[str, str], str]:
    """The (network, ifname) that leases tell of, and the directory that the network's are in."""
    from ipam import networks

    found = {}
    for store in networks.stores(data_dirs(records)):
        with contextlib.suppress(CNIError), store.locked():
            for owner in filter(None, map(store.owner, store.addresses())):
                if owner.container_id == container_id:
                    data_dir, network = os.path.split(store.location)
                    found[network, owner.ifname] = data_dir
    return found


def _named(plugins: Iterable[Document]) -> Iterator[str]:
    for plugin in plugins:
        ipam = document.lookup(plugin, "ipam")
        directory = document.lookup(ipam, "dataDir") if isinstance(ipam, dict) else None
        if isinstance(directory, str) and directory.startswith("/"):
            yield directory
