"""Machines on which other programs are installed than on this one."""

import os
import shutil
from pathlib import Path

import pytest

SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


def use_iptables(variant: str, directory: Path, patch: pytest.MonkeyPatch) -> None:
    """Have `iptables` be iptables-nft or iptables-legacy."""
    for family in ("iptables", "ip6tables"):
        for program in ("", "-restore", "-save"):
            found = find(f"{family}-{variant}{program}")
            (directory / f"{family}{program}").symlink_to(os.path.realpath(found))
    patch.setenv("PATH", f"{directory}:{os.environ['PATH']}")


def find(program: str) -> str:
    """The path of a program that a test cannot do without."""
    found = shutil.which(program, path=f"{os.environ['PATH']}:{SBIN}")
    if found is None:
        pytest.skip(f"missing tool: {program}")
    return found


def install_only(patch: pytest.MonkeyPatch, directory: Path, *programs: str) -> None:
    """Have no program of the system be installed but these."""
    directory.mkdir()
    for program in programs:
        (directory / program).symlink_to(find(program))
    patch.setattr("cni.linux.program.SYSTEM_PATH", "/nonexistent")
    patch.setenv("PATH", str(directory))
