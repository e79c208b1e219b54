"""Namespace isolation, and definitions that grant their use to other namespaces."""

from __future__ import annotations

import json

import pytest
from meta_node import Node

from cni.kube.objects import GRANT
from cni.spec.errors import InvalidConfiguration


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path)


def define(node, grant, name="net"):
    metadata = {"name": name, "namespace": "other", "annotations": {GRANT: grant} if grant is not None else {}}
    data = {"kind": "NetworkAttachmentDefinition", "metadata": metadata, "spec": {"config": '{"type": "x"}'}}
    (node.manifests / "net.json").write_text(json.dumps(data))


def networks(node, **selected):
    node.run(**selected)
    return [entry.network for entry in node.plan(namespaceIsolation=True)]


@pytest.mark.parametrize("grant", ["test", " a , test ", "te*", "*", "a,*"])
def test_a_definition_grants_its_use_to_the_namespaces_that_it_names(node, grant):
    define(node, grant)
    assert networks(node, networks="other/net") == ["cluster", "other/net"]
    assert networks(node, default_network="other/net") == ["other/net"]


@pytest.mark.parametrize(
    "grant", [None, "", ",", " ", "tes", "testing", "TEST", "other", "t e s t", "test/net", "!test"]
)
def test_who_is_not_named_is_refused_and_told_how_to_be(node, grant):
    define(node, grant)
    for selected in ({"networks": "other/net"}, {"default_network": "other/net"}):
        with pytest.raises(InvalidConfiguration) as caught:
            networks(node, **selected)
        assert caught.value.id == "PLX-ISOLATION"
        assert 'network "other/net" in namespace "test"' in caught.value.msg
        assert GRANT in caught.value.details


def test_what_is_not_granted_is_not_told_from_what_does_not_exist(node):
    define(node, None, name="exists")
    told = []
    for name in ("exists", "nothing"):
        with pytest.raises(InvalidConfiguration) as caught:
            networks(node, networks=f"other/{name}")
        told.append(str(caught.value).replace(name, "NAME"))
    assert told[0] == told[1]


def test_a_grant_of_the_pods_own_says_nothing(node):
    define(node, None)
    metadata = {
        "name": "vm",
        "namespace": "test",
        "annotations": {"k8s.v1.cni.cncf.io/networks": "other/net", GRANT: "*"},
    }
    (node.manifests / "pod.json").write_text(json.dumps({"kind": "Pod", "metadata": metadata}))
    with pytest.raises(InvalidConfiguration, match="namespace isolation"):
        node.plan(namespaceIsolation=True)
