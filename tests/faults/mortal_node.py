"""A node that can lose its power: namespaces for host and sandboxes, files that stay, an identity of its own.

Several are in one process. Whichever is called is the machine that the code under test sees itself on: its boot, its
machine ID, its clock and its file systems. What happens to a call on the way (`cut_off`) happens in a child.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import ipaddress
import json
import os
import signal
import socket
import struct
import subprocess
import time
import traceback
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cni.linux import disk, kernel, living, netns
from cni.meta import container as container_module
from cni.meta import reclaim
from cni.plugin import ledger
from cni.spec import convert, versions
from cni.spec.errors import CNIError
from cni.spec.result import Result
from ipam import before_boot, directory
from ipam import index as index_module

CLONE_NEWNET, MS_BIND, MNT_DETACH = 0x40000000, 4096, 2
LIBC = ctypes.CDLL(None, use_errno=True)
PATIENCE = 60
"""Seconds after which something that must happen has not: nothing here waits for longer."""
SIOCGIFADDR, SIOCGIFNETMASK = 0x8915, 0x891B
WRITE = os.write
WRITERS = ("open", "write", "pwrite", "ftruncate", "mkdir", "link", "rename", "unlink", "utime", "fsync")
"""Of `os`: by these everything that is kept comes into files."""
FULL_DISK = ("open", "write", "pwrite", "mkdir", "link")
"""Of these, what a full disk refuses; the others fail as a broken one's do."""

MANY = {
    "ADD": {"kill": 160, "kernel": 16, "file": 45},
    "DEL": {"kill": 45, "kernel": 5, "file": 16},
    "GC": {"kill": 80, "kernel": 6, "file": 30},
    "reclaim": {"kill": 60, "kernel": 4, "file": 30},
}
"""At how many places something can happen in a call of a busy pod."""


