"""Programs of the system that change the kernel for us: where they are, and one run of one of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

from cni.linux import environment, inherited

SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin"
"""Searched too, because a runtime's PATH need not hold them."""
TIMEOUT = 60.0
"""Seconds after which a hanging program is given up."""


def find(name: str) -> str | None:
    """The path of the program, or None where it is not installed; one that came with our interpreter is the last."""
    ours = os.path.join(sys.prefix, "bin")
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}:{ours}")


def run(command: Sequence[str], stdin: bytes = b"") -> tuple[bytes, str]:
    """Run the command: what it printed, and why it failed, in its own first line; "" where it did not fail."""
    name = os.path.basename(command[0])
    try:
        process = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
            env=environment.of_programs(os.environ),
            pass_fds=inherited.descriptors.get(),
        )
    except subprocess.TimeoutExpired:
        return b"", f"{name} did not end within {TIMEOUT:.0f} seconds"
    except OSError as error:
        return b"", f"{name} could not be run: {error.strerror}"
    if process.returncode == 0:
        return process.stdout, ""
    lines = process.stderr.decode(errors="replace").strip().splitlines()
    return process.stdout, lines[0] if lines else f"{name} gave no reason"
