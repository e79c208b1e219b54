"""The auxiliary chain: plugins beside the cluster network's file, which every container gets last."""

from __future__ import annotations

import json

import pytest
from meta_node import Node

from cni.spec import netconf
from cni.spec.errors import CNIError, InvalidConfiguration

CLUSTER = {"cniVersion": "1.0.0", "name": "cluster", "plugins": [{"type": "weave-net"}]}


@pytest.fixture
def node(tmp_path):
    made = Node(tmp_path)
    (made.conf_dir / "10.conflist").write_text(json.dumps(CLUSTER))
    made.define("a", {"type": "x"})
    made.run(networks="a,a@net7")
    return made


@pytest.fixture
def chain(node):
    """The directory of the chain, with two plugins in it and what is none."""
    directory = node.conf_dir / "more"
    directory.mkdir()
    for name, conf in {"20.conf": {"type": "second"}, "10.conf": {"type": "first", "k": [1.5]}}.items():
        (directory / name).write_text(json.dumps(conf))
    (directory / "30.conflist").write_text("{")
    return directory


def planned(node, **keys):
    path = str(node.conf_dir / "10.conflist")
    return node.plan(**{"cniVersion": "0.4.0", "clusterNetwork": path, "auxiliaryCNIChainName": "more"} | keys)


def test_the_chain_comes_after_all_other_networks_and_takes_their_next_number(node, chain):
    entries = planned(node)

    assert [entry.ifname for entry in entries] == ["eth0", "net1", "net7", "net3"]
    assert entries[-1].network == "more"
    assert not entries[-1].default


def test_the_chain_begins_with_passthru_and_has_the_plugins_by_name(node, chain):
    conf = json.loads(planned(node)[-1].conf)

    plugins = [{"type": "passthru"}, {"type": "first", "k": [1.5]}, {"type": "second"}]
    assert conf == {"cniVersion": "0.4.0", "name": "more", "plugins": plugins, "disableCheck": True}
    assert len(netconf.parse(planned(node)[-1].conf).plugins) == 3


def test_a_container_that_is_no_pod_gets_the_chain_too(node, chain):
    assert [entry.ifname for entry in planned(node, args="")] == ["eth0", "net1"]


def test_a_cluster_network_that_is_a_directory_has_the_chain_in_it(node, chain):
    for directory in (str(node.conf_dir), f"{node.conf_dir}/"):
        assert planned(node, clusterNetwork=directory)[-1].network == "more"


def test_without_plugins_there_is_no_chain(node):
    assert len(planned(node)) == 3
    (node.conf_dir / "more").mkdir()
    assert len(planned(node)) == 3


@pytest.mark.parametrize("keys", [{"clusterNetwork": "cluster"}, {"clusterNetwork": "", "delegates": [CLUSTER]}])
def test_the_chain_needs_a_cluster_network_that_is_a_path(node, chain, keys):
    with pytest.raises(InvalidConfiguration, match=r"auxiliaryCNIChainName.*must be a path"):
        planned(node, **keys)


@pytest.mark.parametrize("name", ["../net.d", "..", ".", "a/b", "/etc", "a b", "a\nb"])
def test_the_name_of_the_chain_is_no_way_out_of_the_directory(node, chain, name):
    with pytest.raises(InvalidConfiguration, match="auxiliaryCNIChainName"):
        planned(node, auxiliaryCNIChainName=name)


@pytest.mark.parametrize(
    ("content", "told"),
    [("{", "15.conf"), ('{"name": "n"}', "15.conf"), ('{"type": "plexus"}', "cannot be its own delegate")],
)
def test_a_chain_that_cannot_be_read_is_an_error_not_a_chain_less(node, chain, content, told):
    (chain / "15.conf").write_text(content)
    with pytest.raises(CNIError, match=told):
        planned(node)
