"""A guard around the kernel and other processes.

Python tells its audit hooks of both, whoever asks and through whichever library; what we raise is a BaseException, so
no `except Exception` on the way hides it.
"""

import socket
import sys
from typing import Any

PROCESSES = ("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.system")


class OutsideWorld(BaseException):
    """A unit test reached for the kernel or for another process."""


class Guard:
    """An audit hook cannot be taken out again, so this one is told when to look."""

    active = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.active:
            return
        if event in PROCESSES:
            raise OutsideWorld(f"a unit test started a process: {event} {arguments[:2]}")
        if event == "socket.__new__" and arguments[1] == socket.AF_NETLINK:
            raise OutsideWorld("a unit test opened a netlink socket")


GUARD = Guard()
sys.addaudithook(GUARD)
