"""Leases in the reference plugin's directory: one file each, named as its address."""

from __future__ import annotations

import contextlib
import errno
import functools
import ipaddress
import logging
import os
import stat
import threading
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

import filelock

from cni.plugin import files
from cni.spec.errors import IOFailure, TryAgainLater
from ipam.index import Index
from ipam.store import Owner

if TYPE_CHECKING:
    from cni.spec.model import IPAddress

log = logging.getLogger(__name__)

LAST_RESERVED = "last_reserved_ip."
LOCK = "lock"
LOCK_TIMEOUT = 60.0
"""Seconds; a runtime gives a plugin some minutes."""
POLL = 0.01
"""Seconds between tries for the lock: filelock asks, it does not queue."""
SEPARATOR = "\r\n"
LONGEST = 65536
"""Bytes of a lease that are read: no owner is longer."""
NO_LEASE = b"\0"
"""What is read where no file is: nobody's, and not to be taken."""
PROBES = 256
"""Addresses that are looked at one by one before all are listed: together they take as long as listing thousands."""


class Lock:
    """Keeps out other processes, by filelock, and before that other threads of this one: they are woken in turn."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._threads = threading.Lock()
        # A soft lock, which is what a file system without flock(2) would get, does not stop the reference plugin.
        self._processes = filelock.FileLock(path, mode=0o750, fallback_to_soft=False, thread_local=False)

    def acquire(self) -> None:
        """Have it. Raises TryAgainLater, IOFailure."""
        if not self._threads.acquire(timeout=LOCK_TIMEOUT):
            raise _locked(self.path)
        try:
            files.change(f'lock "{self.path}"', self._keep_out)
        except BaseException:
            self._threads.release()
            raise

    def release(self) -> None:
        """Let the next have it."""
        try:
            self._processes.release()
        finally:
            self._threads.release()

    def _keep_out(self) -> None:
        try:
            self._processes.acquire(LOCK_TIMEOUT, POLL)
        except filelock.Timeout as error:
            raise _locked(self.path) from error


@functools.lru_cache(maxsize=128)
def _lock(path: str) -> Lock:
    """The lock of the path, as long as few are asked for besides."""
    return Lock(path)


class DirectoryStore:
    """One file per lease, named as its address; a reference host-local may work in the same directory.

    The reference creates the file and then writes it, both under the lock. One that is empty while we hold the lock is
    thus what a crash left: nobody's, and free to be taken.

    Whose a lease is costs the same whatever their number: an index says where to look. It stands beside the directory,
    because the reference reads every file that is inside.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        self._index = Index(location)

    def exists(self) -> bool:
        """Whether the directory does."""
        return os.path.isdir(self.location)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold flock(2) of the `lock` file, which is never removed, as the reference plugin does."""
        with self._locked():
            if self._index.is_of_earlier_boot:
                with contextlib.suppress(IOFailure):  # who asks for what cannot be read hears of it
                    self._forget_the_dead()
            yield

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        files.ensure_directory(self.location, 0o755)
        lock = _lock(self._path(LOCK))
        lock.acquire()
        try:
            with self._index.opened():
                yield
        finally:
            lock.release()

    def dead(self) -> list[tuple[IPAddress, Owner]]:
        """The leases that the next use will give back, and whose they were. Raises TryAgainLater, IOFailure."""
        with self._locked():
            owners = [(address, _owner(told)) for address, told in self._dead(self._read_all())]
        return [(address, owner) for address, owner in owners if owner]

    def _forget_the_dead(self) -> None:
        """Give back, at the first use after a boot, the leases whose owners died with the machine."""
        leases = self._read_all()
        dead = self._dead(leases)
        for address, _ in dead:
            files.remove(self._path(str(address)))
        if dead:
            log.info('gave back %d leases of "%s", whose owners died with the machine', len(dead), self.location)
        self._index.rebuild([lease for lease in leases if lease not in dead])

    def _dead(self, leases: list[tuple[IPAddress, str]]) -> list[tuple[IPAddress, str]]:
        """Those of which it is proven that their owners had them before the machine was last started.

        Proof is the table that was ours then, and the lease's own age (docs/adr/0019-who-is-alive.md).
        """
        from cni.linux import disk  # once in a boot
        from ipam import before_boot

        if not self._index.is_of_earlier_boot or not disk.has_one_user(self.location):
            return []
        begun = before_boot.clock()
        known = [(address, told) for address, told in leases if told and self._index.held_before_boot(told, address)]
        return [(address, told) for address, told in known if self._age(address) < begun]

    def _age(self, address: IPAddress) -> float:
        """When the lease was written, in seconds since 1970; infinity where that cannot be told."""
        try:
            return os.stat(self._path(str(address))).st_mtime
        except OSError:
            return float("inf")

    def addresses(self) -> list[IPAddress]:
        """The names that are addresses: the lock and the notes are none."""
        return [address for _, address in self._names()]

    def owner(self, address: IPAddress) -> Owner | None:
        """What the address's file says."""
        return _owner(self._read(str(address)))

    def held_by(self, owner: Owner) -> list[IPAddress]:
        """The addresses whose files say so, of those that the index names."""
        return self._held_by(owner)

    def remains(self) -> list[IPAddress]:
        """The addresses whose files are empty."""
        return [address for address in self._held_by(None) if os.path.lexists(self._path(str(address)))]

    def untaken(self, addresses: Iterable[IPAddress]) -> Iterator[IPAddress]:
        """The addresses without a file, or with an empty one; where many in a row are taken, without a file."""
        rest = iter(addresses)
        yield from (address for address in islice(rest, PROBES) if not self._is_taken(address))
        names = set(files.change(f'list "{self.location}"', os.listdir, self.location))
        yield from (address for address in rest if str(address) not in names)

    def reserve(self, address: IPAddress, owner: Owner) -> bool:
        """Make the address's file, complete from its first moment."""
        path = self._path(str(address))
        content = f"{owner.container_id}{SEPARATOR}{owner.ifname}".encode()
        with self._index.changing():
            if not files.create(path, content):
                if self._read(str(address)) or self._index.has_holder(address):
                    return False
                files.replace(path, content, durable=False)
                self._index.remove(_told(None), address)
            self._index.add(_told(owner), address)
        return True

    def release(self, address: IPAddress) -> None:
        """Remove the address's file."""
        with self._index.changing():
            told = self._read(str(address))
            if files.remove(self._path(str(address))):
                self._index.remove(told, address)

    def last_reserved(self, set_index: int) -> IPAddress | None:
        """What the set's note says; None for one that makes no sense, which only costs the round robin its place."""
        try:
            content = files.read_own(self._path(f"{LAST_RESERVED}{set_index}"))
        except files.Unusable:
            return None
        return _address(content.decode(errors="replace").strip()) if content else None

    def note_last_reserved(self, set_index: int, address: IPAddress) -> None:
        """Write the set's note; where that cannot be, nothing is lost but its place."""
        path = self._path(f"{LAST_RESERVED}{set_index}")
        try:
            _overwrite(path, str(address).encode())
        except OSError as error:
            log.warning('could not write "%s": %s', path, files.reason(error))

    def _held_by(self, owner: Owner | None) -> list[IPAddress]:
        """The addresses whose files say so. Where the index cannot vouch for itself, all are read and it is rebuilt."""
        told = _told(owner)
        places = self._index.find(told)
        if places is None:
            leases = self._read_all()
            self._index.rebuild(leases)
            return [address for address, text in leases if text == told]
        return [address for address in places if self._is_of(address, told)]

    def _is_of(self, address: IPAddress, told: str) -> bool:
        """Whether the lease says so; or whether the index alone does, where nobody but damage can have changed it."""
        found = self._read(str(address))
        if found == told or not told:
            return found == told
        return not self._index.has(found, address)

    def _read_all(self) -> list[tuple[IPAddress, str]]:
        """Every lease, and what it says of its owner. Raises IOFailure."""
        return [(address, self._read(name)) for name, address in self._names()]

    def _names(self) -> Iterator[tuple[str, IPAddress]]:
        names = files.change(f'list "{self.location}"', os.listdir, self.location)
        found = ((name, _address(name)) for name in names)
        return ((name, address) for name, address in found if address)

    def _read(self, name: str) -> str:
        """What the lease says of its owner; "" where there is none, or nobody."""
        path = f"{self.location}/{name}"
        return _normal(files.change(f'read "{path}"', _content, path))

    def _is_taken(self, address: IPAddress) -> bool:
        try:
            found = os.stat(self._path(str(address)), follow_symlinks=False)
        except OSError:
            return False  # if it is there in some other way, reserving it says so
        return found.st_size > 0 or not stat.S_ISREG(found.st_mode)

    def _path(self, name: str) -> str:
        return os.path.join(self.location, name)


