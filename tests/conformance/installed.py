"""Executables as an installation has them: our launchers, the reference plugins, cnitool."""

import os
import shutil
from pathlib import Path

import pytest
from comparison import columns, reference

OLD, NEW = reference.OLD, reference.NEW
DAEMON_WANTED = os.environ.get("PLEXUS_TESTS_DAEMON") == "1"
"""Whether the launchers on a host of their own are to have a daemon there, and to depend on it."""
with_launchers: list[Path] = []
"""The directories so far that have launchers of ours."""
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"


def launchers(directory: Path, *, on_a_host: bool = True, before: str = "") -> Path:
    """A directory of ours, below the one given; used on a host of its own, or on the machine itself.

    They run `before` before all else.
    """
    made = directory / "bin"
    made.mkdir()
    if on_a_host:
        with_launchers.append(made)
    return columns.install(made, columns.DEPENDENT if DAEMON_WANTED and on_a_host else before)


def reference_plugins(version: str, *needed: str) -> Path:
    """The directory of the reference plugins of a version, or no test."""
    found = reference.find(version)
    if found.directory is None:
        pytest.skip(found.reason)
    missing = [name for name in needed if not (found.directory / name).is_file()]
    if missing:
        pytest.skip(f"no reference {', '.join(missing)} in {found.directory}")
    return found.directory


def tools(*names: str) -> None:
    """No test where one of the commands is not installed."""
    missing = [name for name in names if not shutil.which(name, path=PATH)]
    if missing:
        pytest.skip(f"missing tools: {', '.join(missing)}")
