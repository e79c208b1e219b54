"""Files that hold state: content and existence appear together, so that a crash leaves the old or the new, whole."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import stat
import threading
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

from cni.spec.errors import IOFailure

P = ParamSpec("P")
T = TypeVar("T")
DAMAGED = ".damaged"
MORE = 4096
"""Bytes that are read at a time of files that do not say how many they have, as those of /proc."""
REMEDIES = {
    errno.ENOSPC: "free some there, or some inodes (df -i), and what was begun is finished",
    errno.EDQUOT: "raise the quota there, and what was begun is finished",
    errno.EROFS: "mount it for writing, and what was begun is finished",
    errno.EISDIR: "it is not ours: remove it",
    errno.ELOOP: "it is not ours: remove it",
    errno.ENXIO: "it is not ours: remove it",
    errno.EPERM: "is it immutable (lsattr)?",
    errno.EMFILE: "whoever called has a low limit of open files (ulimit -n)",
    errno.ENFILE: "the machine has too many open files (fs.file-max)",
}
LARGEST = 16 << 20
"""Bytes that are read of a file: none that we know has a tenth of it."""


class Unusable(IOFailure):
    """What is at a path cannot be the file that is wanted: a directory, a FIFO, a device, or much too large."""


TEMPORARY = ".tmp"
"""How the name of a file ends that is being written; it begins with a dot."""


def change(what: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Make one change to the file system. Raises IOFailure, which says what could not be done and why."""
    try:
        return call(*args, **kwargs)
    except OSError as error:
        raise IOFailure(f"could not {what}", reason(error), id="PLX-IO") from error


def reason(error: OSError) -> str:
    """What the system says, and what to do about it where that is known."""
    number = error.errno or errno.EIO
    return os.strerror(number) + (f": {REMEDIES[number]}" if number in REMEDIES else "")


def ensure_directory(path: str, mode: int = 0o700) -> None:
    """Create `path` and its parents where they are missing. Raises IOFailure."""
    change(f'create the directory "{path}"', make_directory, path, mode)


def make_directory(path: str, mode: int) -> None:
    """Create `path` and its parents where they are missing, these for root alone to write to. Raises OSError."""
    try:
        _make_one(path, mode)
    except FileNotFoundError:
        if not os.path.dirname(path):
            raise
        make_directory(os.path.dirname(path), 0o755)  # os.makedirs would leave their mode to the runtime's umask
        _make_one(path, mode)  # where nothing can be made, as in /proc, it is not there now either


def _make_one(path: str, mode: int) -> None:
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        if not os.path.isdir(path):
            raise


def check_directory(path: str) -> None:
    """Raise IOFailure unless files can be made in the directory `path`, or it can be made itself."""
    change(f'write to the directory "{path}"', _check_directory, path)


def _check_directory(path: str) -> None:
    path = os.path.abspath(path)
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    if not os.path.isdir(path):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    if not os.access(path, os.W_OK | os.X_OK):
        number = errno.EROFS if os.statvfs(path).f_flag & os.ST_RDONLY else errno.EACCES
        raise OSError(number, os.strerror(number), path)


def replace(path: str, content: bytes, mode: int = 0o600, *, durable: bool = True, lasting: bool | None = None) -> None:
    """Write `path` anew: temporary file, fsync (where it must outlive a power failure), rename. Raises IOFailure.

    `lasting` is false where the old content will do after a power failure, as long as it is whole.
    """
    lasting = durable if lasting is None else lasting
    change(f'write "{path}"', _replace, path, content, mode, durable, lasting)


def create(path: str, content: bytes, mode: int = 0o600) -> bool:
    """Write `path` unless it exists; whether it was written. Raises IOFailure."""
    return change(f'write "{path}"', _create, path, content, mode)


def remove(path: str) -> bool:
    """Remove `path`; whether it was there. Raises IOFailure."""
    return change(f'remove "{path}"', _remove, path)


def names(directory: str) -> list[str]:
    """What is in the directory; nothing where there is none. Raises IOFailure."""
    return change(f'list "{directory}"', _names, directory)


def sweep(directory: str, of: str = "") -> None:
    """Remove what writers that were killed have left in the directory, and no living one's.

    Only `of` a file of this name, if one is given. Raises IOFailure.
    """
    for name in names(directory):
        if name.startswith(f".{of}") and name.endswith(TEMPORARY):
            _sweep(os.path.join(directory, name))


def read(path: str, *, largest: int = LARGEST) -> bytes | None:
    """The content of `path`, or None when there is no such file. Raises Unusable, IOFailure."""
    return change(f'read "{path}"', _read, path, largest, 0)


def read_own(path: str) -> bytes | None:
    """The same of a file that we have written, and thus is no link. Raises Unusable, IOFailure."""
    return change(f'read "{path}"', _read, path, LARGEST, os.O_NOFOLLOW)


def set_aside(path: str) -> str:
    """Rename what cannot be used, whatever it is, to `*.damaged`; return its new path. Raises IOFailure."""
    stem, _ = os.path.splitext(path)
    numbers = itertools.chain(("",), (f".{number}" for number in itertools.count(2)))
    aside = next(name for number in numbers if not os.path.lexists(name := f"{stem}{number}{DAMAGED}"))
    change(f'set aside "{path}"', os.rename, path, aside)
    return aside