def _locked(path: str) -> TryAgainLater:
    return TryAgainLater(
        f'could not lock "{path}"',
        f"others have held it for {LOCK_TIMEOUT:.0f} seconds; `fuser {path}` names them",
        id="PLX-IPAM-LOCKED",
    )


def _address(text: str) -> IPAddress | None:
    """The address that the text is the usual form of."""
    with contextlib.suppress(ValueError):
        address = _ipv4(text) if text[:1].isdecimal() and ":" not in text else ipaddress.ip_address(text)
        return address if str(address) == text else None
    return None


def _ipv4(text: str) -> ipaddress.IPv4Address:
    """Half the time of the library's parser, for directories with very many leases; the caller compares the text."""
    return ipaddress.IPv4Address(bytes(map(int, text.split("."))))


def _overwrite(path: str, content: bytes) -> None:
    """Write a note in place: replacing a file is a third of an ADD on ext4, and half a note costs only the place."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    try:
        os.write(descriptor, content)
        os.ftruncate(descriptor, len(content))
    finally:
        os.close(descriptor)


def _content(path: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return b""
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.ENODEV):
            return NO_LEASE
        raise
    try:
        return os.read(descriptor, LONGEST) if stat.S_ISREG(os.fstat(descriptor).st_mode) else NO_LEASE
    finally:
        os.close(descriptor)


def _told(owner: Owner | None) -> str:
    """What a lease says of its owner."""
    return f"{owner.container_id}{SEPARATOR}{owner.ifname}" if owner else ""


def _normal(content: bytes) -> str:
    """The same, of what is in its file."""
    text = content.decode(errors="replace").strip()
    return text if not content or SEPARATOR in text else f"{text}{SEPARATOR}"


def _owner(told: str) -> Owner | None:
    container_id, _, ifname = told.partition(SEPARATOR)
    return Owner(container_id, ifname) if told else None
