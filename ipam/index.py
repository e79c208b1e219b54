"""Where the leases of an attachment may be: a table beside their directory, so that nobody has to read every lease.

The table only says where to look; a lease itself says whose it is. That the table leaves none out is what its *seal*
vouches for: the directory's inode and its two times, as the last of us left them. Whoever makes or removes a file gives
the directory's mtime and ctime the same new value; a seal has an mtime of our own making, some seconds older than the
ctime. So the seal is broken by the first change of anybody else's, and by our own if we are killed before we note it;
then every lease is read, once, and the table is written anew.

The table need not reach the disk before the leases do: it holds for one boot of the machine. In the next it is a
witness: whoever is in it had a lease before the machine went down.
"""

from __future__ import annotations

import binascii
import contextlib
import functools
import ipaddress
import os
import stat
import struct
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from cni.plugin import files

if TYPE_CHECKING:
    from cni.spec.model import IPAddress

HEADER = struct.Struct("=16s36s32s4xQqqI4x")
"""What this is, boot and machine that it holds for, the directory's inode, mtime and ctime, the number of buckets."""
MAGIC = b"plexus index 2"
ENTRY = struct.Struct("=IB3x16s")
"""A checksum of whom a lease belongs to, the version of the address, the address."""
NONE = bytes(ENTRY.size)
ROOM = 128
"""Entries that a bucket has room for."""
FILL = 32
"""Entries for each bucket of a new table, at most: it must not soon be too small."""
BUCKET = ROOM * ENTRY.size
FEWEST_BUCKETS = 8
SEAL_AGE = 3 * 10**9
"""Nanoseconds from a seal's mtime to its ctime; more than the coarsest file system rounds away."""
FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
BOOT_ID = "/proc/sys/kernel/random/boot_id"
MACHINE_ID = "/etc/machine-id"
LONGEST = 1 << 26
"""Bytes of a table that are read of an earlier boot."""

Seal = tuple[bytes, bytes, int, int, int]
"""The boot, the machine, and the directory's inode, mtime and ctime."""


class Index:
    """The table of one directory, for the holder of the directory's lock.

    Nothing here raises OSError: what cannot be read or written is not vouched for, and the leases are read instead.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._path = path_of(directory)
        self._descriptor = -1
        self._buckets = 0
        self._seal: Seal | None = None
        self._earlier: frozenset[bytes] = frozenset()

    @property
    def is_of_earlier_boot(self) -> bool:
        """Whether the table was written by this machine, before it was last started."""
        return bool(self._earlier)

    def held_before_boot(self, holder: str, address: IPAddress) -> bool:
        """Whether `holder` had the lease of `address` when this machine was last started, by a table of before."""
        return _entry(holder, address) in self._earlier

    @property
    def vouches(self) -> bool:
        """Whether no lease is left out."""
        return self._buckets > 0

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Use the table; what the block did stays known to those who come later."""
        try:
            self._open()
            yield
        finally:
            self._close()

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Make a change and note it; where the block fails, nobody knows which of it happened."""
        try:
            yield
        except BaseException:
            self._buckets = 0
            raise

    def find(self, holder: str) -> list[IPAddress] | None:
        """Where leases of `holder` may be, and all that there are; None where only the leases themselves know."""
        content = self._read(_checksum(holder)) if self.vouches else None
        if content is None:
            return None
        wanted = _checksum(holder)
        return [
            _address(version, packed)
            for checksum, version, packed in ENTRY.iter_unpack(content)
            if version and checksum == wanted
        ]

    def has(self, holder: str, address: IPAddress) -> bool:
        """Whether `holder` may have the lease of `address`; True where only the lease itself knows."""
        places = self.find(holder)
        return places is None or address in places

    def has_holder(self, address: IPAddress) -> bool:
        """Whether somebody has the lease of `address`; False where only the lease itself knows."""
        nobody = _entry("", address)
        return self.vouches and any(entry[4:] == nobody[4:] and entry != nobody for entry in self._entries())

    def add(self, holder: str, address: IPAddress) -> None:
        """Note that `holder` has the lease of `address` now."""
        self._replace(_checksum(holder), NONE, _entry(holder, address))

    def remove(self, holder: str, address: IPAddress) -> None:
        """Note that `holder` has it no more."""
        self._replace(_checksum(holder), _entry(holder, address), NONE)

    def rebuild(self, leases: Collection[tuple[IPAddress, str]]) -> None:
        """Write the table anew: these are all leases of the directory, and their holders."""
        self._forget()
        buckets = _buckets(leases)
        if not buckets:
            with contextlib.suppress(OSError):
                os.unlink(self._path)  # what there is would be a witness in boots to come
            return
        table = b"".join(bucket.ljust(BUCKET, b"\0") for bucket in buckets)
        with contextlib.suppress(OSError):
            # Emptied first, and without a header until it is sealed: half a table vouches for nothing.
            if not _is_file(self._path):
                os.unlink(self._path)
            self._descriptor = os.open(self._path, FLAGS | os.O_CREAT | os.O_TRUNC, 0o600)
            files.write(self._descriptor, bytes(HEADER.size) + table)
            self._buckets = len(buckets)

    def _open(self) -> None:
        with contextlib.suppress(OSError, struct.error):
            self._descriptor = os.open(self._path, FLAGS)
            header = os.pread(self._descriptor, HEADER.size, 0)
            *_, buckets = HEADER.unpack(header)
            self._seal = _seal(self._directory)
            if header == HEADER.pack(MAGIC, *self._seal, buckets):
                self._buckets = buckets
            elif _is_of_earlier_boot(header, self._seal):
                self._earlier = self._entries()

    def _entries(self) -> frozenset[bytes]:
        """All entries of the table, whatever has become of the directory."""
        content = os.pread(self._descriptor, LONGEST, HEADER.size)
        whole = len(content) // ENTRY.size * ENTRY.size
        places = range(0, whole, ENTRY.size)
        return frozenset(content[place : place + ENTRY.size] for place in places) - {NONE}

    def _close(self) -> None:
        if self.vouches:
            with contextlib.suppress(OSError):
                self._renew_seal()
        self._forget()

    def _renew_seal(self) -> None:
        """Vouch for the directory as it is now, if it is not as it was: all that has changed was changed by us."""
        if _seal(self._directory) == self._seal:
            return
        found = os.stat(self._directory)
        # Not twice the same: another table of this directory, by another path to it, must not take it for its own.
        age = SEAL_AGE + int.from_bytes(os.urandom(4), "little")
        os.utime(self._directory, ns=(found.st_atime_ns, found.st_ctime_ns - age))
        os.pwrite(self._descriptor, HEADER.pack(MAGIC, *_seal(self._directory), self._buckets), 0)

    def _forget(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._buckets, self._seal, self._earlier = -1, 0, None, frozenset()

    def _read(self, checksum: int) -> bytes | None:
        """The bucket for `checksum`; None where the table is not what it says, which then vouches for nothing."""
        with contextlib.suppress(OSError):
            content = os.pread(self._descriptor, BUCKET, self._offset(checksum))
            if len(content) == BUCKET:
                return content
        self._buckets = 0
        return None

    def _replace(self, checksum: int, old: bytes, new: bytes) -> None:
        """Write `new` over the first `old` of its bucket; where there is none, nothing is vouched for any more.

        No room means that the table is too small by now, and no entry that somebody wrote over a lease.
        """
        if not self._buckets:
            return
        content = self._read(checksum) or b""
        places = (place for place in range(0, len(content), ENTRY.size) if content.startswith(old, place))
        place = next(places, None)
        written = 0
        if place is not None:
            with contextlib.suppress(OSError):
                written = os.pwrite(self._descriptor, new, self._offset(checksum) + place)
        if written != len(new):
            self._buckets = 0

    def _offset(self, checksum: int) -> int:
        return HEADER.size + checksum % self._buckets * BUCKET


def path_of(directory: str) -> str:
    """Where the table of a network's directory is."""
    parent, name = os.path.split(directory)
    return os.path.join(parent, f".{name}.index")  # no network's name begins with a dot


