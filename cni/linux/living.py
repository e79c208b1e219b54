"""Which network namespaces live: all that a thread, a mount or an open descriptor of this machine holds."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator

from cni.linux import kernel

INITIAL = 0xEFFFFFFC
"""Inode of the machine's own PID namespace: PROC_PID_INIT_INO of <linux/proc_ns.h>."""
PASSING = (errno.ENOENT, errno.ESRCH)
"""What is answered about a process, a thread or a descriptor that has just ended."""
MOUNTED = re.compile(rb" net:\[(\d+)\] ")
OPENED = re.compile(r"net:\[(\d+)\]")


def pid_namespace() -> int:
    """The identity of the PID namespace that we are in; 0 for the machine's own."""
    inode = os.stat("/proc/self/ns/pid").st_ino
    return 0 if inode == INITIAL else inode


def network_namespaces(proc: str = "/proc") -> frozenset[int]:
    """The identities of all that live, as far as our PID namespace reaches.

    One that moves from who was not yet looked at to who was is missed: look twice. Raises KernelFailure when anything
    could not be looked at.
    """
    return kernel.ask("see which network namespaces live", lambda: frozenset(_every(proc)))


def _every(proc: str) -> Iterator[int]:
    seen: set[tuple[int, str]] = set()
    for name in os.listdir(proc):
        if name.isdecimal():
            process = f"{proc}/{name}"
            yield from _of_threads(process)
            yield from _of_descriptors(process)
            yield from _of_mounts(process, seen)


def _of_threads(process: str) -> Iterator[int]:
    for thread in _names(f"{process}/task"):
        try:
            yield os.stat(f"{process}/task/{thread}/ns/net").st_ino
        except OSError as error:
            _raise_unless_passing(error)


def _of_descriptors(process: str) -> Iterator[int]:
    for number in _names(f"{process}/fd"):
        try:
            found = OPENED.fullmatch(os.readlink(f"{process}/fd/{number}"))
        except OSError as error:
            _raise_unless_passing(error)
        else:
            if found:
                yield int(found[1])


def _of_mounts(process: str, seen: set[tuple[int, str]]) -> Iterator[int]:
    """Those of each view of each mount namespace once: what is mounted outside of a process's root it is not shown."""
    try:
        view = os.stat(f"{process}/ns/mnt").st_ino, os.readlink(f"{process}/root")
        if view in seen:
            return
        with open(f"{process}/mountinfo", "rb") as file:
            yield from map(int, MOUNTED.findall(file.read()))
        seen.add(view)
    except OSError as error:
        if error.errno != errno.EINVAL:  # of a process that is ending
            _raise_unless_passing(error)


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError as error:
        _raise_unless_passing(error)
        return []


def _raise_unless_passing(error: OSError) -> None:
    if error.errno not in PASSING:
        raise error
