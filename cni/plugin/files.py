"""Files that hold state: content and existence appear together, so that a crash leaves the old or the new, whole."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from cni.spec.errors import IOFailure

P = ParamSpec("P")
T = TypeVar("T")


def change(what: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Make one change to the file system. Raises IOFailure, which says what could not be done and why."""
    try:
        return call(*args, **kwargs)
    except OSError as error:
        raise IOFailure(f"could not {what}", os.strerror(error.errno or errno.EIO), id="PLX-IO") from error


def ensure_directory(path: str, mode: int = 0o700) -> None:
    """Create `path` and its parents where they are missing. Raises IOFailure."""
    change(f'create the directory "{path}"', os.makedirs, path, mode, exist_ok=True)


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


def read(path: str) -> bytes | None:
    """The content of `path`, or None when there is no such file. Raises IOFailure."""
    return change(f'read "{path}"', _read, path)


def write(descriptor: int, content: bytes) -> None:
    """Write all of it: a file system that is getting full takes a part, and fails only the next time.

    Raises OSError, for the caller to tell what it was that was written.
    """
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _replace(path: str, content: bytes, mode: int, durable: bool, lasting: bool) -> None:
    temporary = _write_temporary(path, content, mode, durable)
    try:
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise
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
    temporary = _write_temporary(path, content, mode, durable=False)
    try:
        os.link(temporary, path)
        return True
    except FileExistsError:
        return False
    finally:
        os.unlink(temporary)


def _write_temporary(path: str, content: bytes, mode: int, durable: bool) -> str:
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, f".{name}.{os.getpid()}.{threading.get_native_id()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        write(descriptor, content)
        if durable:
            os.fsync(descriptor)
    except OSError:
        os.unlink(temporary)
        raise
    finally:
        os.close(descriptor)
    return temporary


def _sync_directory(path: str) -> None:
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # not every file system syncs directories
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: str) -> bool:
    try:
        os.unlink(path)
        return True
    except FileNotFoundError:
        return False


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb", buffering=0) as file:  # half the time of a buffered read
            return file.read()
    except FileNotFoundError:
        return None
