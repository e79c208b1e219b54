"""Which networks a container gets, under which names, asked for how: decided before anything is made."""

from __future__ import annotations

import json

import pytest
from meta_node import CLUSTER, Node

from cni.spec.errors import CNIError, InvalidConfiguration, TryAgainLater, UnsupportedField


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path)


def _told(entries):
    return [(entry.network, entry.ifname) for entry in entries]


def test_a_container_that_is_no_pod_gets_the_cluster_network_only(node):
    assert _told(node.plan(args="")) == [("cluster", "eth0")]


def test_a_pod_without_annotation_gets_the_cluster_network_only(node):
    node.run()

    assert _told(node.plan()) == [("cluster", "eth0")]


def test_networks_come_in_the_order_of_the_annotation_and_are_numbered_by_their_place(node):
    node.define("a", {"type": "x"})
    node.define("b", {"type": "x"}, namespace="other")
    node.run(networks="a,other/b@pod37a8eec1ce1,a")

    assert _told(node.plan()) == [
        ("cluster", "eth0"),
        ("test/a", "net1"),
        ("other/b", "pod37a8eec1ce1"),
        ("test/a", "net3"),
    ]


def test_a_second_inline_delegate_takes_a_number(node):
    node.define("a", {"type": "x"})
    node.run(networks="a")

    entries = node.plan(delegates=[CLUSTER, CLUSTER | {"name": "second"}])

    assert _told(entries) == [("cluster", "eth0"), ("second", "net1"), ("test/a", "net2")]


def test_two_interfaces_of_one_name_are_refused(node):
    node.define("a", {"type": "x"})
    node.run(networks="a@net2,a")

    with pytest.raises(InvalidConfiguration, match='2 interfaces "net2"'):
        node.plan()


def test_an_additional_interface_named_as_the_runtimes_is_refused(node):
    node.define("a", {"type": "x"})
    node.run(networks="a@eth0")

    with pytest.raises(InvalidConfiguration, match='2 interfaces "eth0"'):
        node.plan()


def test_a_missing_definition_is_named(node):
    node.run(networks="nope")

    with pytest.raises(InvalidConfiguration, match='NetworkAttachmentDefinition "test/nope"') as caught:
        node.plan()
    assert caught.value.id == "PLX-NAD-MISSING"


def test_a_definition_that_lacks_a_brace_is_told_with_its_place(node):
    node.define("a", '{"cniVersion": "0.3.1",\n "type": "bridge",\n "ipam": {"type": "host-local"}\n')
    node.run(networks="a")

    with pytest.raises(CNIError) as caught:
        node.plan()

    assert caught.value.code == 6
    assert '"test/a"' in str(caught.value)
    assert "line 4, column 1" in str(caught.value)  # where the text ends


BROKEN = {
    "[]": "object",
    '{"name": "n"}': "missing 'type'",
    '{"type": ""}': "missing 'type'",
    '{"type": 5}': "must be a string, not a number",
    '{"name": "n", "plugins": []}': "no plugins in list",
    '{"name": "n", "plugins": [{}]}': "missing 'type'",
    '{"name": "n", "plugins": [null]}': "must be an object",
    '{"name": 5, "type": "x"}': "name",
    '{"name": "a b", "type": "x"}': "invalid characters found in network name",
    '{"name": "../x", "type": "x"}': '"name" names "../x" on the host',
    '{"name": "a\\\\b", "type": "x"}': "invalid characters found in network name",
    '{"cniVersion": 1, "type": "x"}': "cniVersion",
}


@pytest.mark.parametrize(("config_text", "told"), BROKEN.items())
def test_a_wrong_definition_is_refused_before_anything_is_attached(node, config_text, told):
    node.define("a", config_text)
    node.run(networks="a")

    with pytest.raises(CNIError, match=told) as caught:
        node.plan()
    assert '"test/a"' in str(caught.value)


def test_a_definition_without_a_name_gets_its_own(node):
    node.define("a", {"cniVersion": "0.3.1", "type": "x", "unknown": {"k": [1.5]}})
    node.run(networks="a")

    conf = json.loads(node.plan()[1].conf)

    assert conf == {"cniVersion": "0.3.1", "type": "x", "unknown": {"k": [1.5]}, "name": "a"}


def test_a_definition_with_a_name_is_kept_to_the_letter(node):
    text = '{ "name":"n",  "type":"x" , "big": 12345678901234567890.0 }'
    node.define("a", text)
    node.run(networks="a")

    assert node.plan()[1].conf == text


