"""Devices that the kubelet or the scheduler gives to pods, and networks take."""

import contextlib
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

HERE = Path(__file__).parent
RESOURCE = "example.com/nic"
DEVICES = ["0000:01:02.0", "0000:01:02.1", "0000:01:02.2"]
DRIVER = "nic.example.com"
CLAIMABLE = "example.com/port"
CLAIMABLE_DEVICES = ["0000:02:00.0", "0000:02:00.1", "0000:02:00.2"]
MARKED = "bridge.network.kubevirt.io/br1"
PLUGIN = """\
#!/bin/sh
cat >"{directory}/nic-$CNI_COMMAND-$CNI_IFNAME"
[ "$CNI_COMMAND" = ADD ] || exit 0
echo '{{"cniVersion": "1.0.0", "interfaces": [{{"name": "'$CNI_IFNAME'", "sandbox": "'$CNI_NETNS'"}}]}}'
"""


@pytest.fixture(scope="module")
def offered(installed: Deployed) -> Iterator[None]:
    """The node has a device plugin, a driver, and a CNI plugin that takes their devices."""
    cluster = installed.cluster
    path = cluster.node.bin_dir / "nic"
    path.write_text(PLUGIN.format(directory=cluster.node.directory))
    path.chmod(0o755)
    with _running(cluster, "device_plugin.py", RESOURCE, *DEVICES), _running(cluster, "dra_driver.py", DRIVER):
        eventually(lambda: _allocatable(cluster) == str(len(DEVICES)))
        cluster.apply(*_claimable())
        yield
        cluster.delete("deviceclass/port", "resourceslice/ports")


@pytest.fixture
def devices(offered: None, plexus: Deployed) -> Deployed:
    """plexus there, and nothing left after each test."""
    return plexus


