"""A throw-away machine with a kernel that has what this one may lack, such as bridge VLAN filtering.

It sees this machine's files and can change none of them. Its processor is emulated, so that it runs wherever tests do.
"""

import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import image
from image import Image, Unavailable

__all__ = ["Completed", "NoAnswer", "Unavailable", "run"]

QEMU = "qemu-system-x86_64"
INIT = "init"
SHARE = "/run/vm"
"""Where the machine has the directory that is shared with it."""
MEMORY_MB = 1024
PASSED = ("LANG", "PATH", "CNI_REFERENCE_DIR", "PLEXUS_TESTS_STRICT")
"""What of the environment the command in the machine has, too."""


class NoAnswer(Exception):
    """The machine ended, or was ended, before the command had; the text has the end of its console."""


@dataclass(frozen=True)
class Completed:
    """What a command in the machine gave back."""

    returncode: int
    output: str
    """Of stdout and stderr, as they came."""

    console: str
    seconds: float
    """From the start of the machine to its end."""


def run(command: Sequence[str], *, timeout: float, cwd: Path, share: Path | None = None) -> Completed:
    """Run `command` as root in a machine of its own, in the directory `cwd`; `timeout` is in seconds.

    `share` is a directory that is SHARE in the machine, and can be written to there; the output and the console's
    are left in it. Raises Unavailable, NoAnswer.
    """
    if not shutil.which(QEMU):
        raise Unavailable(f"{QEMU} is not installed (Debian's package is qemu-system-x86)")
    made = image.ensure()
    with tempfile.TemporaryDirectory(prefix="plexus-vm-") as scratch:
        directory = share or Path(scratch)
        (directory / "command").write_text(_script(command, cwd, os.environ))
        initrd, console = Path(scratch, "initrd"), directory / "console"
        shutil.copy(made.modules, initrd)
        image.archive(made.busybox, Path(__file__).parent, [INIT], initrd)
        started = time.monotonic()
        ended = _boot(_arguments(made, initrd, console, directory), timeout)
        seconds = time.monotonic() - started
        return _completed(directory, ended, seconds)


def _script(command: Sequence[str], cwd: Path, environ: Mapping[str, str]) -> str:
    passed = {name: environ[name] for name in PASSED if name in environ} | {"HOME": "/root"}
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in passed.items())
    return f"{exports}cd {shlex.quote(str(cwd))} || exit 126\nexec {shlex.join(command)}\n"


def _arguments(made: Image, initrd: Path, console: Path, share: Path) -> list[str]:
    common = "security_model=none,multidevs=remap"
    return [
        *(QEMU, "-machine", "pc", "-accel", "tcg,thread=single,tb-size=256", "-cpu", "max", "-m", str(MEMORY_MB)),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", f"file:{console}"),
        *("-kernel", str(made.kernel), "-initrd", str(initrd)),
        *("-append", "console=ttyS0 loglevel=4 panic=-1 reboot=t"),
        *("-fsdev", f"local,id=host,path=/,readonly=on,{common}", "-device", "virtio-9p-pci,fsdev=host,mount_tag=host"),
        *("-fsdev", f"local,id=share,path={share},{common}", "-device", "virtio-9p-pci,fsdev=share,mount_tag=share"),
    ]


def _boot(arguments: list[str], timeout: float) -> str:
    """Run the machine until it ends or the time is up; return how it ended."""
    # It dies with us: nobody would look after it.
    command = ["setpriv", "--pdeathsig", "KILL", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)
    except subprocess.TimeoutExpired:
        return f"it was ended after {timeout:.0f} seconds"
    return f"qemu's status was {done.returncode} {done.stderr}".rstrip()


def _completed(share: Path, ended: str, seconds: float) -> Completed:
    output, console, status = (_text(share / name) for name in ("output", "console", "status"))
    if not status:
        raise NoAnswer(
            f"no answer from the machine: {ended}\n--- console\n{console[-4000:]}\n--- output\n{output[-4000:]}"
        )
    return Completed(int(status), output, console, seconds)


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""