class Space:
    """A network namespace that is mounted, as a runtime's are, until it ends."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        path.touch(exist_ok=False)
        failures: list[int] = []
        with netns.opened("/proc/thread-self/ns/net") as own:
            netns.enter(own, lambda: failures.append(self._mount()))
        assert failures == [0], os.strerror(ctypes.get_errno())

    def _mount(self) -> int:
        """Leave a thread that ends in a new namespace, which the mount then keeps."""
        source, target = b"/proc/thread-self/ns/net", self.path.encode()
        return LIBC.unshare(CLONE_NEWNET) or LIBC.mount(source, target, None, MS_BIND, None)

    def end(self) -> None:
        LIBC.umount2(self.path.encode(), MNT_DETACH)
        Path(self.path).unlink(missing_ok=True)  # with it go the mounts that other mount namespaces have copied

    def links(self) -> set[str]:
        return set(netns.run_inside(self.path, lambda: [name for _, name in socket.if_nameindex()])) - {"lo"}

    def indices(self) -> set[int]:
        return set(netns.run_inside(self.path, lambda: [index for index, _ in socket.if_nameindex()]))

    def interfaces(self) -> dict[str, str]:
        """Each interface with its IPv4 address, as the kernel tells it; "" for none."""
        return netns.run_inside(self.path, _interfaces)

    def run(self, *command: str) -> str:
        words = ["nsenter", f"--net={self.path}", *command]
        return subprocess.run(words, check=True, capture_output=True, text=True, timeout=PATIENCE).stdout

    def pings(self, address: str) -> bool:
        """Whether an answer comes; on a busy machine it may take its time."""
        with contextlib.suppress(subprocess.CalledProcessError):
            return bool(self.run("ping", "-n", "-q", "-c1", "-W10", address))
        return False


def _interfaces() -> dict[str, str]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        return {name: _address(probe, name) for _, name in socket.if_nameindex() if name != "lo"}


def _address(probe: socket.socket, name: str) -> str:
    asked = struct.pack("256s", name.encode())
    try:
        address, mask = (fcntl.ioctl(probe, number, asked)[20:24] for number in (SIOCGIFADDR, SIOCGIFNETMASK))
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            raise
        return ""
    return f"{ipaddress.ip_address(address)}/{int.from_bytes(mask, 'big').bit_count()}"


@dataclass(frozen=True)
class Outcome:
    """What a call came to: a result in the newest version's JSON, or the error's ID and text, or neither."""

    result: Any = None
    failure: str = ""
    id: str = ""
    killed: bool = False

    @property
    def ok(self) -> bool:
        return not self.failure and not self.killed


def outcome_of(work: Callable[[], Result | None]) -> Outcome:
    try:
        result = work()
    except CNIError as error:
        return Outcome(failure=str(error), id=error.id)
    return Outcome(result and convert.encode(result, versions.CURRENT))


class Node:
    """One machine."""

    def __init__(self, directory: Path, *, leases: Path, is_shared: bool) -> None:
        self.directory = directory
        self.name = directory.name
        self.leases = leases
        self.is_shared = is_shared
        """Whether another machine has its leases in the same place."""

        self.spaces = directory / "spaces"
        self.state = directory / "state"
        self.manifests = directory / "manifests"
        self.net_d = directory / "net.d"
        for made in (self.spaces, self.manifests, self.net_d):
            made.mkdir(parents=True)
        self.boots = 0
        self.offset = 0.0
        """By how much its clock is wrong."""

        self._start()

    def _start(self) -> None:
        self.boots += 1
        self.host = Space(self.spaces / f"host{self.boots}")
        self.booted = time.time()

    def lose_power(self) -> None:
        """Be started again, after the sandboxes have ended too."""
        self.host.end()
        time.sleep(0.02)  # what was written before is older by the file system's clock, too
        self._start()

    @property
    def boot_id(self) -> str:
        return f"{self.name}-{self.boots:030}"

    def call(self, work: Callable[[], Any]) -> Any:
        """Do the work on this machine, in the host's namespace."""
        begun = time.time() - 0.02
        try:
            return self._call(work)
        finally:
            self._date(begun)

    def _call(self, work: Callable[[], Any]) -> Any:
        with _playing(self):
            return netns.run_inside(self.host.path, work)

    def cut_off(self, doors: Doors, work: Callable[[], Result | None]) -> Outcome:
        """The same in a child, to which something happens on the way."""
        begun = time.time() - 0.02
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            signal.alarm(PATIENCE)
            _serve(writing, lambda: self._call(lambda: doors.passed(work)))
        os.close(writing)
        with open(reading, "rb") as pipe:
            told = pipe.read()
        _, status = os.waitpid(child, 0)
        self._date(begun)
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL, "a call took too long"
            return Outcome(killed=True)
        answer = json.loads(told)
        assert "defect" not in answer, answer["defect"]
        return Outcome(**answer)

    def _date(self, begun: float) -> None:
        """Have what was leased since then the date of this machine's clock."""
        if self.offset:
            for path in self.leases.glob("*/[0-9]*"):
                with contextlib.suppress(FileNotFoundError):
                    stamp = path.stat().st_mtime
                    if abs(stamp - time.time()) < time.time() - begun:
                        os.utime(path, (stamp + self.offset, stamp + self.offset))

    def rules(self) -> str:
        return self.host.run("nft", "list", "ruleset")


def _serve(writing: int, work: Callable[[], Outcome]) -> None:
    """Do the work, tell what came of it, and end as a process does that has nothing to tidy up."""
    directory._lock.cache_clear()  # locks are made anew in each process, as they are where nobody forks
    try:
        answer: dict[str, Any] = vars(work())
    except BaseException:  # noqa: BLE001 - the parent tells it
        answer = {"defect": traceback.format_exc()}
    WRITE(writing, json.dumps(answer).encode())
    os._exit(0)


