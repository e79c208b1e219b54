"""What plexus writes is root's alone, whatever the runtime's umask; what others may read is only written by root."""

from __future__ import annotations

import os
import stat

import pytest
from plexus_node import KUBEVIRT, Node

READ_BY_OTHERS = {
    "state/network-status/default/vm.json": 0o644,  # in place of a pod's annotation
    "leases/cluster/lock": 0o750,  # as the reference plugin makes it
    "leases/multus-br/lock": 0o750,
}


@pytest.fixture
def open_umask():
    before = os.umask(0)
    yield
    os.umask(before)


def allowed(path, directory):
    if path.is_dir():
        return 0o700 if path.name == "containers" else 0o755
    return READ_BY_OTHERS.get(str(path.relative_to(directory)), 0o600)


def test_everything_that_is_written_for_a_pod_is_roots_alone(host, sandbox, tmp_path, open_umask):
    node = Node(host, sandbox, tmp_path)
    node.run(KUBEVIRT)
    node.add()

    found = [path for top in ("state", "leases") for path in (tmp_path / top, *(tmp_path / top).rglob("*"))]
    names = {path.name for path in found}
    assert names >= {"c1@eth0.json", "vm.json", "10.244.0.2", "192.168.100.2", "lock", ".cluster.index"}
    modes = {path: stat.S_IMODE(path.lstat().st_mode) for path in found}
    assert {str(path): oct(mode) for path, mode in modes.items() if mode & ~allowed(path, tmp_path)} == {}
