"""What is to be known of a run: when, where, and with which versions."""

from __future__ import annotations

import datetime as dt
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import executables
from comparison import reference

from measuring.places import MULTUS, ROOT


def gather() -> dict[str, Any]:
    """All of it, as it is now."""
    return {
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "kernel": platform.release(),
        "processors": f"{os.cpu_count()} of {_processor()}",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "plexus": _commit(),
        "python": platform.python_version(),
        "reference plugins": reference.NEW,
        "multus": MULTUS.removeprefix("v"),
        "kubernetes": executables.version(),
        "go": _version("go", "version"),
        "etcd": _version("etcd", "--version"),
        "containerd": _version("containerd", "--version"),
        "nft": _version("nft", "--version"),
        "iptables": _version("iptables", "--version"),
        "load": {"begin": load()},
    }


def load() -> float:
    """How many processes want a processor, as the mean of the last minute."""
    return round(os.getloadavg()[0], 2)


def _processor() -> str:
    found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


def _commit() -> str:
    git = ["git", "-C", str(ROOT), "-c", "safe.directory=*"]
    told = subprocess.run(
        [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    changed = subprocess.run(
        [*git, "status", "--porcelain", "cni", "ipam", "delegates"], capture_output=True, text=True, check=False
    )
    return f"{told or 'no commit'}{' with changes' if changed.stdout else ''}"


def _version(*words: str) -> str:
    path = shutil.which(words[0], path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if not path:
        return "none"
    told = subprocess.run([path, *words[1:]], capture_output=True, text=True, check=False).stdout
    found = re.search(r"\d+\.\d+[\w.]*", told)
    return found[0] if found else "unknown"
