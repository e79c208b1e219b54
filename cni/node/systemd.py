"""systemd's protocol for services: sockets that it hands over, and what it wants to be told (sd_notify(3))."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

FIRST_DESCRIPTOR = 3


def sockets(environ: Mapping[str, str]) -> list[socket.socket]:
    """The listening sockets that systemd has opened for this process."""
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    handed = range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(environ.get("LISTEN_FDS", "0")))
    for descriptor in handed:
        os.set_inheritable(descriptor, False)
    return [socket.socket(fileno=descriptor) for descriptor in handed]


def watchdog_seconds(environ: Mapping[str, str]) -> float:
    """How long systemd waits for a sign of life before it restarts us; 0 where it does not."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0
    return int(environ.get("WATCHDOG_USEC", "0")) / 1e6


def notify(environ: Mapping[str, str], state: str, *, patience: float = 0) -> None:
    """Tell systemd, where it is there, for example "READY=1"; wait so many seconds at most until it has room for it."""
    path = environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
        connection.settimeout(patience)
        try:
            connection.connect("\0" + path[1:] if path.startswith("@") else path)
            connection.sendall(state.encode())
        except OSError:
            return  # it will find out, by its own time-outs
