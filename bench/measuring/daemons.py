"""Daemons, ours and that of Multus: run for the time of a block, and watched."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from measuring.call import ENVIRON, Failed

PATIENCE = 60
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Daemon:
    """A process that does work for others."""

    pid: int

    def processor(self) -> float:
        """Seconds of the processor until now, for it and for those that it waited for."""
        return time.clock_gettime((~self.pid << 3) | 2) + self._waited_for()

    def memory(self, field: str) -> float:
        """MiB of a field of /proc/<pid>/status: VmRSS is now, VmHWM the most so far."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024

    def _waited_for(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[13]) + int(fields[14])) / TICKS


@contextlib.contextmanager
def ours(launchers: Path) -> Iterator[Daemon]:
    """Have the daemon of a directory of launchers run; it has told that it is ready."""
    with (
        tempfile.TemporaryDirectory(prefix="pb") as directory,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard,
    ):
        heard.bind(f"{directory}/notify")
        heard.settimeout(PATIENCE)
        environ = {"NOTIFY_SOCKET": f"{directory}/notify"}
        with _running([str(launchers / "plexus"), "daemon"], environ, launchers / "daemon.log") as daemon:
            said = heard.recv(100)
            if said != b"READY=1":
                raise Failed(f"our daemon said {said!r}")
            yield daemon


@contextlib.contextmanager
def multus(words: list[str], environ: Mapping[str, str], listens: Path, log: Path) -> Iterator[Daemon]:
    """Have the daemon of Multus run; it listens."""
    with _running(words, environ, log) as daemon:
        end = time.monotonic() + PATIENCE
        while not listens.exists() and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(1)  # from listening to serving
        if not listens.exists() or daemon.processor() == 0:
            raise Failed(f"the daemon of Multus did not begin: {log.read_text()[-2000:]}")
        yield daemon


@contextlib.contextmanager
def _running(words: list[str], environ: Mapping[str, str], log: Path) -> Iterator[Daemon]:
    with (
        log.open("w") as file,
        subprocess.Popen(words, env=ENVIRON | dict(environ), stdout=file, stderr=file) as process,
    ):
        try:
            yield Daemon(process.pid)
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
