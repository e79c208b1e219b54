"""Which device each network takes, and what a pod is told that lacks one. The kubelet's part is its checkpoint."""

from __future__ import annotations

import json

import pytest
from device_node import SRIOV, DeviceNode

from cni.meta import device_info
from cni.plugin.ledger import Entry
from cni.spec.errors import CNIError, DecodingFailure, InvalidConfiguration, TryAgainLater, UnsupportedField

MARKED = "bridge.network.kubevirt.io/br1"


@pytest.fixture
def node(tmp_path):
    return DeviceNode(tmp_path)


def test_networks_take_devices_in_sorted_order(node):
    node.offer("a")
    node.offer("b")
    node.offer("c", "intel.com/other")
    node.give(SRIOV, "0000:03:02.3", "0000:03:02.0", "0000:03:02.1")
    node.run(networks="b,a")

    assert node.devices() == [None, "0000:03:02.0", "0000:03:02.1"]


def test_the_cluster_network_takes_the_first_device_where_it_is_of_the_resource(node):
    node.offer("a")
    node.give(SRIOV, "2", "1")
    node.run(networks="test/a")

    assert node.devices(clusterNetwork="a", multusNamespace="test") == ["1", "2"]


def test_a_pod_chooses_among_its_own_devices(node):
    node.offer("a")
    node.give(SRIOV, "1", "2", "3")
    node.run(networks='[{"name": "a"}, {"name": "a", "deviceID": "1"}, {"name": "a"}]')

    assert node.devices() == [None, "2", "1", "3"]


def test_a_device_that_is_not_the_pods_is_refused(node):
    node.offer("a")
    node.give(SRIOV, "1", "2")
    node.run(networks='[{"name": "a", "deviceID": "0000:00:1f.6"}]')

    with pytest.raises(InvalidConfiguration, match=r'asks for "0000:00:1f\.6", and the pod has 2 \(1, 2\)') as caught:
        node.plan()
    assert caught.value.id == "PLX-DEVICE-MISSING"


def test_a_device_that_two_networks_ask_for_is_refused(node):
    node.offer("a")
    node.give(SRIOV, "1", "2")
    node.run(networks='[{"name": "a", "deviceID": "1"}, {"name": "a", "deviceID": "1"}]')

    with pytest.raises(InvalidConfiguration, match='asks for "1" twice'):
        node.plan()


def test_a_pod_with_too_few_devices_is_told_how_many_it_needs(node):
    node.offer("a")
    node.offer("b")
    node.give(SRIOV, "0000:03:02.0")
    node.run(networks="a,b,a")

    with pytest.raises(InvalidConfiguration) as caught:
        node.plan()
    assert str(caught.value) == (
        'pod "test/vm": could not find a device of resource "intel.com/sriov" for network "test/b", "test/a"; '
        "3 networks take one each, and the pod has 1 (0000:03:02.0): "
        "ask for 3 in the limits of one of its containers, or by a ResourceClaim [PLX-DEVICE-MISSING]"
    )


def test_a_pod_without_devices_of_a_device_plugins_resource_is_told(node):
    node.offer("a")
    node.give()
    node.run(networks="a")

    with pytest.raises(InvalidConfiguration, match="one network takes one, and the pod has none: ask for 1") as caught:
        node.plan()
    assert caught.value.code == 7


def test_devices_of_another_pod_of_that_name_are_not_taken(node):
    node.offer("a")
    node.give(SRIOV, "1", uid="u0")
    node.run(networks="a")

    with pytest.raises(InvalidConfiguration, match="the pod has none"):
        node.plan()


def test_a_resource_without_a_device_plugin_only_tells_the_scheduler_where_the_network_is(node):
    node.offer("a", MARKED, {"name": "n", "plugins": [{"type": "cnv-bridge", "bridge": "br1"}, {"type": "tuning"}]})
    node.give()
    node.run(networks="a,a")

    entries = node.plan()

    assert all("deviceID" not in entry.conf and entry.runtime_config == {} for entry in entries)


def test_a_plugin_that_claims_a_device_is_not_called_without_one(node):
    node.offer("a", MARKED, {"type": "cnv-bridge", "capabilities": {"deviceID": True}})
    node.give()
    node.run(networks="a")

    with pytest.raises(InvalidConfiguration, match="the pod has none"):
        node.plan()


def test_nobody_is_asked_for_the_devices_of_a_network_that_uses_none(node):
    node.offer("a", MARKED, {"name": "n", "plugins": [{"type": "bridge", "bridge": "br1"}]})
    node.run(networks="a")  # there is neither a socket nor a checkpoint

    assert "deviceID" not in node.plan()[1].conf


def test_a_kubelet_that_does_not_tell_is_an_error_to_retry(node):
    node.offer("a")
    node.run(networks="a")

    with pytest.raises(TryAgainLater, match="kubeletDir") as caught:
        node.plan()
    assert caught.value.id == "PLX-KUBELET-UNREACHABLE"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"Data": []}', '{"Data": {"PodDeviceEntries": [5]}}'])
def test_a_checkpoint_that_cannot_be_read_is_no_answer(node, text):
    node.offer("a")
    node.checkpoint.write_text(text)
    node.run(networks="a")

    with pytest.raises(DecodingFailure) as caught:
        node.plan()
    assert caught.value.id == "PLX-KUBELET-CHECKPOINT"


