"""Where leases are kept: in the reference plugin's directory on disk, or in memory for tests."""

from __future__ import annotations

import contextlib
import ipaddress
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import filelock

from cni.plugin import files
from cni.spec.errors import TryAgainLater

if TYPE_CHECKING:
    from cni.spec.model import IPAddress

LAST_RESERVED = "last_reserved_ip."
LOCK = "lock"
LOCK_TIMEOUT = 60.0
"""Seconds; a runtime gives a plugin some minutes."""
POLL = 0.01
"""Seconds between tries for the lock: filelock asks, it does not queue."""
SEPARATOR = "\r\n"


@dataclass(frozen=True)
class Owner:
    """The attachment that holds a lease; the oldest plugins noted no `ifname`."""

    container_id: str
    ifname: str = ""

    def __str__(self) -> str:
        return f"{self.container_id} {self.ifname}".strip()


class Store(Protocol):
    """The leases of one network. All but `locked` and `exists` are for the holder of its lock."""

    location: str
    """Where an operator finds it."""

    def exists(self) -> bool:
        """Whether anything was ever kept here."""
        ...

    def locked(self) -> AbstractContextManager[None]:
        """Keep everyone else out, in other processes too; creates the store. Raises TryAgainLater, IOFailure."""
        ...

    def addresses(self) -> list[IPAddress]:
        """Every address that has a lease, or the remains of one. Raises IOFailure."""
        ...

    def owner(self, address: IPAddress) -> Owner | None:
        """Who holds the lease of `address`; None where nobody does. Raises IOFailure."""
        ...

    def reserve(self, address: IPAddress, owner: Owner) -> bool:
        """Lease `address` unless it is taken; whether it is now the owner's. Raises IOFailure."""
        ...

    def release(self, address: IPAddress) -> None:
        """Give the lease back, if there is one. Raises IOFailure."""
        ...

    def last_reserved(self, set_index: int) -> IPAddress | None:
        """The newest lease of a range set, as far as that is known. Raises IOFailure."""
        ...

    def note_last_reserved(self, set_index: int, address: IPAddress) -> None:
        """Let the next search in the range set begin after `address`. Raises IOFailure."""
        ...


class DirectoryStore:
    """One file per lease, named as its address; a reference host-local may work in the same directory.

    The reference creates the file and then writes it, both under the lock. One that is empty while we hold the lock is
    thus what a crash left: nobody's, and free to be taken.
    """

    def __init__(self, location: str) -> None:
        self.location = location

    def exists(self) -> bool:
        """Whether the directory does."""
        return os.path.isdir(self.location)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold flock(2) of the `lock` file, which is never removed, as the reference plugin does."""
        files.ensure_directory(self.location, 0o755)
        path = self._path(LOCK)
        # A soft lock, which is what a file system without flock(2) would get, does not stop the reference plugin.
        lock = filelock.FileLock(path, mode=0o750, timeout=LOCK_TIMEOUT, poll_interval=POLL, fallback_to_soft=False)
        files.change(f'lock "{path}"', _acquire, lock)
        try:
            yield
        finally:
            lock.release()

    def addresses(self) -> list[IPAddress]:
        """The names that are addresses: the lock and the notes are none."""
        names = files.change(f'list "{self.location}"', os.listdir, self.location)
        return [address for address in map(_address, names) if address]

    def owner(self, address: IPAddress) -> Owner | None:
        """What the address's file says."""
        content = files.read(self._path(str(address)))
        return _owner(content) if content else None

    def reserve(self, address: IPAddress, owner: Owner) -> bool:
        """Make the address's file, complete from its first moment."""
        path = self._path(str(address))
        content = f"{owner.container_id}{SEPARATOR}{owner.ifname}".encode()
        if files.create(path, content):
            return True
        if files.read(path):
            return False
        files.replace(path, content, durable=False)
        return True

    def release(self, address: IPAddress) -> None:
        """Remove the address's file."""
        files.remove(self._path(str(address)))

    def last_reserved(self, set_index: int) -> IPAddress | None:
        """What the set's note says; None for one that makes no sense, which only costs the round robin its place."""
        content = files.read(self._path(f"{LAST_RESERVED}{set_index}"))
        return _address(content.decode(errors="replace").strip()) if content else None

    def note_last_reserved(self, set_index: int, address: IPAddress) -> None:
        """Write the set's note."""
        files.replace(self._path(f"{LAST_RESERVED}{set_index}"), str(address).encode(), durable=False)

    def _path(self, name: str) -> str:
        return os.path.join(self.location, name)


@dataclass
class MemoryStore:
    """The same in a dictionary, for tests of what stands on a store."""

    location: str = "memory"
    leases: dict[IPAddress, Owner | None] = field(default_factory=dict)
    last: dict[int, IPAddress] = field(default_factory=dict)

    def exists(self) -> bool:
        """It does."""
        return True

    def locked(self) -> AbstractContextManager[None]:
        """Nobody else knows it."""
        return contextlib.nullcontext()

    def addresses(self) -> list[IPAddress]:
        """The dictionary's keys."""
        return list(self.leases)

    def owner(self, address: IPAddress) -> Owner | None:
        """The dictionary's value."""
        return self.leases.get(address)

    def reserve(self, address: IPAddress, owner: Owner) -> bool:
        """Set it, over None too."""
        if self.leases.get(address):
            return False
        self.leases[address] = owner
        return True

    def release(self, address: IPAddress) -> None:
        """Delete it."""
        self.leases.pop(address, None)

    def last_reserved(self, set_index: int) -> IPAddress | None:
        """What was noted."""
        return self.last.get(set_index)

    def note_last_reserved(self, set_index: int, address: IPAddress) -> None:
        """Note it."""
        self.last[set_index] = address


def _acquire(lock: filelock.BaseFileLock) -> None:
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise TryAgainLater(
            f'could not lock "{lock.lock_file}"',
            f"another process has held it for {lock.timeout:.0f} seconds; `fuser {lock.lock_file}` names it",
            id="PLX-IPAM-LOCKED",
        ) from error


def _address(text: str) -> IPAddress | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return address if str(address) == text else None


def _owner(content: bytes) -> Owner:
    container_id, _, ifname = content.decode(errors="replace").strip().partition(SEPARATOR)
    return Owner(container_id, ifname)
