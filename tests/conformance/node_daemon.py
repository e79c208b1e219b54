"""`plexus daemon` of a directory of launchers, for the time of a block."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60
"""Seconds; the machine may be busy with other tests."""
NURSERY = """
import ctypes, json, os, signal, sys
sys.path.insert(0, sys.argv[1])
from cni.node import daemon
daemon.load()
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    told = json.loads(line)
    if os.fork():
        continue
    for descriptor in [os.open(path, os.O_RDONLY) for path in told["namespaces"]]:
        ctypes.CDLL(None).setns(descriptor, 0)
    # A process does not enter a PID namespace, its children do.
    pid = os.fork()
    if pid:
        print(pid, flush=True)
        os._exit(0)
    os.dup2(os.open("/dev/null", os.O_RDWR), 1)
    environ = {"NOTIFY_SOCKET": told["notify"]}
    if told["listening"]:
        os.dup2(told["listening"], 3)
        environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
    daemon.run(daemon.Settings(socket=told["socket"]), environ)
    os._exit(0)
"""


STOPPED = {"T", "t"}
"""States of a thread in /proc."""


def until(condition: Callable[[], object]) -> None:
    """Wait for what must come."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.02)


def metrics(address: Any) -> str:
    """What Prometheus would read at a Unix socket, or at a port."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(address)
        connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        parts = list(iter(lambda: connection.recv(65536), b""))
    head, _, body = b"".join(parts).decode().partition("\r\n\r\n")
    assert "200 OK" in head
    return body


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
        if number == signal.SIGSTOP:  # which each thread obeys when it is its turn to run
            until(lambda: set(self._states()) <= STOPPED)

    def _states(self) -> Iterator[str]:
        for path in Path(f"/proc/{self.pid}/task").glob("*/stat"):
            with contextlib.suppress(OSError):
                yield path.read_text().rpartition(") ")[2][0]

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


class Nursery:
    """A process with everything loaded, which becomes one daemon after the other: tests are many, and imports slow."""

    def __init__(self, directory: Path) -> None:
        self.notify = directory / "notify"
        self.log = (directory / "daemons.log").open("w")
        self.heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.heard.bind(str(self.notify))
        self.heard.settimeout(PATIENCE)
        self.listening: socket.socket | None = None
        self.process: subprocess.Popen[str] | None = None

    @contextlib.contextmanager
    def daemon(self, path: Path, netns: str) -> Iterator[None]:
        """Have a daemon listen at `path`, in the namespace `netns` or, for "", in our own."""
        pid = self._begin(path, [netns] if netns else [])
        try:
            yield
        finally:
            os.kill(pid, signal.SIGTERM)
            assert self.heard.recv(100) == b"STOPPING=1"

    def put(self, path: Path, host: int) -> int:
        """Have a daemon listen at `path`, in all namespaces of the process `host`, for as long as that lives."""
        return self._begin(path, [f"/proc/{host}/ns/{name}" for name in ("pid_for_children", "net", "mnt")])

    def listen(self, path: Path) -> None:
        """Listen at `path` for all daemons that are put there from now on, as systemd does; before the first of all."""
        self.listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listening.bind(str(path))
        self.listening.listen(4096)

    def close(self) -> None:
        """End it; daemons that still run are not its own any more."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
        if self.listening:
            self.listening.close()
        self.heard.close()
        self.log.close()

    def _begin(self, path: Path, namespaces: list[str]) -> int:
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-c", NURSERY, str(ROOT)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.log,
                text=True,
                pass_fds=[self.listening.fileno()] if self.listening else [],
            )
        assert self.process.stdin
        assert self.process.stdout
        listening = self.listening.fileno() if self.listening else 0
        told = {"socket": str(path), "namespaces": namespaces, "notify": str(self.notify), "listening": listening}
        self.process.stdin.write(json.dumps(told) + "\n")
        self.process.stdin.flush()
        pid = int(self.process.stdout.readline())
        assert self.heard.recv(100) == b"READY=1", Path(self.log.name).read_text()
        return pid
