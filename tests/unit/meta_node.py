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

    def request(self, **conf):
        keys = {"delegates": [CLUSTER], "manifests": str(self.manifests), "confDir": str(self.conf_dir)} | conf
        return Request(
            command="ADD",
            container_id="c1",
            ifname="eth0",
            netns="/n",
            conf={"name": "plexus", "type": "plexus"} | keys,
        )

    def plan(self, args=POD_ARGS, **conf):
        request = self.request(**conf)
        parsed = config.parse(request)
        source = Manifests(parsed.manifests, "")
        who = identity.parse(args)
        pod = source.get_pod(who.namespace, who.name) if who.is_pod else None
        return [wanted.entry for wanted in plan(parsed, request, who, pod, source)]


PLACE = "@CONFDIR@"
"""What stands for the node's `confDir` in a row."""


class Situation:
    """A row's node, files, definitions and pod."""

    def __init__(self, given, directory):
        self.node = Node(directory)
        self.conf = json.loads(self.located(json.dumps(given.get("conf", {}))))
        for name, content in given.get("files", {}).items():
            path = self.node.conf_dir / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        for name, conf in given.get("definitions", {}).items():
            namespace, _, own = name.partition("/")
            self.node.define(own, conf, namespace=namespace)
        pod = dict(given.get("pod", {}))
        self.namespace = pod.pop("namespace", "test")
        self.node.run(self.namespace, **pod)
        self.args = given.get("args", f"K8S_POD_NAMESPACE={self.namespace};K8S_POD_NAME=vm")

    def located(self, text):
        return text.replace(PLACE, str(self.node.conf_dir))

    def request(self):
        return self.node.request(**self.conf)

    def plan(self):
        return self.node.plan(args=self.args, **self.conf)
