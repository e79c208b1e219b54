"""What is seen of the machine's processes while they come and go."""

import errno
import os
import shutil

import pytest

from cni.linux import living
from cni.spec.errors import KernelFailure


@pytest.mark.parametrize("ends", ["the process", "one thread"])
def test_who_ends_while_it_is_looked_at_is_nobody(tmp_path, monkeypatch, ends):
    """Of such a one the kernel says that it may not be looked at."""
    own = tmp_path / "7" / "task" / "8" / "ns"
    for thread in ("7", "8"):
        (tmp_path / "7" / "task" / thread / "ns").mkdir(parents=True)
        (tmp_path / "7" / "task" / thread / "ns" / "net").touch()
    stat = os.stat

    def refuse(path, *args, **keywords):
        if path == f"{own}/net":
            raise PermissionError(errno.EACCES, "denied", path)
        return stat(path, *args, **keywords)

    monkeypatch.setattr(os, "stat", refuse)
    with pytest.raises(KernelFailure, match="denied"):
        living.network_namespaces(str(tmp_path))

    def end(path, *args, **keywords):
        if path == f"{own}/net":
            shutil.rmtree(tmp_path / "7" if ends == "the process" else own.parent)
        return refuse(path, *args, **keywords)

    monkeypatch.setattr(os, "stat", end)
    assert len(living.network_namespaces(str(tmp_path))) <= 1