def test_a_definition_without_config_is_found_by_name_on_the_node(node):
    node.define("a", "")
    (node.conf_dir / "10-a.conf").write_text('{"name": "a", "type": "x", "cniVersion": "0.4.0"}')
    node.run(networks="a")

    assert _told(node.plan()) == [("cluster", "eth0"), ("test/a", "net1")]


def test_a_definition_without_config_and_file_is_an_error(node):
    node.define("a", "")
    node.run(networks="a")

    with pytest.raises(CNIError, match='"test/a"'):
        node.plan()


def test_the_cluster_network_may_be_a_definition(node):
    node.define("net0", {"type": "x"}, namespace="kube-system")
    node.run()

    assert _told(node.plan(clusterNetwork="net0", delegates=[CLUSTER])) == [("kube-system/net0", "eth0")]


def test_the_cluster_network_may_be_a_configuration_of_the_node(node):
    (node.conf_dir / "10.conflist").write_text('{"name": "flannel", "plugins": [{"type": "x"}]}')
    node.run()

    assert _told(node.plan(clusterNetwork="flannel")) == [("flannel", "eth0")]
    assert _told(node.plan(clusterNetwork=str(node.conf_dir))) == [("flannel", "eth0")]
    assert _told(node.plan(clusterNetwork=str(node.conf_dir / "10.conflist"))) == [("flannel", "eth0")]


@pytest.mark.parametrize("name", ["nope", "/nope/x.conf", "../nope", "No Name"])
def test_a_cluster_network_that_is_nowhere_is_named(node, name):
    node.run()

    with pytest.raises(CNIError) as caught:
        node.plan(clusterNetwork=name)
    assert name in str(caught.value)


def test_default_networks_are_for_pods_outside_the_system_namespaces(node):
    node.define("extra", {"type": "x"}, namespace="kube-system")
    node.run()
    assert _told(node.plan(defaultNetworks=["extra"])) == [("cluster", "eth0"), ("kube-system/extra", "net1")]

    assert _told(node.plan(defaultNetworks=["extra"], systemNamespaces=["test"])) == [("cluster", "eth0")]


def test_the_default_network_annotation_replaces_the_cluster_network(node):
    node.define("mine", {"type": "x"}, namespace="kube-system")
    node.run(default_network='[{"name": "mine", "mac": "02:00:00:00:00:05"}]')

    (entry,) = node.plan()

    assert (entry.network, entry.ifname, entry.default) == ("kube-system/mine", "eth0", True)
    assert "MAC=02:00:00:00:00:05" in entry.args


def test_isolation_refuses_other_namespaces(node):
    node.define("a", {"type": "x"}, namespace="other")
    node.define("b", {"type": "x"}, namespace="shared")
    node.define("c", {"type": "x"})
    node.run(networks="c,shared/b")
    assert len(node.plan(namespaceIsolation=True, globalNamespaces="default, shared")) == 3

    node.run(networks="other/a")
    with pytest.raises(InvalidConfiguration, match='network "other/a" in namespace "test"'):
        node.plan(namespaceIsolation=True, globalNamespaces="default, shared")


def test_isolation_holds_for_the_default_network_too(node):
    node.define("a", {"type": "x"}, namespace="other")
    node.run(default_network="other/a")

    with pytest.raises(InvalidConfiguration, match="isolation"):
        node.plan(namespaceIsolation=True)


def test_a_pod_that_is_not_known_is_an_error_to_retry(node):
    with pytest.raises(TryAgainLater, match='"test/vm"'):
        node.plan()


def test_arguments_for_delegates_are_complete_and_in_one_order(node):
    node.define("a", {"type": "x"})
    node.run(networks='[{"name": "a", "mac": "02:00:00:00:00:01", "ips": ["10.0.0.1/24"]}]')

    entries = node.plan(args="EXTRA=x;K8S_POD_UID=u1;K8S_POD_NAME=vm;K8S_POD_NAMESPACE=test;IgnoreUnknown=1")

    common = "IgnoreUnknown=true;K8S_POD_NAMESPACE=test;K8S_POD_NAME=vm;K8S_POD_UID=u1;EXTRA=x"
    assert entries[0].args == common
    assert entries[1].args == f"{common};MAC=02:00:00:00:00:01;IP=10.0.0.1/24"