def _is_file(path: str) -> bool:
    """Whether nothing but a file is there, if anything."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except FileNotFoundError:
        return True


def _buckets(leases: Collection[tuple[IPAddress, str]]) -> list[bytearray]:
    """The buckets of a table for these leases; none where a single holder, or nobody, has too many for one."""
    buckets = [bytearray() for _ in range(max(FEWEST_BUCKETS, 1 << (len(leases) // FILL).bit_length()))]
    for address, holder in leases:
        checksum = _checksum(holder)
        buckets[checksum % len(buckets)] += ENTRY.pack(checksum, address.version, address.packed)
    return buckets if all(len(bucket) <= BUCKET for bucket in buckets) else []


def _entry(holder: str, address: IPAddress) -> bytes:
    return ENTRY.pack(_checksum(holder), address.version, address.packed)


def _address(version: int, packed: bytes) -> IPAddress:
    return ipaddress.IPv4Address(packed[:4]) if version == 4 else ipaddress.IPv6Address(packed)


def _checksum(holder: str) -> int:
    """Two holders may have the same: it costs a look at the other's lease."""
    return binascii.crc32(holder.encode(errors="surrogateescape"))


def _seal(directory: str) -> Seal:
    found = os.stat(directory)
    return _boot(), _machine(), found.st_ino, found.st_mtime_ns, found.st_ctime_ns


def _is_of_earlier_boot(header: bytes, seal: Seal) -> bool:
    """Whether it is the header of a table of this directory, this machine, and another boot."""
    magic, boot, machine, inode, _, _, _ = HEADER.unpack(header)
    ours = magic.rstrip(b"\0") == MAGIC and machine.rstrip(b"\0") == seal[1] and inode == seal[2]
    return bool(ours and seal[1] and boot.strip(b"\0") and boot != seal[0].ljust(len(boot), b"\0"))


@functools.cache
def _boot() -> bytes:
    with open(BOOT_ID, "rb", buffering=0) as file:
        return file.read().strip()


@functools.cache
def _machine() -> bytes:
    """The machine's identity; b"" where it has none, or none yet."""
    try:
        with open(MACHINE_ID, "rb", buffering=0) as file:
            text = file.read(64).strip()
    except OSError:
        return b""
    return text if len(text) == 32 else b""
