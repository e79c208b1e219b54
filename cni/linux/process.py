"""Run an executable that others wrote: for so long and no longer, with as much of its output as anybody needs.

It is the first of a session of its own, so that its children end with it when it has to be ended. A child that it
leaves behind when it ends by itself is its own business, and is not waited for.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import IO, Self, cast

from cni.linux import inherited

log = logging.getLogger(__name__)

GRACE = 2.0
"""Seconds to end by itself, for who was told to."""
LINGER = 0.2
"""Seconds for its children to say what they have to, after it has ended."""
REAP = 2.0
"""Seconds for the kernel to end it; one that waits for a device may take longer."""
TICK = 0.05
"""Seconds between two looks whether it has ended, where the kernel does not tell."""
MOST = 1 << 20
"""Bytes of stdout, unless somebody needs more."""
TAIL = 1 << 16
"""Bytes of stderr that are kept, of its end."""
PART = 1 << 16
SAFE = select.PIPE_BUF
"""Bytes that a pipe takes at once."""

HUNG, FLOODED = "hung", "flooded"


@dataclass(frozen=True)
class Ended:
    """What a program has left."""

    returncode: int
    stdout: bytes
    stderr: bytes
    """The end of it."""

    fault: str = ""
    """Why it was ended: HUNG or FLOODED; "" for one that ended by itself."""


def run(command: Sequence[str], stdin: bytes, environ: Mapping[str, str], seconds: float, *, most: int = MOST) -> Ended:
    """Run the command, for so many seconds, and bytes of stdout, at most.

    Raises OSError or ValueError where it cannot be begun.
    """
    process = subprocess.Popen(
        command,
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environ,
        pass_fds=inherited.descriptors.get(),
        start_new_session=True,
    )
    with _ending(process), _Talk(process, stdin, most) as talk:
        fault = talk.listen(seconds)
        if fault:
            _signal(process, signal.SIGTERM)
            talk.listen(min(GRACE, seconds))
            return talk.ended(fault)
        process.wait()
        return talk.ended()


@contextlib.contextmanager
def _ending(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Have it, and its children, ended at the end of the block, unless it has ended by itself."""
    try:
        yield
    finally:
        if process.returncode is None:
            # Not reaped yet, so that nobody else has its number; its children may be there when it is not.
            _signal(process, signal.SIGKILL)
            try:
                process.wait(REAP)
            except subprocess.TimeoutExpired:
                log.warning('"%s", process %d, does not end although it is killed', process.args, process.pid)


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


class _Talk:
    """What is said to a process and by it, as it comes."""

    def __init__(self, process: subprocess.Popen[bytes], stdin: bytes, most: int) -> None:
        self.process = process
        self.most = most
        self.stdin, self.stdout, self.stderr = (
            cast("IO[bytes]", stream) for stream in (process.stdin, process.stdout, process.stderr)
        )
        self.has_ended = False
        self._rest = memoryview(stdin)
        self._stdout, self._stderr = bytearray(), bytearray()
        self._poll = select.poll()
        self._heard: dict[int, Callable[[], None]] = {}
        self._pidfd = -1

    def __enter__(self) -> Self:
        self._watch(self.stdout.fileno(), partial(self._read, self.stdout, self._keep_head))
        self._watch(self.stderr.fileno(), partial(self._read, self.stderr, self._keep_tail))
        with contextlib.suppress(OSError, AttributeError):  # an old kernel, now or when Python was built; or it is gone
            self._pidfd = os.pidfd_open(self.process.pid)
            self._watch(self._pidfd, self._end)
        if len(self._rest) > SAFE:
            os.set_blocking(self.stdin.fileno(), False)
        self._write()
        if self._rest:
            self._watch(self.stdin.fileno(), self._write, select.POLLOUT)
        return self

    def __exit__(self, *_: object) -> None:
        for stream in (self.stdin, self.stdout, self.stderr):
            stream.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)

    def listen(self, seconds: float) -> str:
        """Hear it until it has ended; why it has to be ended, if it has."""
        end, late = time.monotonic() + seconds, HUNG
        while self._heard or not self.has_ended:
            if self.has_ended and late:
                end, late = min(end, time.monotonic() + LINGER), ""
            left = end - time.monotonic()
            if left <= 0:
                return late
            self._hear(left)
            if len(self._stdout) > self.most:
                return FLOODED
        return ""

    def ended(self, fault: str = "") -> Ended:
        """What it has left."""
        returncode = self.process.returncode
        return Ended(returncode if returncode is not None else 0, bytes(self._stdout), bytes(self._stderr), fault)

    def _hear(self, seconds: float) -> None:
        if self._pidfd < 0 and not self.has_ended:
            seconds = min(seconds, TICK)
            try:
                found = os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                self.has_ended = True  # somebody else was told of it
            else:
                self.has_ended = found is not None
        for descriptor, _ in self._poll.poll(seconds * 1000 + 1):
            self._heard[descriptor]()

    def _watch(self, descriptor: int, hear: Callable[[], None], event: int = select.POLLIN) -> None:
        self._poll.register(descriptor, event)
        self._heard[descriptor] = hear

    def _forget(self, descriptor: int) -> None:
        if self._heard.pop(descriptor, None):
            self._poll.unregister(descriptor)

    def _end(self) -> None:
        self.has_ended = True
        self._forget(self._pidfd)

    def _write(self) -> None:
        descriptor = self.stdin.fileno()
        with contextlib.suppress(BlockingIOError):
            try:
                self._rest = self._rest[os.write(descriptor, self._rest[:PART]) :]
            except BrokenPipeError:
                self._rest = self._rest[:0]  # it does not want to read, which is its own business
        if not self._rest:
            self._forget(descriptor)
            self.stdin.close()

    def _read(self, stream: IO[bytes], keep: Callable[[bytes], None]) -> None:
        part = os.read(stream.fileno(), PART)
        keep(part)
        if not part:
            self._forget(stream.fileno())

    def _keep_head(self, part: bytes) -> None:
        if len(self._stdout) <= self.most:
            self._stdout += part

    def _keep_tail(self, part: bytes) -> None:
        self._stderr += part
        if len(self._stderr) > 2 * TAIL:
            del self._stderr[:-TAIL]
