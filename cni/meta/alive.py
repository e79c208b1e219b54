"""Who is dead, by proof; everybody else is alive (docs/adr/0019-who-is-alive.md)."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator, Mapping

from cni.linux import disk, living, netns
from cni.linux.links import Links
from cni.linux.netns import Identity, NetnsMissing
from cni.plugin import ledger
from cni.plugin.ledger import Record
from cni.spec import netconf
from cni.spec.errors import CNIError

log = logging.getLogger(__name__)

LOOKS = 5
"""At a namespace that is somewhere else each time; then it is taken to live."""


class World:
    """What this machine shows of itself, each thing looked at once, when it is asked for."""

    def __init__(self, ledger_directory: str) -> None:
        self.ledger_directory = ledger_directory

    def death_of(self, record: Record) -> str:
        """What proves that the container is dead; "" while it may live."""
        if record.boot_id and self.boot_id and record.boot_id != self.boot_id:
            return "it lived in an earlier boot" if self.has_own_ledger else ""
        if not record.netns_inode or record.pid_namespace != self.pid_namespace or _is_in_its_place(record):
            return ""
        if self._has_namespace(record) or self._has_link(record):
            return ""
        return "its network namespace is gone"

    @functools.cached_property
    def boot_id(self) -> str:
        """The running boot's identity."""
        return ledger.boot_id()

    @functools.cached_property
    def pid_namespace(self) -> int:
        """Whose processes we see."""
        return living.pid_namespace()

    @functools.cached_property
    def has_own_ledger(self) -> bool:
        """Whether all boots of the ledger are this machine's."""
        return disk.has_one_user(self.ledger_directory)

    @functools.cached_property
    def namespaces(self) -> Mapping[int, str] | None:
        """The network namespaces that live, by inode, and where to find them; None where that cannot be told."""
        try:
            return living.network_namespaces()
        except CNIError as error:
            log.warning("nobody of this boot is taken for dead: %s", error)
            return None

    @functools.cached_property
    def marks(self) -> frozenset[str] | None:
        """The marks of our interfaces on the host; None where they cannot be read."""
        with contextlib.suppress(CNIError), Links() as links:
            return frozenset(link.alias for link in links.every("veth"))
        return None

    def _has_namespace(self, record: Record) -> bool:
        """Whether its namespace lives, or one that cannot be told from it."""
        for _ in range(LOOKS):
            if self.namespaces is None:
                return True
            path = self.namespaces.get(record.netns_inode)
            found = _may_be_there(record, path) if path else False
            if found is not None:
                return found
            del self.namespaces  # it has gone from there this very moment, and may be elsewhere
        return True

    def _has_link(self, record: Record) -> bool:
        """Whether an interface of the container's is here still, or may be: it lasts as long as its peer."""
        return self.marks is None or not self.marks.isdisjoint(_marks(record))


def _is_in_its_place(record: Record) -> bool:
    """Whether its namespace is where it was, as it is for nearly all: the whole machine need not be searched for it."""
    return netns.find_inode(record.netns) == record.netns_inode and _may_be_there(record, record.netns) is True


def _may_be_there(record: Record, path: str) -> bool | None:
    """Whether the namespace at `path` cannot be told from its own; None where none of that inode is there any more."""
    try:
        found = netns.identity(path)
    except NetnsMissing:
        return None
    except CNIError:
        return True
    if found.inode != record.netns_inode:
        return None
    return found.may_be(Identity(record.netns_inode, record.netns_cookie))


def _marks(record: Record) -> Iterator[str]:
    from delegates import host_veth

    for entry in record.entries:
        with contextlib.suppress(CNIError):
            yield host_veth.alias_of(netconf.parse(entry.conf).name, record.container_id, entry.ifname)
