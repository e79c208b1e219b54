"""A log file that many processes write at once, and that is set aside when it is full.

Whoever writes locks the file itself, so there is no lock file; whoever finds that it was set aside meanwhile opens the
new one. What was set aside is named, compressed and removed as lumberjack does it, whose logs we may take over.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import re
import stat
import sys
import time
from dataclasses import dataclass
from typing import IO

from cni.plugin import files

FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
"""Non-blocking for a FIFO that nobody reads."""
STAMP = "%Y-%m-%dT%H-%M-%S"
STAMPED = re.compile(r"-(?P<time>\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d)\.\d{3}")
COMPRESSED = ".gz"
TEMPORARY = ".gz.tmp"
DAY = 86_400
PATIENCE = 100
LOCK_PAUSE = 0.01
"""How often, and after how many seconds, a lock is asked for that another process holds."""


@dataclass(frozen=True)
class Backups:
    """How many bytes the file may have, and which of those that were set aside are kept; 0 days or files: all."""

    size: int = 100 << 20
    days: int = 5
    number: int = 5
    compress: bool = True


class LogFile(logging.Handler):
    """Appends one record after the other; a file that cannot be written is told once, on stderr."""

    def __init__(self, path: str, backups: Backups) -> None:
        super().__init__()
        self.path = path
        self.backups = backups
        self.usable = True
        self.patience = PATIENCE

    def emit(self, record: logging.LogRecord) -> None:
        """Append a record."""
        if not self.usable:
            return
        try:
            text = f"{self.format(record)}\n".encode(errors="backslashreplace")
            if self._append(text):
                with contextlib.suppress(OSError):  # it will be tried again
                    tidy(self.path, self.backups)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            self.usable = False
            sys.stderr.write(f"plexus: could not write the log {self.path!r}: {error}\n")
        except Exception:  # noqa: BLE001 - a record that cannot be formatted must not fail what is logged
            self.handleError(record)

    def _append(self, text: bytes) -> bool:
        """Write `text` to the end of the file; return whether that began a new one. Raises OSError."""
        begun_anew = False
        for _ in range(PATIENCE):
            descriptor = _open(self.path)
            try:
                locked = self._lock(descriptor)
                if not _is_current(descriptor, self.path):
                    continue
                if locked and _is_full(descriptor, len(text), self.backups.size):
                    os.rename(self.path, _name_aside(self.path))
                    begun_anew = True
                    continue
                os.write(descriptor, text)
                return begun_anew
            finally:
                os.close(descriptor)
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    def _lock(self, descriptor: int) -> bool:
        """Lock the file if it still is the one; whether it is locked.

        Who holds it for long, say a stopped process, is waited for once: appending is safe without, too.
        """
        while _is_current(descriptor, self.path):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self.patience = PATIENCE
                return True
            except BlockingIOError:
                if not self.patience:
                    return False
                self.patience -= 1
                time.sleep(LOCK_PAUSE)
        return False


def tidy(path: str, backups: Backups) -> None:
    """Compress and remove what was set aside. Raises OSError."""
    found = sorted(_set_aside(path), reverse=True)
    oldest = time.strftime(STAMP, time.gmtime(time.time() - backups.days * DAY))
    for place, name in enumerate(found):
        if (backups.number and place >= backups.number) or (backups.days and _stamp(name) < oldest):
            _remove(name)
        elif backups.compress and not name.endswith(COMPRESSED):
            _compress(name)


def _open(path: str) -> int:
    try:
        return os.open(path, FLAGS, 0o600)
    except FileNotFoundError:
        files.make_directory(os.path.dirname(path) or ".", 0o755)
        return os.open(path, FLAGS, 0o600)


def _is_current(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _is_full(descriptor: int, more: int, size: int) -> bool:
    status = os.fstat(descriptor)
    return stat.S_ISREG(status.st_mode) and status.st_size > 0 and status.st_size + more > size


def _name_aside(path: str) -> str:
    """A name of this moment that no file has."""
    stem, extension = os.path.splitext(path)
    milliseconds = int(time.time() * 1000)
    while True:
        seconds, rest = divmod(milliseconds, 1000)
        name = f"{stem}-{time.strftime(STAMP, time.gmtime(seconds))}.{rest:03}{extension}"
        if not os.path.lexists(name) and not os.path.lexists(name + COMPRESSED):
            return name
        milliseconds += 1


def _set_aside(path: str) -> list[str]:
    directory, base = os.path.split(path)
    stem, extension = os.path.splitext(base)
    wanted = re.compile(re.escape(stem) + STAMPED.pattern + re.escape(extension) + rf"({re.escape(COMPRESSED)})?")
    return [os.path.join(directory, name) for name in os.listdir(directory or ".") if wanted.fullmatch(name)]


def _stamp(name: str) -> str:
    """The time in the name, which sorts as text."""
    return [found["time"] for found in STAMPED.finditer(name)][-1]


def _remove(path: str) -> None:
    for name in (path, path + TEMPORARY):
        with contextlib.suppress(FileNotFoundError):  # another process tidies too
            os.unlink(name)


def _compress(path: str) -> None:
    """Compress one file, unless another process is at it."""
    with contextlib.suppress(FileNotFoundError, BlockingIOError), open(path, "rb") as source:
        fcntl.flock(source, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            _write_compressed(source, path + TEMPORARY)
            os.rename(path + TEMPORARY, path + COMPRESSED)
            os.unlink(path)
        except OSError:
            os.unlink(path + TEMPORARY)
            raise


def _write_compressed(source: IO[bytes], path: str) -> None:
    import gzip
    import shutil

    # The fastest level: a runtime waits for us.
    with open(path, "wb", opener=_open_private) as file, gzip.GzipFile("", "wb", 1, file) as target:
        shutil.copyfileobj(source, target)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
