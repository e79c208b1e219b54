"""Network namespaces: recognise one, enter one. Standard library only."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import functools
import os
import socket
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from cni.linux import thread
from cni.spec.errors import CNIError, Exhausted, InvalidNetns

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
NS_GET_NSTYPE = 0xB703
"""ioctl(2) on a namespace's file: which kind it is. From <linux/nsfs.h>."""
GONE = (errno.ENOENT, errno.ENOTDIR, errno.ESRCH)
SO_NETNS_COOKIE = 71
"""From <asm-generic/socket.h>."""
OWN = "/proc/thread-self/ns/net"
OUT_OF_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class NetnsMissing(InvalidNetns):
    """There is no namespace at the path: the sandbox is gone.

    After a reboot the path may still be there, as the empty file that the namespace was mounted on.
    """


class Identity(NamedTuple):
    """What tells a namespace of this boot from others; the cookie alone does, but 0 is one that could not be told."""

    inode: int
    cookie: int

    def may_be(self, other: Identity) -> bool:
        """Whether nothing tells the two apart."""
        return self.inode == other.inode and (0 in (self.cookie, other.cookie) or self.cookie == other.cookie)


def is_own(path: str) -> bool:
    """Whether `path` is the namespace we are in ourselves; False when there is nothing at it."""
    try:
        return os.path.samestat(os.stat(path), os.stat(OWN))
    except (OSError, ValueError):
        return False


def is_namespace(path: str) -> bool:
    """Whether there is a network namespace at `path`."""
    try:
        with opened(path):
            return True
    except InvalidNetns:
        return False


def find_inode(path: str) -> int:
    """The identity of the namespace at `path` for as long as it lives; 0 when there is nothing at it."""
    try:
        return os.stat(path).st_ino
    except (OSError, ValueError):
        return 0


def identity(path: str) -> Identity:
    """That of the namespace at `path`, from within: the path may be another's in a moment.

    Raises NetnsMissing, InvalidNetns, CNIError.
    """
    return run_inside(path, lambda: Identity(find_inode(OWN), own_cookie()))


def own_cookie() -> int:
    """What no other network namespace of this boot has had or will have; 0 before Linux 5.14.

    An inode is given to the next namespace as soon as this one is gone.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            return int.from_bytes(probe.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8), sys.byteorder)
        except OSError:
            return 0


def open_path(path: str) -> int:
    """Open a network namespace; the caller closes the descriptor. Raises NetnsMissing, InvalidNetns, Exhausted."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
        if isinstance(error, OSError) and error.errno in OUT_OF_FILES:
            raise Exhausted(f'failed to open netns "{path}"', reason) from error
        missing = isinstance(error, OSError) and error.errno in GONE
        failure = NetnsMissing if missing else InvalidNetns
        raise failure(f'failed to open netns "{path}"', reason, id="PLX-NETNS") from error
    try:
        if fcntl.ioctl(descriptor, NS_GET_NSTYPE) == CLONE_NEWNET:
            return descriptor
    except OSError:
        pass  # not a namespace at all
    os.close(descriptor)
    raise NetnsMissing(f'failed to open netns "{path}"', "it is not a network namespace", id="PLX-NETNS")


@contextlib.contextmanager
def opened(path: str) -> Iterator[int]:
    """Hold a network namespace open, for `enter`. Raises NetnsMissing, InvalidNetns."""
    descriptor = open_path(path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def exclusive() -> Iterator[None]:
    """Keep out whoever else asks for the same, in any process or thread, in the namespace that this thread is in.

    For what takes more than one message to the kernel and must not be seen half done; waits as long as it takes.
    """
    with opened(OWN) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def run_inside(path: str, work: Callable[[], T]) -> T:
    """Do `work` in the namespace at `path` and return what it returns, or raise what it raises.

    Raises NetnsMissing, InvalidNetns.
    """
    with opened(path) as descriptor:
        return enter(descriptor, work)


def enter(descriptor: int, work: Callable[[], T]) -> T:
    """Do `work` in an open namespace and return what it returns, or raise what it raises.

    A namespace belongs to a thread, so the work gets one of its own, which then ends: there is no way back that could
    fail.
    """
    outcome: list[T] = []
    failure: list[BaseException] = []

    def enter_and_work() -> None:
        try:
            _setns(descriptor)
            outcome.append(work())
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread, below
            failure.append(error)

    if not thread.begin(enter_and_work)():
        raise Exhausted("could not start a thread for the network namespace", "it did not begin")
    if failure:
        raise failure[0]
    return outcome[0]


def _setns(descriptor: int) -> None:
    if _libc().setns(descriptor, CLONE_NEWNET) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise CNIError("could not enter the network namespace", reason, id="PLX-NETNS")


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)  # os.setns is new in Python 3.12
