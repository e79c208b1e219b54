"""Devices that a device plugin offers, the kubelet gives to pods, and networks take."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster, eventually
from deployed import Deployed
from installed import PATH
from workloads import bridge, network, pod

RESOURCE = "example.com/nic"
DEVICES = ["0000:01:02.0", "0000:01:02.1", "0000:01:02.2"]
MARKED = "bridge.network.kubevirt.io/br1"
PLUGIN = """\
#!/bin/sh
cat >"{directory}/nic-$CNI_COMMAND-$CNI_IFNAME"
[ "$CNI_COMMAND" = ADD ] || exit 0
echo '{{"cniVersion": "1.0.0", "interfaces": [{{"name": "'$CNI_IFNAME'", "sandbox": "'$CNI_NETNS'"}}]}}'
"""


@pytest.fixture(scope="module")
def offered(installed: Deployed) -> Iterator[Deployed]:
    """plexus in a cluster whose node has a device plugin, and a CNI plugin that takes its devices."""
    cluster = installed.cluster
    path = cluster.node.bin_dir / "nic"
    path.write_text(PLUGIN.format(directory=cluster.node.directory))
    path.chmod(0o755)
    program = [sys.executable, str(Path(__file__).with_name("device_plugin.py")), RESOURCE, *DEVICES]
    with subprocess.Popen(
        cluster.host.command(*program), env={"PATH": PATH}, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        eventually(lambda: _capacity(cluster) == str(len(DEVICES)))
        yield installed
        process.kill()


@pytest.fixture
def devices(offered: Deployed, plexus: Deployed) -> Deployed:
    """The same, cleaned after each test."""
    assert offered is plexus
    return plexus


def _capacity(cluster: Cluster) -> Any:
    return cluster.get("node", "localhost")["status"]["allocatable"].get(RESOURCE)


def _offer(name: str, resource: str, plugin: dict[str, Any]) -> dict[str, Any]:
    definition = network(name, plugin)
    definition["metadata"]["annotations"] = {"k8s.v1.cni.cncf.io/resourceName": resource}
    return definition


def _asking(name: str, networks: str, count: int) -> dict[str, Any]:
    asking = pod(name, networks)
    asking["spec"]["containers"][0]["resources"] = {"limits": {RESOURCE: str(count)}}
    return asking


def _stdin(cluster: Cluster, command: str, ifname: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((cluster.node.directory / f"nic-{command}-{ifname}").read_text())
    return told


def test_each_network_takes_a_device_that_the_kubelet_gave_the_pod(devices: Deployed):
    cluster = devices.cluster
    cluster.apply(_offer("nic", RESOURCE, {"type": "nic"}), _asking("owner", "nic,nic", 2))
    cluster.wait_for_pod("owner")

    _, *taken = cluster.statuses("owner")
    addresses = [status["device-info"]["pci"]["pci-address"] for status in taken]
    assert addresses == sorted(set(addresses) & set(DEVICES))
    assert len(addresses) == 2
    given = [_stdin(cluster, "ADD", ifname) for ifname in ("net1", "net2")]
    assert [(conf["deviceID"], conf["pciBusID"]) for conf in given] == [(address, address) for address in addresses]

    cluster.delete("pod", "owner")
    assert [_stdin(cluster, "DEL", ifname)["deviceID"] for ifname in ("net1", "net2")] == addresses


def test_a_pod_that_did_not_ask_for_the_device_is_told_what_to_write(devices: Deployed):
    cluster = devices.cluster
    cluster.apply(_offer("nic", RESOURCE, {"type": "nic"}), pod("careless", "nic"))

    told = cluster.wait_for_event("careless", "PLX-DEVICE-MISSING", '"default/nic"')

    assert f'resource "{RESOURCE}"' in told
    assert "the pod has none: ask for 1 in the limits of one of its containers" in told
    assert not cluster.pod("careless")["status"].get("podIP")


def test_a_resource_that_no_device_plugin_offers_only_marks_the_nodes_that_have_the_network(devices: Deployed):
    cluster = devices.cluster
    executed = bridge(1, kind="reference-bridge", ipam="reference-host-local")
    cluster.apply(_offer("marked", MARKED, executed), pod("marked", "marked"))
    cluster.wait_for_pod("marked")

    assert [status["name"] for status in cluster.statuses("marked")] == ["pod-network", "default/marked"]
