"""The rows about devices that need neither a kubelet nor an API server: checkpoint, configuration, network-status."""

from __future__ import annotations

import json

import pytest
from device_node import SRIOV, DeviceNode
from vectors import cases

from cni.kube.kubelet import Kubelet
from cni.meta import network_status
from cni.plugin.ledger import Entry, Record

ROWS = {name: row for name, row in cases.by_id("multus_devices").items() if "given" in row}
REMEMBERED, CONFIGURED, DESCRIBED = (
    [pytest.param(row, id=row["id"]) for row in ROWS.values() if key in row["given"] and expected in row["expected"]]
    for key, expected in (("checkpoint", "devices"), ("conf", "plugins"), ("device-info", "status"))
)


@pytest.mark.parametrize("row", REMEMBERED)
def test_the_checkpoint_says_what_the_row_says(row, tmp_path):
    path = tmp_path / "device-plugins" / "kubelet_internal_checkpoint"
    path.parent.mkdir()
    path.write_text(json.dumps(row["given"]["checkpoint"]))

    assert Kubelet(str(tmp_path)).devices_of("test", "vm", row["given"]["uid"]) == row["expected"]["devices"]


@pytest.mark.parametrize("row", CONFIGURED)
def test_a_device_is_in_the_configuration_of_every_plugin(row, tmp_path):
    node = DeviceNode(tmp_path)
    node.offer("n", conf=row["given"]["conf"])
    node.give(SRIOV, row["given"]["device"])
    node.run(networks="n")

    entry = node.plan()[1]

    delegate = json.loads(entry.conf)
    assert (delegate.get("plugins") or [delegate]) == row["expected"]["plugins"]
    assert entry.runtime_config["deviceID"] == row["given"]["device"]


@pytest.mark.parametrize("row", DESCRIBED)
def test_network_status_has_what_is_known_of_the_device(row):
    expected = row["expected"]["status"]
    result = {
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "net1", "mac": expected["mac"], "mtu": expected["mtu"], "sandbox": "/n"}],
        "ips": [{"address": "1.1.1.3/24", "interface": 0}, {"address": "2001::1/64", "interface": 0}],
    }
    entry = Entry(network="test/net1", conf="{}", ifname="net1", result=result, device_info=row["given"]["device-info"])

    (status,) = json.loads(network_status.build(Record(container_id="c", ifname="eth0", netns="/n", entries=(entry,))))

    assert status == expected
    assert list(status) == list(expected)
