"""Programs of the system that change the kernel for us: where they are, and one run of one of them."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence

from cni.linux import environment
from cni.linux import process as processes

SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin"
"""Searched too, because a runtime's PATH need not hold them."""
TIMEOUT = 20.0
"""Seconds after which a hanging program is given up: a call of the runtime may have 50."""
MOST = 64 << 20
"""Bytes that it may print: the rules of a node with thousands of services are some."""


def find(name: str) -> str | None:
    """The path of the program, or None where it is not installed; one that came with our interpreter is the last."""
    ours = os.path.join(sys.prefix, "bin")
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}:{ours}")


def run(command: Sequence[str], stdin: bytes = b"") -> tuple[bytes, str]:
    """Run the command: what it printed, and why it failed, in its own first line; "" where it did not fail."""
    name = os.path.basename(command[0])
    try:
        process = processes.run(command, stdin, environment.of_programs(os.environ), TIMEOUT, most=MOST)
    except OSError as error:
        return b"", f"{name} could not be run: {error.strerror}"
    if process.fault:
        return b"", f"{name} did not end within {TIMEOUT:.0f} seconds, or printed more than {MOST} bytes"
    if process.returncode == 0:
        return process.stdout, ""
    lines = process.stderr.decode(errors="replace").strip().splitlines()
    return process.stdout, lines[0] if lines else f"{name} gave no reason"
