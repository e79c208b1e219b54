"""Two hundred containers at once: the daemon serves them all, with memory that its slots bound."""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import node_daemon
import pytest
from comparison import columns
from installed import tools
from throwaway import Host, throwaway_host

CROWD = 200
MEBIBYTES = 128

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")


@pytest.fixture
def host() -> Iterator[Host]:
    tools("ip", "nft", "unshare", "nsenter")
    with throwaway_host() as host:
        yield host


def test_two_hundred_at_once_are_all_served_and_memory_stays_bounded(host: Host, tmp_path: Path):
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    columns.install(bin_dir, columns.DEPENDENT)
    sandbox = host.namespace("sandbox")
    ranges = [[{"subnet": "10.1.0.0/16"}]]
    ipam = {"type": "host-local", "dataDir": str(tmp_path / "leases"), "ranges": ranges}
    conf = {"cniVersion": "1.0.0", "name": "net", "type": "bridge", "bridge": "cni0", "ipam": ipam}

    def call(verb: str, number: int) -> str:
        environ = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": f"container{number}",
            "CNI_NETNS": sandbox.path,
            "CNI_IFNAME": f"eth{number}",
            "CNI_PATH": str(bin_dir),
        }
        return host.run(str(bin_dir / "bridge"), stdin=json.dumps(conf), environ=environ)

    with node_daemon.running(bin_dir, before=host.command()) as daemon, ThreadPoolExecutor(CROWD) as threads:
        before = daemon.memory("VmRSS")
        results = [json.loads(text) for text in threads.map(lambda number: call("ADD", number), range(CROWD))]
        assert daemon.memory("VmHWM") <= MEBIBYTES, f"it had {before} MiB before"
        assert len({result["ips"][0]["address"] for result in results}) == CROWD
        assert len(host.links()) == CROWD + 2
        list(threads.map(lambda number: call("DEL", number), range(CROWD)))
        assert sandbox.links() == ["lo"]
        assert daemon.begun("ADD") == CROWD
        assert daemon.begun("DEL") == CROWD