def test_the_runtimes_configuration_is_the_cluster_networks_alone(node):
    node.define("a", {"type": "x", "capabilities": {"portMappings": True}})
    node.run(networks="a")

    cluster, additional = node.plan(runtimeConfig={"portMappings": [{"HostPort": 8080}]})

    assert cluster.runtime_config == {"portMappings": [{"HostPort": 8080}]}
    assert additional.runtime_config == {}


def test_a_request_reaches_the_network_it_was_made_for(node):
    node.define(
        "a", {"name": "n", "plugins": [{"type": "x"}, {"type": "portmap", "capabilities": {"portMappings": True}}]}
    )
    node.run(
        networks='[{"name": "a", "portMappings": [{"hostPort": 1, "containerPort": 2}], "mac": "02:00:00:00:00:01"}]'
    )

    assert node.plan()[1].runtime_config == {
        "portMappings": [{"hostPort": 1, "containerPort": 2, "protocol": "tcp"}],
        "mac": "02:00:00:00:00:01",
    }


@pytest.mark.parametrize(
    "request_text",
    [
        '"portMappings": [{"hostPort": 1, "containerPort": 2}]',
        '"bandwidth": {"ingressRate": 1}',
        '"infiniband-guid": "24:8a:07:03:00:8d:ae:2e"',
    ],
)
def test_a_request_that_no_plugin_serves_is_refused(node, request_text):
    node.define("a", {"type": "x", "capabilities": {"mac": True}})
    node.run(networks=f'[{{"name": "a", {request_text}}}]')

    with pytest.raises(UnsupportedField, match='network "test/a"') as caught:
        node.plan()
    assert caught.value.code == 2


def test_cni_args_reach_every_plugin_and_win(node):
    plugins = [{"type": "x", "args": {"cni": {"args0": "val0", "args1": "val1"}, "other": 1}}, {"type": "y"}]
    node.define("a", {"name": "n", "plugins": plugins})
    node.run(networks='[{"name": "a", "cni-args": {"args1": "val1a"}}]')

    first, second = json.loads(node.plan()[1].conf)["plugins"]

    assert first["args"] == {"cni": {"args0": "val0", "args1": "val1a"}, "other": 1}
    assert second["args"] == {"cni": {"args1": "val1a"}}


@pytest.mark.parametrize("args", [5, {"cni": 5}, ["x"]])
def test_cni_args_cannot_be_added_to_what_is_no_object(node, args):
    node.define("a", {"type": "x", "args": args})
    node.run(networks='[{"name": "a", "cni-args": {"k": "v"}}]')

    with pytest.raises(InvalidConfiguration, match="must be objects"):
        node.plan()


def test_two_default_routes_of_one_family_are_refused(node):
    node.define("a", {"type": "x"})
    node.run(networks='[{"name": "a", "default-route": ["10.0.0.1"]}, {"name": "a", "default-route": ["10.0.0.2"]}]')

    with pytest.raises(InvalidConfiguration, match=r"2 IPv4 default routes"):
        node.plan()


@pytest.mark.parametrize(
    ("conf", "told"),
    [
        ({"delegates": [], "clusterNetwork": ""}, "needs `delegates` or `clusterNetwork`"),
        ({"delegates": None}, "needs `delegates` or `clusterNetwork`"),
        ({"delegates": [{"_not_type": "x", "name": "n"}]}, r"delegates\[0\]"),
        ({"delegates": [{"type": "x"}]}, "missing network name"),
        ({"delegates": {}}, "delegates: must be a"),
        ({"delegates": ["x"]}, r"delegates\[0\]"),
        ({"systemNamespaces": "x"}, "systemNamespaces"),
        ({"namespaceIsolation": "yes"}, "namespaceIsolation: must be a boolean, not 'yes'"),
        ({"confDir": 5}, "confDir: must be a string, not 5"),
        ({"kubeconfig": "/etc/k"}, "kubeconfig"),
    ],
)
def test_a_wrong_configuration_of_the_node_names_the_key(node, conf, told):
    with pytest.raises(CNIError, match=told):
        node.plan(args="", **conf)


@pytest.mark.parametrize(
    "args",
    ["K8S_POD_NAMESPACE=../..;K8S_POD_NAME=x", "K8S_POD_NAMESPACE=a;K8S_POD_NAME=b/c", "K8S_POD_NAME", "A=B=C", "A=1;"],
)
def test_arguments_that_cannot_be_are_refused(node, args):
    with pytest.raises(CNIError) as caught:
        node.plan(args=args)
    assert caught.value.code == 4
