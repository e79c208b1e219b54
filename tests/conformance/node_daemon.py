"""`plexus daemon` of a directory of launchers, for the time of a block."""

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 60
"""Seconds; the machine may be busy with other tests."""


@dataclass
class Daemon:
    """One that is ready; `bin_dir` has its launchers."""

    bin_dir: Path
    process: "subprocess.Popen[str]"
    log: Path

    @property
    def socket(self) -> Path:
        return self.bin_dir / "plexus.sock"

    @property
    def pid(self) -> int:
        """Of Python, where something else has entered namespaces for it."""
        pid = self.process.pid
        while True:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            if Path(f"/proc/{pid}/comm").read_text().strip() != "nsenter" or not children:
                return pid
            pid = int(children[0])

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Have it die in the middle of whatever it does."""
        self.send(signal.SIGKILL)
        self.process.wait(PATIENCE)

    def end(self) -> int:
        """Have it end properly; its exit status."""
        self.send(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def said(self) -> str:
        """What is in its log."""
        return self.log.read_text()

    def begun(self, verb: str) -> int:
        """How many requests it has begun to serve."""
        return self.said().count(f"begin {verb} ")

    def memory(self, field: str = "VmHWM") -> int:
        """Its resident memory in MiB, at its largest unless `field` says otherwise."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field)) // 1024


@contextlib.contextmanager
def running(bin_dir: Path, *options: str, before: Sequence[str] = (), cwd: Path | None = None) -> Iterator[Daemon]:
    """Have it run, entered as `before` says; it has said that it is ready, and its end is the block's."""
    with (
        tempfile.TemporaryDirectory(prefix="pd") as directory,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard,
    ):
        heard.bind(f"{directory}/notify")
        heard.settimeout(PATIENCE)
        log = Path(directory, "log")
        command = [*before, str(bin_dir / "plexus"), "daemon", "--debug", *options]
        environ = {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "NOTIFY_SOCKET": f"{directory}/notify"}
        with (
            log.open("w") as stderr,
            subprocess.Popen(command, env=environ, stderr=stderr, text=True, cwd=cwd) as process,
        ):
            try:
                assert heard.recv(100) == b"READY=1", log.read_text()
                yield Daemon(bin_dir, process, log)
            finally:
                _end(process)


def _end(process: "subprocess.Popen[str]") -> None:
    if process.poll() is None:
        os.kill(Daemon(Path(), process, Path()).pid, signal.SIGKILL)
