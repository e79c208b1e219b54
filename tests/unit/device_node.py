"""A node whose kubelet gives devices, by its checkpoint, and networks that take them."""

from __future__ import annotations

import json

from meta_node import Node

SRIOV = "intel.com/sriov"


class DeviceNode(Node):
    """A node whose kubelet gave its pod devices."""

    def __init__(self, directory):
        super().__init__(directory)
        self.checkpoint = directory / "device-plugins" / "kubelet_internal_checkpoint"
        self.checkpoint.parent.mkdir()
        self.command = "ADD"

    def give(self, resource=SRIOV, *ids, registered=(SRIOV,), uid="u1"):
        entry = {"PodUID": uid, "ContainerName": "c", "ResourceName": resource, "DeviceIDs": {"0": list(ids)}}
        data = {
            "PodDeviceEntries": [entry] if ids else [],
            "RegisteredDevices": {name: ["x"] for name in registered},
        }
        self.checkpoint.write_text(json.dumps({"Data": data, "Checksum": 1}))

    def offer(self, name, resource=SRIOV, conf='{"type": "sriov"}'):
        """Define a network that takes devices."""
        data = {
            "kind": "NetworkAttachmentDefinition",
            "metadata": {
                "name": name,
                "namespace": "test",
                "annotations": {"k8s.v1.cni.cncf.io/resourceName": resource},
            },
            "spec": {"config": conf if isinstance(conf, str) else json.dumps(conf)},
        }
        (self.manifests / f"offered-{name}.json").write_text(json.dumps(data))

    def devices(self, **conf):
        """What each network gets as capability."""
        return [entry.runtime_config.get("deviceID") for entry in self.plan(**conf)]

    def request(self, **conf):
        keys = {"kubeletDir": str(self.directory), "deviceInfoDir": str(self.directory / "devinfo")}
        return super().request(**keys | conf).replace(command=self.command)
