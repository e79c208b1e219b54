"""The networks that have leases of ours below some directories: a table beside theirs says so."""

from __future__ import annotations

import os
from collections.abc import Iterable

from cni.plugin import files
from ipam import index
from ipam.directory import DirectoryStore


def stores(data_dirs: Iterable[str]) -> list[DirectoryStore]:
    """One for each network. Raises IOFailure."""
    return [DirectoryStore(path) for data_dir in sorted(set(data_dirs)) for path in _directories(data_dir)]


def _directories(data_dir: str) -> list[str]:
    try:
        names = os.listdir(data_dir)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError:
        return files.change(f'list "{data_dir}"', os.listdir, data_dir)
    indexed = {name for name in names if os.path.exists(index.path_of(os.path.join(data_dir, name)))}
    return [path for name in sorted(indexed) if os.path.isdir(path := os.path.join(data_dir, name))]
