"""File systems: one is told to be as we left it after a power failure too, and of which kind one is."""

from __future__ import annotations

import ctypes
import os
import re

MOUNTS = "/proc/self/mountinfo"
LOCAL = frozenset(
    (
        "bcachefs",
        "btrfs",
        "ext2",
        "ext3",
        "ext4",
        "f2fs",
        "jfs",
        "nilfs2",
        "overlay",
        "ramfs",
        "reiserfs",
        "tmpfs",
        "ubifs",
        "xfs",
        "zfs",
    )
)
"""Kinds that a single machine can use at a time."""


def kind(path: str) -> str:
    """The kind of the file system that holds an absolute path without links; "" where that cannot be told."""
    try:
        with open(MOUNTS, encoding="utf-8", errors="surrogateescape") as file:
            mounts = [line.split(" ") for line in file]
    except OSError:
        return ""
    found = [(unescaped(mount[4]), mount[mount.index("-") + 1]) for mount in mounts if "-" in mount]
    holding = [(point, name) for point, name in found if _is_below(path, point)]
    return max(reversed(holding), key=lambda entry: len(entry[0]))[1] if holding else ""


def has_one_user(path: str) -> bool:
    """Whether nobody but this machine can use what is at `path`: its file system is of a kind that cannot be shared."""
    return kind(os.path.realpath(path)) in LOCAL


def _is_below(path: str, point: str) -> bool:
    return path == point or path.startswith(f"{point.rstrip('/')}/")


def unescaped(text: str) -> str:
    """A path as mountinfo writes it: spaces and such are three octal digits after a backslash."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def sync(directory: str) -> None:
    """Write everything of the directory's file system to its disk. Raises OSError.

    Unlike os.sync it does not wait for the others, of which one may be a server that is gone.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if libc.syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), directory)
    finally:
        os.close(descriptor)
