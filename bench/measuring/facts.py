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

from measuring.places import MULTUS, PACKAGES, ROOT


def gather() -> dict[str, Any]:
    """Of the machine and of all versions but ours."""
    return {
        "kernel": platform.release(),
        "processors": f"{_processor()}, {os.cpu_count()} processors",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "python": platform.python_version(),
        "reference plugins": reference.NEW,
        "multus": MULTUS.removeprefix("v"),
        "kubernetes": executables.version(),
        "go": _version("go", "version"),
        "etcd": _version("etcd", "--version"),
        "containerd": _version("containerd", "--version"),
        "nft": _version("nft", "--version"),
        "iptables": _version("iptables", "--version"),
        "workloads": {},
    }


def begin(commit: str, *, quick: bool) -> dict[str, Any]:
    """Of a workload that begins; the load is how many processes wanted a processor in the last minute."""
    date = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
    return {"date": date, "plexus": _commit(commit), "load": round(os.getloadavg()[0], 1), "quick": quick}


def _processor() -> str:
    found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


def _commit(commit: str) -> str:
    git = ["git", "-C", str(ROOT), "-c", "safe.directory=*"]
    asked = [*git, "rev-parse", "--short", commit or "HEAD"]
    told = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    status = [*git, "status", "--porcelain", *PACKAGES]
    changed = not commit and subprocess.run(status, capture_output=True, text=True, check=False).stdout
    return f"{told or 'of no commit'}{' with changes' if changed else ''}"


def _version(*words: str) -> str:
    path = shutil.which(words[0], path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if not path:
        return "none"
    told = subprocess.run([path, *words[1:]], capture_output=True, text=True, check=False).stdout
    found = re.search(r"\d+\.\d+[\w.]*", told)
    return found[0] if found else "unknown"
