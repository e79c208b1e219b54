"""An ADD whose result nobody hears is taken back: its runtime was killed, and may have said its DEL already."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import node_daemon
import pytest
from comparison import columns

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the daemon serves root")

LEASE = "10.1.0.2"


@pytest.fixture(params=["alone", "by the daemon"])
def bin_dir(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    directory = tmp_path / "bin"
    directory.mkdir()
    is_alone = request.param == "alone"
    installed = columns.install(directory, "" if is_alone else columns.DEPENDENT)
    with nullcontext() if is_alone else node_daemon.running(installed):
        yield installed


@pytest.fixture
def conf(tmp_path: Path) -> dict[str, Any]:
    ipam = {"type": "host-local", "dataDir": str(tmp_path / "leases"), "ranges": [[{"subnet": "10.1.0.0/16"}]]}
    return {"cniVersion": "1.1.0", "name": "net", "ipam": ipam}


def call(bin_dir: Path, verb: str, conf: dict[str, Any], stdout: int) -> int:
    environ = {"CNI_COMMAND": verb, "CNI_CONTAINERID": "c1", "CNI_NETNS": "/n", "CNI_IFNAME": "eth0", "CNI_PATH": "/"}
    done = subprocess.run(
        [str(bin_dir / "host-local")],
        input=json.dumps(conf).encode(),
        env=environ,
        stdout=stdout,
        stderr=subprocess.DEVNULL,
        check=False,
        timeout=60,
    )
    return done.returncode


@pytest.fixture
def nobody() -> Iterator[int]:
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


def leases(conf: dict[str, Any]) -> list[str]:
    return [path.name for path in Path(conf["ipam"]["dataDir"]).rglob("10.*")]


def test_an_add_that_nobody_hears_leaves_nothing(bin_dir, conf, nobody):
    assert call(bin_dir, "ADD", conf, nobody) == 1
    assert leases(conf) == []


def test_one_that_is_heard_stays_when_nobody_hears_the_others(bin_dir, conf, nobody):
    assert call(bin_dir, "ADD", conf, subprocess.DEVNULL) == 0
    assert call(bin_dir, "ADD", conf, nobody) == 1  # it has an address already
    assert call(bin_dir, "CHECK", conf, nobody) == 0
    assert leases(conf) == [LEASE]
    assert call(bin_dir, "DEL", conf, nobody) == 0
    assert leases(conf) == []
