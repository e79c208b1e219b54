"""Kill a process at the entry of the system call by which it would change something for the Nth time, by ptrace(2).

All of its threads are followed, and counted as one sequence; programs that it executes are not: they outlive it, as
they would without us. Between two of these calls nobody else can see any difference, so to be killed before each of
them is to be killed anywhere.
"""

import contextlib
import ctypes
import os
import platform
import signal
from collections.abc import Callable
from dataclasses import dataclass, field

SEIZE, INTERRUPT, SYSCALL, GET_SYSCALL_INFO = 0x4206, 0x4207, 24, 0x420E
OPTIONS = 0x1 | 0x8 | 0x100000
"""Mark the stops of system calls, follow new threads, and kill them all when the tracer ends; of <linux/ptrace.h>."""
WALL = 0x40000000
"""Wait for threads, too; of <linux/wait.h>."""
AT_ENTRY = 1
OF_SYSCALL = signal.SIGTRAP | 0x80
NUMBERS = {
    "x86_64": "write=1 open=2 pwrite64=18 writev=20 connect=42 sendto=44 sendmsg=46 shutdown=48 bind=49 clone=56"
    " fork=57 vfork=58 execve=59 kill=62 fcntl=72 flock=73 fsync=74 fdatasync=75 truncate=76 ftruncate=77 rename=82"
    " mkdir=83 rmdir=84 creat=85 link=86 unlink=87 symlink=88 chmod=90 fchmod=91 chown=92 fchown=93 mount=165"
    " exit_group=231 tgkill=234 openat=257 mkdirat=258 unlinkat=263 renameat=264 linkat=265 symlinkat=266 fchmodat=268"
    " umount2=166 unshare=272 utimensat=280 fallocate=285 sendmmsg=307 setns=308 renameat2=316 clone3=435",
    "aarch64": "fcntl=25 flock=32 mkdirat=34 unlinkat=35 symlinkat=36 linkat=37 renameat=38 umount2=39 mount=40"
    " truncate=45 ftruncate=46 fallocate=47 fchmod=52 fchmodat=53 fchown=55 openat=56 write=64 writev=66 pwrite64=68"
    " fsync=82 fdatasync=83 utimensat=88 exit_group=94 unshare=97 kill=129 tgkill=131 bind=200 connect=203 sendto=206"
    " shutdown=210 sendmsg=211 clone=220 execve=221 setns=268 sendmmsg=269 renameat2=276 clone3=435",
}
"""Calls that others can see something of; what we ask by ioctl(2) changes nothing."""
WRITING = {
    int(number): name for name, number in (pair.split("=") for pair in NUMBERS.get(platform.machine(), "").split())
}
ONLY_IF = {
    "openat": lambda args: args[2] & (os.O_CREAT | os.O_TRUNC),
    "open": lambda args: args[1] & (os.O_CREAT | os.O_TRUNC),
    "fcntl": lambda args: args[1] in (6, 7, 37, 38),  # locks
}
PATHS = {
    "mkdir": 0,
    "rename": 0,
    "unlink": 0,
    "open": 0,
    "openat": 1,
    "unlinkat": 1,
    "mkdirat": 1,
    "renameat": 1,
    "renameat2": 1,
    "linkat": 3,
    "execve": 0,
    "mount": 1,
}
"""Which of the arguments names what is changed."""
PATHLESS = ("exit_group", "clone", "clone3", "fork", "vfork", "setns", "unshare", "kill", "tgkill")
NETLINK = "socket:"

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


@dataclass(frozen=True)
class Call:
    """A system call that was not made any more."""

    number: int
    name: str
    what: str


