"""A device from the kubelet's checkpoint to an executed plugin, to network-status, and nothing left of it after DEL."""

from __future__ import annotations

import json

import pytest
from plexus_node import Node

from cni.spec.errors import CNIError, InvalidConfiguration

SRIOV = "intel.com/sriov"
DEVICES = ["0000:03:02.0", "0000:03:02.1"]
PLUGIN = """\
#!/bin/sh
cat > "{directory}/stdin-$CNI_COMMAND-$CNI_IFNAME"
cp -r "{directory}/devinfo/cni" "{directory}/files-$CNI_COMMAND-$CNI_IFNAME" 2>/dev/null
[ "$CNI_COMMAND" = DEL ] && exit 0
{then}
echo '{{"cniVersion": "1.0.0", "interfaces": [{{"name": "'$CNI_IFNAME'", "sandbox": "'$CNI_NETNS'"}}]}}'
"""
FAIL = """echo '{"cniVersion": "1.0.0", "code": 100, "msg": "no such VF"}'; exit 1"""
WRITE = """echo '{"type": "vhost-user", "version": "1.1.0"}' > "$(sed 's/.*InfoFile":"//; s/".*//' STDIN)\""""


def info(device):
    return {"type": "pci", "version": "1.1.0", "pci": {"pci-address": device}}


class DeviceNode(Node):
    """A node whose kubelet gave the pod two devices, which their device plugin describes."""

    def __init__(self, host, sandbox, directory):
        super().__init__(host, sandbox, directory)
        self.conf |= {"kubeletDir": str(directory / "kubelet"), "deviceInfoDir": str(directory / "devinfo")}
        for folder in ("bin", "kubelet/device-plugins", "devinfo/dp"):
            (directory / folder).mkdir(parents=True)
        self.give(*DEVICES)
        for device in DEVICES:
            path = directory / "devinfo" / "dp" / f"intel.com-sriov-{device}-device.json"
            path.write_text(json.dumps(info(device)))
        self.install("sriov")
        self.offer("sriov", {"type": "sriov", "capabilities": {"CNIDeviceInfoFile": True, "deviceID": True}})

    def request(self, command, **changes):
        arguments = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=vm;K8S_POD_UID=u1"
        return super().request(command, **{"args": arguments} | changes)

    def give(self, *devices):
        entry = {"PodUID": "u1", "ContainerName": "c", "ResourceName": SRIOV, "DeviceIDs": {"0": devices}}
        path = self.directory / "kubelet" / "device-plugins" / "kubelet_internal_checkpoint"
        path.write_text(json.dumps({"Data": {"PodDeviceEntries": [entry], "RegisteredDevices": {SRIOV: []}}}))

    def install(self, name, then=""):
        path = self.directory / "bin" / name
        path.write_text(PLUGIN.format(directory=self.directory, then=then))
        path.chmod(0o755)

    def offer(self, name, conf, resource=SRIOV):
        annotations = {"k8s.v1.cni.cncf.io/resourceName": resource} if resource else {}
        data = {
            "kind": "NetworkAttachmentDefinition",
            "metadata": {"name": name, "annotations": annotations},
            "spec": {"config": json.dumps({"cniVersion": "1.0.0", "name": name} | conf)},
        }
        (self.manifests / f"nad-{name}.json").write_text(json.dumps(data))

    def stdin(self, command, ifname):
        return json.loads((self.directory / f"stdin-{command}-{ifname}").read_text())

    def files(self, when=""):
        folder = self.directory / (f"files-{when}" if when else "devinfo/cni")
        return {path.name: json.loads(path.read_text()) for path in folder.glob("*")}


@pytest.fixture
def node(host, sandbox, tmp_path):
    return DeviceNode(host, sandbox, tmp_path)


def test_each_attachment_has_its_device_its_description_and_its_status(node):
    node.run("sriov,sriov")

    node.add()

    for device, ifname in zip(DEVICES, ("net1", "net2"), strict=True):
        file = f"default-sriov-c1_{ifname}"
        conf = node.stdin("ADD", ifname)
        assert (conf["deviceID"], conf["pciBusID"]) == (device, device)
        path = str(node.directory / "devinfo" / "cni" / file)
        assert conf["runtimeConfig"] == {"deviceID": device, "CNIDeviceInfoFile": path}
        assert node.files(f"ADD-{ifname}")[file] == info(device)
    assert [status.get("device-info") for status in node.status] == [None, *map(info, DEVICES)]


def test_del_finds_the_device_in_its_record_and_removes_its_file(node):
    node.run("sriov")
    before = node.state()
    node.add()
    added = node.stdin("ADD", "net1")
    (node.directory / "kubelet" / "device-plugins" / "kubelet_internal_checkpoint").unlink()

    node.delete()

    deleted = node.stdin("DEL", "net1")
    assert {key: deleted[key] for key in added} == added
    assert node.files("DEL-net1").keys() == {"default-sriov-c1_net1"}
    assert node.files() == {}
    assert node.state()["files"] == before["files"]


def test_an_add_that_fails_after_the_device_leaves_no_file(node):
    node.install("broken", FAIL)
    node.offer("broken", {"type": "broken"}, resource="")
    node.run("sriov,broken")

    with pytest.raises(CNIError, match="no such VF"):
        node.add()

    assert node.files("ADD-net1").keys() == {"default-sriov-c1_net1"}
    assert node.files() == {}
    assert not node.record.exists()


def test_an_add_that_fails_with_the_device_leaves_no_file(node):
    node.install("sriov", FAIL)
    node.run("sriov")

    with pytest.raises(CNIError, match="no such VF"):
        node.add()

    assert node.files("ADD-net1") == {"default-sriov-c1_net1": info(DEVICES[0])}
    assert node.files() == {}


def test_a_pod_that_lacks_a_device_is_attached_to_nothing(node):
    node.run("sriov,sriov,sriov")
    before = node.state()

    with pytest.raises(InvalidConfiguration, match=r"3 networks take one each, and the pod has 2 \("):
        node.add()

    assert node.state() == before
    assert not list(node.directory.glob("stdin-*"))


def test_what_the_plugin_itself_says_of_its_device_is_in_the_status(node):
    node.install("userspace", WRITE.replace("STDIN", f"{node.directory}/stdin-ADD-net1"))
    node.offer("userspace", {"type": "userspace", "capabilities": {"CNIDeviceInfoFile": True}}, resource="")
    (node.directory / "devinfo" / "cni").mkdir()
    node.run("userspace")

    node.add()

    assert node.status[1]["device-info"] == {"type": "vhost-user", "version": "1.1.0"}
    node.delete()
    assert node.files() == {}


def test_the_cluster_network_may_take_a_device(node):
    node.offer("sriov", {"type": "sriov"})
    node.conf |= {"clusterNetwork": "sriov", "multusNamespace": "default"}
    node.conf.pop("delegates")
    node.run("")

    node.add()

    assert node.stdin("ADD", "eth0")["pciBusID"] == DEVICES[0]
    assert node.status[0]["device-info"] == info(DEVICES[0])
    node.delete()
    assert node.files() == {}