@contextlib.contextmanager
def _running(cluster: Cluster, *words: str) -> Iterator[None]:
    """Have a program of this directory run on the node for the block."""
    program = cluster.host.command(sys.executable, str(HERE / words[0]), *words[1:])
    with subprocess.Popen(program, env={"PATH": PATH}, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == b"ready\n"
            yield
        finally:
            process.kill()


def _allocatable(cluster: Cluster) -> Any:
    return cluster.get("node", "localhost")["status"]["allocatable"].get(RESOURCE)


def _claimable() -> Iterator[dict[str, Any]]:
    """The driver's devices, and their class, by which pods can also ask for them in their limits."""
    api = {"apiVersion": "resource.k8s.io/v1"}
    attributes = [
        {"k8s.cni.cncf.io/resourceName": {"string": CLAIMABLE}, "k8s.cni.cncf.io/deviceID": {"string": device}}
        for device in CLAIMABLE_DEVICES
    ]
    yield api | {
        "kind": "ResourceSlice",
        "metadata": {"name": "ports"},
        "spec": {
            "driver": DRIVER,
            "nodeName": "localhost",
            "pool": {"name": "localhost", "generation": 1, "resourceSliceCount": 1},
            "devices": [{"name": f"port-{index}", "attributes": told} for index, told in enumerate(attributes)],
        },
    }
    selector = {"cel": {"expression": f'device.driver == "{DRIVER}"'}}
    yield api | {
        "kind": "DeviceClass",
        "metadata": {"name": "port"},
        "spec": {"selectors": [selector], "extendedResourceName": CLAIMABLE},
    }


def _offer(name: str, resource: str, plugin: dict[str, Any]) -> dict[str, Any]:
    definition = network(name, plugin)
    definition["metadata"]["annotations"] = {"k8s.v1.cni.cncf.io/resourceName": resource}
    return definition


def _limited(asking: dict[str, Any], **limits: int) -> dict[str, Any]:
    (container,) = asking["spec"]["containers"]
    container["resources"] = {"limits": {name: str(count) for name, count in limits.items()}}
    return asking


def _scheduled(asking: dict[str, Any]) -> dict[str, Any]:
    """The pod as the scheduler places it."""
    del asking["spec"]["nodeName"]
    return asking


def _stdin(cluster: Cluster, command: str, ifname: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((cluster.node.directory / f"nic-{command}-{ifname}").read_text())
    return told


def _taken(cluster: Cluster, *ifnames: str) -> list[str]:
    return [_stdin(cluster, "ADD", ifname)["deviceID"] for ifname in ifnames]


def test_each_network_takes_a_device_that_the_kubelet_gave_the_pod(devices: Deployed):
    cluster = devices.cluster
    cluster.apply(_offer("nic", RESOURCE, {"type": "nic"}), _limited(pod("owner", "nic,nic"), **{RESOURCE: 2}))
    cluster.wait_for_pod("owner")

    _, *statuses = cluster.statuses("owner")
    taken = [status["device-info"]["pci"]["pci-address"] for status in statuses]
    assert len(taken) == 2
    assert taken == sorted(set(taken) & set(DEVICES))
    given = [_stdin(cluster, "ADD", ifname) for ifname in ("net1", "net2")]
    assert [(conf["deviceID"], conf["pciBusID"]) for conf in given] == [(device, device) for device in taken]

    cluster.delete("pod", "owner")
    assert [_stdin(cluster, "DEL", ifname)["deviceID"] for ifname in ("net1", "net2")] == taken


@pytest.mark.parametrize(("name", "resource"), [("careless", RESOURCE), ("claimless", CLAIMABLE)])
def test_a_pod_that_did_not_ask_for_the_device_is_told_what_to_write(devices: Deployed, name: str, resource: str):
    cluster = devices.cluster
    cluster.apply(_offer("nic", resource, {"type": "nic"}), pod(name, "nic"))

    told = cluster.wait_for_event(name, "PLX-DEVICE-MISSING")

    assert f'could not find a device of resource "{resource}" for network "default/nic"' in told
    assert "the pod has none: ask for 1 in the limits of one of its containers" in told
    assert not cluster.pod(name)["status"].get("podIP")


def test_a_resource_that_nobody_offers_only_marks_the_nodes_that_have_the_network(devices: Deployed):
    cluster = devices.cluster
    executed = bridge(1, kind="reference-bridge", ipam="reference-host-local")
    cluster.apply(_offer("marked", MARKED, executed), pod("marked", "marked"))
    cluster.wait_for_pod("marked")

    assert [status["name"] for status in cluster.statuses("marked")] == ["pod-network", "default/marked"]


def test_networks_take_the_devices_of_the_pods_claims(devices: Deployed):
    cluster = devices.cluster
    requests = [{"name": "ports", "exactly": {"deviceClassName": "port", "count": 2}}]
    template = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaimTemplate",
        "metadata": {"name": "two-ports", "namespace": "default"},
        "spec": {"spec": {"devices": {"requests": requests}}},
    }
    claiming = _scheduled(pod("claiming", "port,port"))
    claiming["spec"]["resourceClaims"] = [{"name": "ports", "resourceClaimTemplateName": "two-ports"}]
    claiming["spec"]["containers"][0]["resources"] = {"claims": [{"name": "ports"}]}
    asked = len(devices.requests())

    cluster.apply(_offer("port", CLAIMABLE, {"type": "nic"}), template, claiming)
    cluster.wait_for_pod("claiming")

    taken = _taken(cluster, "net1", "net2")
    assert len(taken) == 2
    assert taken == sorted(set(taken) & set(CLAIMABLE_DEVICES))
    looked_up = [request for request in devices.requests()[asked:] if "/" not in request and "resource" in request]
    assert looked_up == ["get resourceclaims", "list resourceslices"]
    cluster.delete("pod", "claiming")
    cluster.delete("resourceclaimtemplate", "two-ports")


def test_networks_take_the_devices_that_drivers_offer_for_limits(devices: Deployed):
    cluster = devices.cluster
    extended = _scheduled(_limited(pod("extended", "port,port"), **{CLAIMABLE: 2}))

    cluster.apply(_offer("port", CLAIMABLE, {"type": "nic"}), extended)
    cluster.wait_for_pod("extended")

    taken = _taken(cluster, "net1", "net2")
    assert len(taken) == 2
    assert taken == sorted(set(taken) & set(CLAIMABLE_DEVICES))