@dataclass
class Traced:
    """A process, from the moment on that `attach` has it."""

    pid: int
    at: int
    """Before which of its calls it is killed, counted from 1; 0 for none."""

    instead: int = 0
    """Who is killed in its place, and not followed."""

    meanwhile: Callable[[], None] | None = None
    """Done at that call, and nobody is killed."""

    seen: int = 0
    killed: Call | None = None
    status: int | None = None
    """What wait(2) said of its end."""

    others: dict[int, int] = field(default_factory=dict)
    """Of our other children that ended meanwhile."""

    def attach(self) -> None:
        """Have all of its threads stop, and go on under our eyes. Raises OSError where that is not allowed."""
        for thread in map(int, os.listdir(f"/proc/{self.pid}/task")):
            _ptrace(SEIZE, thread, OPTIONS)
            _ptrace(INTERRUPT, thread)

    def follow(self, enough: Callable[[], bool] = lambda: False) -> None:
        """Follow it until it ends, or until it is `enough`, which is asked whenever any child of ours stops or ends."""
        while self.status is None and not enough():
            pid, status = os.waitpid(-1, WALL)
            if os.WIFSTOPPED(status):
                self._stopped(pid, status)
            elif pid == self.pid:
                self.status = status
            else:
                self.others[pid] = status

    def kill(self) -> None:
        """Kill it now, and wait for its end."""
        os.kill(self.pid, signal.SIGKILL)
        self.follow()

    def _stopped(self, thread: int, status: int) -> None:
        pending = 0
        if os.WSTOPSIG(status) == OF_SYSCALL:
            if self._is_the_one(thread):
                self._reached()
        elif not status >> 16:
            pending = os.WSTOPSIG(status)
        with contextlib.suppress(ProcessLookupError):
            _ptrace(SYSCALL, thread, pending)

    def _reached(self) -> None:
        if self.meanwhile:
            self.meanwhile()
        else:
            os.kill(self.instead or self.pid, signal.SIGKILL)

    def _is_the_one(self, thread: int) -> bool:
        """Whether it is the call before which to kill, which is then noted."""
        operation, number, args = _entered(thread)
        name = WRITING.get(number, "") if operation == AT_ENTRY else ""
        if not name or self.killed or not ONLY_IF.get(name, lambda _: True)(args):
            return False
        self.seen += 1
        if self.seen != self.at:
            return False
        self.killed = Call(self.seen, name, _described(thread, name, args))
        return True


def refusal() -> str:
    """Why nobody can be traced here; "" where it can be."""
    if not WRITING:
        return f"the numbers of system calls of {platform.machine()} are not known"
    pid = os.fork()
    if not pid:
        signal.pause()
    try:
        _ptrace(SEIZE, pid, OPTIONS)
    except OSError as error:
        return f"ptrace(2) is not permitted: {error.strerror}"
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, WALL)
    return ""


def _ptrace(request: int, thread: int, data: int = 0) -> None:
    if libc.ptrace(request, thread, 0, data):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), f"ptrace({request:#x}, {thread})")


def _entered(thread: int) -> tuple[int, int, list[int]]:
    """Whether a call is entered, which, and its arguments, by PTRACE_GET_SYSCALL_INFO, the same everywhere."""
    info = (ctypes.c_uint64 * 12)()
    if libc.ptrace(GET_SYSCALL_INFO, thread, ctypes.sizeof(info), ctypes.byref(info)) <= 0:
        return 0, 0, []
    return info[0] & 0xFF, info[3], list(info[4:10])


def _described(thread: int, name: str, args: list[int]) -> str:
    """A path, or what a descriptor is of."""
    with contextlib.suppress(OSError):
        if name in PATHS:
            return _text(thread, args[PATHS[name]])
        if name not in PATHLESS:
            return _of_descriptor(thread, name, args)
    return ""


def _of_descriptor(thread: int, name: str, args: list[int]) -> str:
    target = os.readlink(f"/proc/{thread}/fd/{args[0] & 0xFFFFFFFF}")
    if name == "sendto" and target.startswith("socket:"):
        kind = int.from_bytes(_memory(thread, args[1] + 4, 2), "little")
        return f"message {kind:#x}"
    return target.split(":[")[0]


def _text(thread: int, address: int) -> str:
    return _memory(thread, address, 256).split(b"\0")[0].decode(errors="replace")


def _memory(thread: int, address: int, size: int) -> bytes:
    descriptor = os.open(f"/proc/{thread}/mem", os.O_RDONLY)
    try:
        return os.pread(descriptor, size, address)
    except OSError:  # the page after it is not there
        return os.pread(descriptor, min(size, 4096 - address % 4096), address)
    finally:
        os.close(descriptor)