def test_a_device_of_the_node_needs_the_definitions_consent(node):
    node.define("closed", {"type": "host-device"})
    node.run(networks='[{"name": "closed", "deviceID": "0000:00:1f.6"}]')
    with pytest.raises(UnsupportedField, match='"deviceID"') as caught:
        node.plan()
    assert caught.value.id == "PLX-CAPABILITY"

    node.define("open", {"type": "host-device", "capabilities": {"deviceID": True}})
    node.run(networks='[{"name": "open", "deviceID": "0000:00:1f.6"}]')
    assert node.devices() == [None, "0000:00:1f.6"]
    assert "0000:00:1f.6" not in node.plan()[1].conf


def test_a_definition_without_config_takes_devices_too(node):
    node.offer("a", conf="")
    (node.conf_dir / "10-a.conf").write_text('{"name": "a", "type": "sriov"}')
    node.give(SRIOV, "1")
    node.run(networks="a")

    assert node.devices() == [None, "1"]


def test_the_file_of_a_plugin_that_describes_its_device_by_itself_is_passed(node):
    node.define("userspace", {"type": "userspace", "capabilities": {"CNIDeviceInfoFile": True}})
    node.run(networks="userspace")

    path = str(node.directory / "devinfo" / "cni" / "test-userspace-c1_net1")
    assert node.plan()[1].runtime_config == {"CNIDeviceInfoFile": path}


INFO = {"type": "pci", "version": "1.1.0", "pci": {"pci-address": "0000:01:02.2"}}


@pytest.fixture
def entry(tmp_path):
    path = device_info.path(str(tmp_path), "test/a", "c1", "net1")
    return Entry(network="test/a", conf="{}", ifname="net1", runtime_config={"CNIDeviceInfoFile": path})


@pytest.fixture
def described(tmp_path):
    """Where the device plugin writes."""
    path = device_info.written_by_plugin(str(tmp_path), "intel.com/sriov", "0000:01:02.2")
    assert path == str(tmp_path / "dp" / "intel.com-sriov-0000:01:02.2-device.json")
    (tmp_path / "dp").mkdir()
    return tmp_path / "dp" / "intel.com-sriov-0000:01:02.2-device.json"


def test_what_the_device_plugin_wrote_is_there_for_the_plugins_until_it_is_removed(entry, described, tmp_path):
    described.write_text(json.dumps(INFO))

    device_info.place(entry, "c1", str(described))

    placed = tmp_path / "cni" / "test-a-c1_net1"
    assert json.loads(placed.read_text()) == INFO
    assert placed.stat().st_mode & 0o777 == 0o444
    assert device_info.find(entry, "c1") == INFO
    device_info.remove(entry, "c1")
    assert not placed.exists()
    assert described.exists()


def test_a_device_that_nobody_describes_has_no_file(entry, described, tmp_path):
    device_info.place(entry, "c1", str(described))

    assert device_info.find(entry, "c1") is None
    assert not (tmp_path / "cni").exists()
    device_info.remove(entry, "c1")


def test_an_older_file_is_not_taken_for_this_attachments(entry, described, tmp_path):
    (tmp_path / "cni").mkdir()
    (tmp_path / "cni" / "test-a-c1_net1").write_text(json.dumps(INFO))

    device_info.place(entry, "c1", str(described))

    assert device_info.find(entry, "c1") is None


BROKEN = ["", "{", "[]", "5", "NaN", '{"type": "' + "x" * device_info.LARGEST + '"}', "[" * 20000]


@pytest.mark.parametrize("text", BROKEN, ids=range(len(BROKEN)))
def test_a_description_that_is_broken_is_an_error_to_retry(entry, described, tmp_path, text):
    described.write_text(text)

    with pytest.raises(TryAgainLater) as caught:
        device_info.place(entry, "c1", str(described))
    assert (caught.value.code, caught.value.id) == (11, "PLX-DEVICE-INFO")
    assert not (tmp_path / "cni").exists()


@pytest.mark.parametrize("text", BROKEN, ids=range(len(BROKEN)))
def test_what_a_plugin_wrote_in_no_way_is_left_out_and_logged(entry, tmp_path, caplog, text):
    (tmp_path / "cni").mkdir()
    (tmp_path / "cni" / "test-a-c1_net1").write_text(text)

    assert device_info.find(entry, "c1") is None
    assert "test/a goes without device-info" in caplog.text


def test_a_file_that_the_runtime_passed_is_left_alone(tmp_path):
    foreign = tmp_path / "foreign"
    foreign.write_text(json.dumps(INFO))
    entry = Entry(network="a", conf="{}", ifname="eth0", runtime_config={"CNIDeviceInfoFile": str(foreign)})

    device_info.place(entry, "c1", "")
    device_info.remove(entry, "c1")

    assert foreign.exists()


def test_the_name_of_a_file_is_never_longer_than_a_name_can_be():
    path = device_info.path("/d", "n" * 253 + "/" + "a" * 253, "c" * 64, "i" * 15)

    name = path.removeprefix("/d/cni/")
    assert len(name) == 255
    assert name.endswith("c_" + "i" * 15)


def test_a_hostile_name_stays_in_its_folder(node):
    assert device_info.written_by_plugin("/d", "../../etc", "../x") == "/d/dp/..-..-etc-..-x-device.json"


def test_del_without_its_record_goes_on_without_the_devices_that_are_gone(node):
    node.offer("a")
    node.give()
    node.run(networks="a")

    with pytest.raises(CNIError):
        node.plan()
    node.command = "DEL"
    assert [entry.network for entry in node.plan()] == ["cluster", "test/a"]