def clear(path: str) -> bool:
    """Remove `path`, or set it aside where it is a directory; whether anything was there. Raises IOFailure."""
    if os.path.isdir(path) and not os.path.islink(path):
        set_aside(path)
        return True
    return remove(path)


def write(descriptor: int, content: bytes) -> None:
    """Write all of it: a file system that is getting full takes a part, and fails only the next time.

    Raises OSError, for the caller to tell what it was that was written.
    """
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _replace(path: str, content: bytes, mode: int, durable: bool, lasting: bool) -> None:
    with _temporary(path, mode) as (temporary, descriptor):
        write(descriptor, content)
        if durable:
            os.fsync(descriptor)
        os.rename(temporary, path)
    if lasting:
        _sync_directory(path)


def _create(path: str, content: bytes, mode: int) -> bool:
    """Link a nameless file into place: nobody ever sees it empty, and no temporary name is left by a crash."""
    directory = os.path.dirname(path)
    try:
        descriptor = os.open(directory, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, mode)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
        return _create_by_name(path, content, mode)
    try:
        write(descriptor, content)
        # linkat(2) of /proc/self/fd/N with AT_SYMLINK_FOLLOW; without a directory descriptor Python calls link(2)
        proc = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.link(str(descriptor), path, src_dir_fd=proc, follow_symlinks=True)
        finally:
            os.close(proc)
        return True
    except FileExistsError:
        return False
    finally:
        os.close(descriptor)


def _create_by_name(path: str, content: bytes, mode: int) -> bool:
    with _temporary(path, mode) as (temporary, descriptor):
        try:
            write(descriptor, content)
            os.link(temporary, path)
            return True
        except FileExistsError:
            return False
        finally:
            os.unlink(temporary)


@contextlib.contextmanager
def _temporary(path: str, mode: int) -> Iterator[tuple[str, int]]:
    """Have a new file beside `path`, under a name that is the same every time, unless another writer has it now.

    So what a writer that was killed has left goes with the next one, or with the file.
    """
    own = f".{os.getpid()}.{threading.get_native_id()}"
    created = _create_alone(_temporary_path(path), mode) or _create_alone(_temporary_path(path, own), mode)
    if created is None:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
    temporary, descriptor = created
    try:
        yield temporary, descriptor
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    finally:
        os.close(descriptor)


def _temporary_path(path: str, own: str = "") -> str:
    directory, name = os.path.split(path)
    return os.path.join(directory, f".{name}{own}{TEMPORARY}")


def _create_alone(temporary: str, mode: int) -> tuple[str, int] | None:
    """Create a file and lock it for as long as it is open; None when somebody has it who lives."""
    descriptor = _create_new(temporary, mode)
    if descriptor is None:
        _sweep(temporary)
        descriptor = _create_new(temporary, mode)
    if descriptor is None:
        return None
    if _lock(descriptor, unknown=True) and _is_at(descriptor, temporary):
        return temporary, descriptor
    os.close(descriptor)  # between the two it was taken for a dead one's
    return None


def _create_new(temporary: str, mode: int) -> int | None:
    try:
        return os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError:
        return None


def _sweep(temporary: str) -> None:
    """Remove what a writer that was killed has left; where that cannot be, nothing is worse than it was."""
    with contextlib.suppress(OSError):
        descriptor = os.open(temporary, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            if _lock(descriptor, unknown=False) and _is_at(descriptor, temporary):
                os.unlink(temporary)
        finally:
            os.close(descriptor)


def _lock(descriptor: int, *, unknown: bool) -> bool:
    """Whether nobody else has it; `unknown` where the file system knows no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return unknown
    return True


def _is_at(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _sync_directory(path: str) -> None:
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # not every file system syncs directories
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: str) -> bool:
    _sweep(_temporary_path(path))
    try:
        os.unlink(path)
        return True
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno == errno.EROFS and not os.path.lexists(path):
            return False  # a read-only file system says so of what is not there, too
        raise


def _read(path: str, largest: int, flags: int) -> bytes | None:
    try:
        # Not to wait for who writes to a FIFO
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | flags)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ENODEV) or (flags and error.errno == errno.ELOOP):
            raise Unusable(f'could not read "{path}"', "it is a link, a device or a socket", id="PLX-IO") from error
        raise
    try:
        return _content(descriptor, path, largest)
    finally:
        os.close(descriptor)


def _content(descriptor: int, path: str, largest: int) -> bytes:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise Unusable(f'could not read "{path}"', "it is a directory, a FIFO or a device, not a file", id="PLX-IO")
    content = b""
    if found.st_size <= largest:
        while len(content) <= largest and (more := os.read(descriptor, max(found.st_size, MORE) + 1)):
            content += more
    if found.st_size > largest or len(content) > largest:
        raise Unusable(f'could not read "{path}"', f"it is larger than {largest} bytes", id="PLX-IO")
    return content


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
