"""A node for tests of the meta plugin: its configuration directory, its manifests, and what a pod on it would get."""

from __future__ import annotations

import json

from cni.kube.manifests import Manifests
from cni.meta import config, identity
from cni.meta.plan import plan
from cni.spec.request import Request

POD_ARGS = "IgnoreUnknown=1;K8S_POD_NAMESPACE=test;K8S_POD_NAME=vm;K8S_POD_UID=u1;EXTRA=x"
CLUSTER = {"cniVersion": "1.0.0", "name": "cluster", "type": "weave-net"}


class Node:
    """A node's configuration directory, its manifests, and what a pod on it would get."""

    def __init__(self, directory):
        self.directory = directory
        self.manifests = directory / "manifests"
        self.conf_dir = directory / "net.d"
        self.manifests.mkdir()
        self.conf_dir.mkdir()
        self.defined = 0

    def define(self, name, conf, namespace="test"):
        text = conf if isinstance(conf, str) else json.dumps(conf)
        data = {
            "kind": "NetworkAttachmentDefinition",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"config": text},
        }
        self.defined += 1
        (self.manifests / f"{self.defined}.json").write_text(json.dumps(data))

    def run(self, namespace="test", **annotations):
        names = {"networks": "k8s.v1.cni.cncf.io/networks", "default_network": "v1.multus-cni.io/default-network"}
        metadata = {
            "name": "vm",
            "namespace": namespace,
            "annotations": {names[key]: value for key, value in annotations.items()},
        }
        (self.manifests / "pod.json").write_text(json.dumps({"kind": "Pod", "metadata": metadata}))

    def plan(self, args=POD_ARGS, **conf):
        keys = {"delegates": [CLUSTER], "manifests": str(self.manifests), "confDir": str(self.conf_dir)} | conf
        request = Request(
            command="ADD",
            container_id="c1",
            ifname="eth0",
            netns="/n",
            conf={"name": "plexus", "type": "plexus"} | keys,
        )
        parsed = config.parse(request)
        source = Manifests(parsed.manifests, "")
        who = identity.parse(args)
        pod = source.get_pod(who.namespace, who.name) if who.is_pod else None
        return [wanted.entry for wanted in plan(parsed, request, who, pod, source)]
