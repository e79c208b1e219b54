"""What Prometheus reads of the node daemon, at a Unix socket or a loopback address."""

import json
import os
import re
import socket
import subprocess
from pathlib import Path

import node_daemon
import pytest
from comparison import columns
from node_daemon import metrics
from plugin_call import environment

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the daemon serves root")


@pytest.fixture
def bin_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "bin"
    directory.mkdir()
    return columns.install(directory, columns.DEPENDENT)


def call(bin_dir: Path, verb: str, tmp_path: Path) -> int:
    ipam = {"type": "host-local", "dataDir": str(tmp_path / "leases"), "subnet": "10.1.0.0/16"}
    conf = {"cniVersion": "1.0.0", "name": "net", "ipam": ipam}
    command = [str(bin_dir / "host-local")]
    done = subprocess.run(command, input=json.dumps(conf).encode(), env=environment(verb), check=False, timeout=60)
    return done.returncode


def value(text: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert found, f"{name} is not among: {text}"
    return float(found[1])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_requests_are_counted_by_what_became_of_them(bin_dir: Path, tmp_path: Path):
    path = tmp_path / "metrics"
    with node_daemon.running(bin_dir, "--slots", "3", "--metrics", f"unix:{path}") as daemon:
        assert path.stat().st_mode & 0o777 == 0o600
        assert [call(bin_dir, verb, tmp_path) for verb in ("ADD", "ADD", "DEL")] == [0, 1, 0]
        node_daemon.until(lambda: value(metrics(str(path)), "plexus_in_flight") == 0)
        text = metrics(str(path))
        assert daemon.end() == 0
    served = 'plexus_requests_total{command="%s",outcome="%s",plugin="host-local"}'
    assert [value(text, served % which) for which in (("ADD", "ok"), ("ADD", "11"), ("DEL", "ok"))] == [1, 1, 1]
    assert value(text, 'plexus_request_seconds_count{command="ADD",plugin="host-local"}') == 2
    assert value(text, "plexus_waited_seconds_count") == 3
    pool = 'plexus_pool_addresses{directory="%s",ip_version="4",network="net",state="%s"}'
    leases = tmp_path / "leases" / "net"
    assert [value(text, pool % (leases, state)) for state in ("used", "free")] == [0, 2**16 - 3]
    assert value(text, "plexus_slots") == 3
    assert value(text, "plexus_waiting") == 0
    assert value(text, "process_resident_memory_bytes") > 0
    assert not path.exists()


def test_metrics_can_be_read_at_a_loopback_address(bin_dir: Path, tmp_path: Path):
    port = free_port()
    with node_daemon.running(bin_dir, "--metrics", f"127.0.0.1:{port}"):
        assert call(bin_dir, "ADD", tmp_path) == 0
        assert value(metrics(("127.0.0.1", port)), "plexus_slots") == 16


@pytest.mark.parametrize(
    "address", ["0.0.0.0:9464", "192.0.2.1:9464", "[::]:9464", "9464", "unix:metrics", "localhost:x"]
)
def test_nobody_else_can_read_them(address: str, bin_dir: Path):
    command = [str(bin_dir / "plexus"), "daemon", "--metrics", address]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "PLX-DAEMON-METRICS" in done.stderr


def test_without_being_told_it_counts_nothing(bin_dir: Path):
    with node_daemon.running(bin_dir) as daemon:
        maps = Path(f"/proc/{daemon.pid}/net/tcp").read_text()
        inodes = {os.readlink(link) for link in Path(f"/proc/{daemon.pid}/fd").iterdir() if link.is_symlink()}
    listening = [row.split()[9] for row in maps.splitlines()[1:] if row.split()[3] == "0A"]
    assert not {f"socket:[{inode}]" for inode in listening} & inodes
