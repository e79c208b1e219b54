"""Keeps the host's own daemon running, from a container: the installed version's, in the host's namespaces.

The container stays what it is, so that the kubelet can look into it; only the daemon, its child, is on the host.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from threading import Event

from cni.linux import namespaces
from cni.node import launcher
from cni.node.prefix import Prefix
from cni.spec.errors import IOFailure

log = logging.getLogger(__name__)

FIRST = 1
"""The host's first process, whose namespaces the runtime's plugins are in."""
HOST_ROOT = f"/proc/{FIRST}/root"
INTERVAL = 1.0
"""Seconds between two looks at what is installed."""
SILENCE = 60.0
"""Seconds without a sign of life after which the daemon is taken to hang."""
LONGEST = 200.0
"""Seconds for it to end; it serves those in line first, see `reception.DRAIN`, and then those that are being served."""
NOTICE = 5.0
"""Seconds for the daemon to say that it lives to somebody who asks."""
ENVIRON = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "MALLOC_ARENA_MAX": "2",
    "WATCHDOG_USEC": str(int(SILENCE * 1e6)),
}
"""The daemon's, of which nothing is the container's own."""


class Pulse:
    """The daemon's signs of life, which it gives as to systemd."""

    def __init__(self, directory: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = clock()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(f"{directory}/notify")
        # Seen from the host: nothing of it need be there, and nothing is left there.
        self.path = f"/proc/{os.getpid()}/root{directory}/notify"

    def is_silent(self) -> bool:
        """Whether nothing has come for too long."""
        try:
            while self._socket.recv(4096):
                self._last = self._clock()
        except BlockingIOError:
            pass
        return self._clock() - self._last > SILENCE

    def close(self) -> None:
        """Hear no more."""
        self._socket.close()


def keep(prefix: Prefix, options: Sequence[str], stop: Event) -> None:
    """Have the installed version's daemon run until `stop`, and another one when another version is installed.

    Raises IOFailure when it ends by itself, or hangs: whoever runs us tries again.
    """
    told = False
    while not stop.is_set():
        version = find_version(prefix)
        if version:
            _have(prefix, version, options, stop)
        elif not told:
            log.info('waiting until plexus is installed below "%s" on the host', prefix.path)
        told = not version
        stop.wait(INTERVAL)


def find_version(prefix: Prefix) -> str:
    """The version that is installed on the host now, or ""."""
    try:
        version = os.path.basename(os.readlink(prefix.local("current")))
    except OSError:
        return ""
    return version if os.path.exists(prefix.local("versions", version, "bin", "plexus")) else ""


def answers(path: str) -> bool:
    """Whether a daemon that listens at `path` says that it lives."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(NOTICE)
        try:
            connection.connect(path)
            return connection.recv(1) in (launcher.WAIT, launcher.BUSY)
        except OSError:
            return False


def _have(prefix: Prefix, version: str, options: Sequence[str], stop: Event) -> None:
    """Have that version's daemon for as long as it is the installed one."""
    with tempfile.TemporaryDirectory() as directory:
        pulse = Pulse(directory)
        daemon = _start([f"{prefix.path}/versions/{version}/bin/plexus", "daemon", *options], pulse.path)
        try:
            while find_version(prefix) == version and not stop.wait(INTERVAL):
                _check(daemon, pulse)
        finally:
            _end(daemon)
            pulse.close()
    log.info("the daemon of version %s has ended", version)


def _end(daemon: subprocess.Popen[bytes]) -> None:
    """Have it end by itself, as long as what it serves may take."""
    daemon.terminate()
    try:
        daemon.wait(LONGEST)
    except subprocess.TimeoutExpired:
        log.warning("the daemon has not ended within %g seconds of being told to, and is killed", LONGEST)
        daemon.kill()
        daemon.wait()


def _check(daemon: subprocess.Popen[bytes], pulse: Pulse) -> None:
    """Raise IOFailure unless it lives."""
    status = daemon.poll()
    if status is not None:
        reason = f"signal {-status}" if status < 0 else f"exit status {status}; its own log says why"
        raise IOFailure("could not keep the daemon running", f"it has ended, by {reason}", id="PLX-DAEMON-ENDED")
    if pulse.is_silent():
        daemon.kill()
        reason = f"it has given no sign of life for {SILENCE:g} seconds, and was killed"
        raise IOFailure("could not keep the daemon running", reason, id="PLX-DAEMON-ENDED")


def _start(words: list[str], notify: str) -> subprocess.Popen[bytes]:
    environ = ENVIRON | {"NOTIFY_SOCKET": notify}
    try:
        return subprocess.Popen(words, env=environ, preexec_fn=_enter_host)  # noqa: PLW1509 - all that it takes is loaded
    except OSError as error:
        raise IOFailure(f'could not run "{words[0]}" on the host', str(error), id="PLX-IO") from error


def _enter_host() -> None:
    """Be on the host; the child's way from fork to exec, from which no exception finds its way."""
    try:
        namespaces.enter(FIRST)
    except OSError as error:
        reason = f"could not enter the host's namespaces: {error.strerror}; it takes hostPID and a privileged container"
        os.write(2, f"plexus: {reason}\n".encode())
        os._exit(126)
