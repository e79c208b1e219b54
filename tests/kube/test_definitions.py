"""The definitions of a pod's networks, asked of the API: several at a time, each once, and told in the pod's order."""

from __future__ import annotations

import json
import threading

import pytest
from api_server import Server, write_kubeconfig

from cni.kube.api import ApiServer
from cni.kube.connection import Connection
from cni.meta import config, identity
from cni.meta.plan import plan
from cni.spec.errors import InvalidConfiguration
from cni.spec.request import Request

CLUSTER = {"cniVersion": "1.0.0", "name": "cluster", "type": "bridge"}
DEFINITIONS = "/apis/k8s.cni.cncf.io/v1/namespaces/{}/network-attachment-definitions/{}"
BOUND = 30
"""Seconds that questions wait for each other, if they are asked one after another."""


class Node:
    """A node whose source is a server that answers as told."""

    def __init__(self, directory):
        self.server = Server()
        path = directory / "kubeconfig"
        write_kubeconfig(path, self.server.url, "good")
        self.source = ApiServer(Connection(str(path)), deadline=5)

    def define(self, *names, namespace="test"):
        for name in names:
            spec = {"config": json.dumps({"cniVersion": "1.0.0", "name": name, "type": "bridge"})}
            self.server.objects[DEFINITIONS.format(namespace, name)] = {"spec": spec}

    def plan(self, networks, **conf):
        metadata = {"name": "vm", "namespace": "test", "annotations": {"k8s.v1.cni.cncf.io/networks": networks}}
        self.server.objects["/api/v1/namespaces/test/pods/vm"] = {"metadata": metadata}
        keys = {"name": "plexus", "type": "plexus", "delegates": [CLUSTER]} | conf
        request = Request(command="ADD", container_id="c1", ifname="eth0", netns="/n", conf=keys)
        pod = self.source.get_pod("test", "vm")
        who = identity.parse("K8S_POD_NAMESPACE=test;K8S_POD_NAME=vm")
        return [wanted.entry for wanted in plan(config.parse(request), request, who, pod, self.source)]

    @property
    def asked(self):
        paths = [path for method, path, *_ in self.server.requests if "network-attachment-definitions" in path]
        return [path.rpartition("/")[2] for path in paths]


@pytest.fixture
def node(tmp_path):
    made = Node(tmp_path)
    yield made
    made.server.stop()


def test_definitions_are_asked_for_at_the_same_time(node):
    node.define("a", "b", "c")
    together = threading.Barrier(3)
    node.server.before = lambda path: together.wait(BOUND) if "definitions" in path else None

    assert [entry.network for entry in node.plan("a,b,c")] == ["cluster", "test/a", "test/b", "test/c"]


def test_those_that_the_node_names_are_asked_for_at_the_same_time_too(node):
    node.define("every", "more", namespace="kube-system")
    node.define("a")
    together = threading.Barrier(3)
    node.server.before = lambda path: together.wait(BOUND) if "definitions" in path else None

    entries = node.plan("a", delegates=[], clusterNetwork="every", defaultNetworks=["more"])

    assert [entry.network for entry in entries] == ["kube-system/every", "kube-system/more", "test/a"]


def test_a_definition_is_asked_for_once_however_often_it_is_selected(node):
    node.define("a", "b")

    entries = node.plan("a,b,a,a@x,b", delegates=[], clusterNetwork="a", multusNamespace="test")

    assert len(entries) == 6
    assert sorted(node.asked) == ["a", "b"]


def test_more_definitions_than_are_asked_for_at_once_are_all_found_in_order(node):
    names = [f"n{index}" for index in range(20)]
    node.define(*names)

    entries = node.plan(",".join(names))

    assert [entry.network for entry in entries[1:]] == [f"test/{name}" for name in names]
    assert sorted(node.asked) == sorted(names)


def test_of_many_failures_the_first_in_the_pods_order_is_told(node):
    node.define("a", "d")
    later_failed = threading.Event()

    def answer(path):
        if path.endswith("/b"):
            later_failed.wait(BOUND)
        if path.endswith("/c"):
            later_failed.set()

    node.server.before = answer

    with pytest.raises(InvalidConfiguration, match='NetworkAttachmentDefinition "test/b"'):
        node.plan("a,b,c,d")
    assert later_failed.is_set()


def test_a_definition_of_another_namespace_is_asked_for_since_it_may_grant_its_use(node):
    node.define("a", "b")
    node.define("c", namespace="other")

    with pytest.raises(InvalidConfiguration, match="namespace isolation"):
        node.plan("a,other/c,b", namespaceIsolation=True)
    assert "c" in node.asked