class Doors:
    """What happens at one of the places where a call changes something: the kernel, or a file.

    Each is two places, before and after; in between half of what is to be written is. For use in a child: it is never
    as it was before.
    """

    def __init__(self, place: int, how: str, *, lasting: bool = False) -> None:
        self.place = place
        """Chooses the door among as many as a call has."""

        self.at = 0
        self.how = how
        """What happens: the process is killed, or a change to a "file" or to the "kernel" is refused."""

        self.lasting = lasting
        """Whether all that come later are refused, too."""

        self.passed_by = 0

    def __repr__(self) -> str:
        return f"{self.how}{' from then on' if self.lasting else ''} at {self.at or self.place}"

    def of(self, verb: str) -> Doors:
        """The same, with its door among as many as such a call has, and some more."""
        self.at = 1 + self.place % MANY[verb][self.how]
        return self

    def passed(self, work: Callable[[], Result | None]) -> Outcome:
        """What the work comes to."""
        for name in WRITERS:
            setattr(os, name, self._file(name, getattr(os, name)))
        kernel.change = self._kernel(kernel.change)
        return outcome_of(work)

    def _is_here(self) -> bool:
        self.passed_by += 1
        return self.passed_by == self.at or (self.lasting and self.passed_by > self.at)

    def _file(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*args: Any, **kwargs: Any) -> Any:
            if name == "open" and not args[1] & (os.O_CREAT | os.O_TRUNC) and not _is_nameless(args[1]):
                return real(*args, **kwargs)
            if self.how == "kill":
                return self._killed(name, real, *args, **kwargs)
            if self.how == "file" and (name in FULL_DISK or not self.lasting) and self._is_here():
                number = errno.ENOSPC if name in FULL_DISK else errno.EIO
                raise OSError(number, os.strerror(number))
            return real(*args, **kwargs)

        return changed

    def _kernel(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def changed(what: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            if self.how == "kill":
                return self._killed(what, real, what, call, *args, **kwargs)
            if self.how == "kernel" and self._is_here():
                return real(what, _refuse)
            return real(what, call, *args, **kwargs)

        return changed

    def _killed(self, name: str, real: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self._is_here():
            if name in ("write", "pwrite"):
                real(args[0], args[1][: len(args[1]) // 2], *args[2:])
            os.kill(os.getpid(), signal.SIGKILL)
        done = real(*args, **kwargs)
        if self._is_here():
            os.kill(os.getpid(), signal.SIGKILL)
        return done


def _is_nameless(flags: int) -> bool:
    return flags & os.O_TMPFILE == os.O_TMPFILE  # one of its bits is that of directories


def _refuse() -> None:
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))


here: Node | None = None
"""The machine that is being called."""


@contextlib.contextmanager
def _playing(node: Node) -> Iterator[None]:
    global here  # noqa: PLW0603 - there is one machine at a time, as there is one for all of a process
    here = node
    try:
        yield
    finally:
        here = None


def _present() -> Node:
    assert here is not None, "the code under test is called on a node"
    return here


@contextlib.contextmanager
def identities(directory: Path) -> Iterator[None]:
    """Have the code under test see itself on the node that is called; what is in a `shared` many machines may use.

    Nobody but this process holds namespaces of theirs, by its mounts and threads: no other is searched for them.
    """
    processes = directory / "proc"
    processes.mkdir()
    (processes / "1").symlink_to("/proc/self")
    look = living.network_namespaces
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(living, "network_namespaces", lambda: look(str(processes)))
        patch.setattr(disk, "kind", lambda path: "nfs4" if "shared" in Path(path).parts else "ext4")
        patch.setattr(index_module, "_boot", lambda: _present().boot_id.encode()[-36:])
        patch.setattr(index_module, "_machine", lambda: _present().name.encode().ljust(32, b"m"))
        patch.setattr(ledger, "boot_id", lambda: _present().boot_id)
        patch.setattr(before_boot, "clock", lambda: _present().booted + _present().offset)
        patch.setattr(reclaim, "GRACE", 0.0)
        clock = types.SimpleNamespace(time=lambda: time.time() + _present().offset)
        patch.setattr(container_module, "time", clock)
        yield
