"""Which network namespaces live: all that a thread, a mount or an open descriptor of this machine holds."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator

from cni.linux import disk, kernel

INITIAL = 0xEFFFFFFC
"""Inode of the machine's own PID namespace: PROC_PID_INIT_INO of <linux/proc_ns.h>."""
PASSING = (errno.ENOENT, errno.ESRCH)
"""What is answered about a process, a thread or a descriptor that has just ended."""
MOUNTED = re.compile(r" net:\[(\d+)\] (\S+) ")
OPENED = re.compile(r"net:\[(\d+)\]")


def pid_namespace() -> int:
    """The identity of the PID namespace that we are in; 0 for the machine's own."""
    inode = os.stat("/proc/self/ns/pid").st_ino
    return 0 if inode == INITIAL else inode


def network_namespaces(proc: str = "/proc") -> dict[int, str]:
    """The inodes of all that live, as far as our PID namespace reaches, and where each is found.

    One that moves from who was not yet looked at to who was is missed: look twice. Raises KernelFailure when anything
    could not be looked at.
    """
    return kernel.ask("see which network namespaces live", lambda: dict(_every(proc)))


def _every(proc: str) -> Iterator[tuple[int, str]]:
    seen: set[tuple[int, str]] = set()
    for name in os.listdir(proc):
        if name.isdecimal():
            process = f"{proc}/{name}"
            yield from _of_threads(process)
            yield from _of_descriptors(process)
            yield from _of_mounts(process, seen)


def _of_threads(process: str) -> Iterator[tuple[int, str]]:
    for thread in _names(process, "task"):
        try:
            path = f"{process}/task/{thread}/ns/net"
            yield os.stat(path).st_ino, path
        except OSError as error:
            _raise_unless_passing(error, f"{process}/task/{thread}")


def _of_descriptors(process: str) -> Iterator[tuple[int, str]]:
    for number in _names(process, "fd"):
        try:
            path = f"{process}/fd/{number}"
            found = OPENED.fullmatch(os.readlink(path))
        except OSError as error:
            _raise_unless_passing(error, process)
        else:
            if found:
                yield int(found[1]), path


def _of_mounts(process: str, seen: set[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Those of each view of each mount namespace once: what is mounted outside of a process's root it is not shown."""
    try:
        view = os.stat(f"{process}/ns/mnt").st_ino, os.readlink(f"{process}/root")
        if view in seen:
            return
        with open(f"{process}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            for inode, point in MOUNTED.findall(file.read()):
                yield int(inode), f"{process}/root{disk.unescaped(point)}"
        seen.add(view)
    except OSError as error:
        if error.errno != errno.EINVAL:  # of a process that is ending
            _raise_unless_passing(error, process)


def _names(process: str, what: str) -> list[str]:
    try:
        return os.listdir(f"{process}/{what}")
    except OSError as error:
        _raise_unless_passing(error, process)
        return []


def _raise_unless_passing(error: OSError, whose: str) -> None:
    """Raise, unless the thread or process has just ended: one that goes while it is looked at answers EACCES."""
    if error.errno not in PASSING and not (error.errno == errno.EACCES and _has_ended(whose)):
        raise error


def _has_ended(whose: str) -> bool:
    try:
        os.stat(whose)
    except OSError as error:
        return error.errno in PASSING
    return False
