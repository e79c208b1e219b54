"""The node's policy: what the definitions of a namespace may say, and what an author who tries hard may not."""

from __future__ import annotations

import json

import pytest
from meta_node import Node

from cni.meta import policy
from cni.spec.errors import CNIError, InvalidConfiguration

HOST_LOCAL = {"type": "host-local", "subnet": "10.1.2.0/24"}
BRIDGE = {"cniVersion": "1.0.0", "type": "bridge", "bridge": "br-a", "ipam": HOST_LOCAL}


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path)


def plan(node, config, rule, request=None):
    for path in node.manifests.iterdir():
        path.unlink()
    node.define("a", config)
    node.run(networks=json.dumps([{"name": "a"} | (request or {})]))
    return node.plan(policy=[{"namespaces": ["test"]} | rule])


def refused(node, config, rule, request=None):
    with pytest.raises(CNIError) as caught:
        plan(node, config, rule, request)
    assert (caught.value.code, caught.value.id) == (7, "PLX-POLICY")
    return str(caught.value)


def bridge(**keys):
    return BRIDGE | keys


def ipam(**keys):
    return BRIDGE | {"ipam": {"type": "host-local", **keys}}


CHAIN = {"name": "a", "plugins": [BRIDGE, {"type": "tuning"}]}
WITHIN = [
    ({}, BRIDGE),
    ({"plugins": ["bridge", "host-*"]}, BRIDGE),
    ({"plugins": ["bridge", "host-local", "tuning"]}, CHAIN),
    ({"plugins": ["x"]}, {"type": "x", "ipam": {}}),
    ({"bridges": ["br-?"]}, BRIDGE),
    ({"bridges": ["cni0"]}, {"type": "bridge"}),
    ({"bridges": ["br-a"]}, {"type": "x"}),
    ({"masters": ["eth1"]}, {"type": "macvlan", "master": "eth1"}),
    ({"masters": [""]}, {"type": "macvlan"}),
    ({"vlans": ["100-199"]}, bridge(vlan=100)),
    ({"vlans": [7, "100-199"]}, {"type": "ovs", "bridge": "br", "vlan": 7}),
    ({"vlans": ["10-20"]}, bridge(vlanTrunk=[{"id": 10}, {"minID": 15, "maxID": 20}])),
    ({"vlans": ["0"]}, BRIDGE),
    ({"vlans": [5]}, {"type": "vlan", "vlanId": 5}),
    ({"vlans": [5]}, {"type": "ptp", "ipam": HOST_LOCAL}),
    ({"subnets": ["10.1.0.0/16"]}, BRIDGE),
    ({"subnets": ["10.1.0.0/16", "fd00::/8"]}, ipam(ranges=[[{"subnet": "10.1.3.0/24"}], [{"subnet": "fd00:1::/64"}]])),
    ({"subnets": ["10.1.0.0/16"]}, {"type": "x", "ipam": {"type": "y", "range": "10.1.0.5-10.1.0.9/24"}}),
    ({"subnets": ["10.1.0.0/16"]}, ipam(subnet="10.1.2.0/24", routes=[{"dst": "0.0.0.0/0"}])),
    ({"subnets": ["10.1.0.0/16"]}, {"type": "bridge"}),
    ({"keys": ["bridge", "ipam"]}, BRIDGE),
    ({"keys": ["BRIDGE", "ipam.subnet"]}, BRIDGE),
    ({"keys": ["*"]}, BRIDGE),
    ({"hostPaths": ["/leases"]}, ipam(subnet="10.1.2.0/24", dataDir="/leases/a")),
]


@pytest.mark.parametrize(("rule", "config"), WITHIN)
def test_what_a_rule_allows_is_taken(node, rule, config):
    assert plan(node, config, rule)[1].network == "test/a"


BEYOND = [
    ({"plugins": []}, {"type": "x"}, 'plugin "x"'),
    ({"plugins": ["bridge"]}, BRIDGE, 'plugin "host-local"'),
    ({"plugins": ["bridge", "host-local"]}, CHAIN, 'plugin "tuning"'),
    ({"plugins": ["x"]}, {"type": "x", "delegate": {"type": "y"}}, 'plugin "y"'),
    ({"plugins": ["x"]}, {"type": "x", "delegates": [{"type": "x", "ipam": {"type": "z"}}]}, 'plugin "z"'),
    ({"plugins": ["x"]}, {"type": "x", "IPAM": {"TYPE": "y"}, "ipam": {"type": "x"}}, 'plugin "y"'),
    ({"plugins": ["x"]}, '{"type": "y", "TYPE": "x"}', 'plugin "y"'),
    ({"plugins": ["bridge"]}, {"type": "BRIDGE"}, 'plugin "BRIDGE"'),
    ({"bridges": ["br-b"]}, BRIDGE, 'bridge "br-a"'),
    ({"bridges": ["br-a"]}, {"type": "bridge"}, 'bridge "cni0"'),
    ({"bridges": ["br-a"]}, bridge(BRIDGE="br-ex"), 'bridge "br-ex"'),
    ({"bridges": ["br-a"]}, {"type": "ovs", "bridge": "br-ex"}, 'bridge "br-ex"'),
    ({"bridges": []}, BRIDGE, "allows none"),
    ({"masters": ["eth1"]}, {"type": "macvlan", "master": "eth0"}, 'master "eth0"'),
    ({"masters": ["eth1"]}, {"type": "ipvlan"}, 'master ""'),
    ({"vlans": ["100-199"]}, bridge(vlan=200), "VLAN 200"),
    ({"vlans": ["100-199"]}, BRIDGE, "the untagged network"),
    ({"vlans": ["100-199"]}, bridge(vlan=0), "the untagged network"),
    ({"vlans": ["100-199"]}, bridge(vlan=100, VLAN=5), "VLAN 5"),
    ({"vlans": ["100-199"]}, bridge(vlan=100, preserveDefaultVlan=True), "the untagged network"),
    ({"vlans": ["100-199"]}, bridge(vlan="x"), "VLAN 'x'"),
    ({"vlans": ["100-199"]}, bridge(vlan=True), "VLAN True"),
    ({"vlans": ["100-199"]}, bridge(vlan=-1), "VLAN -1"),
    ({"vlans": ["100-199"]}, bridge(vlan=1e2), "VLAN 100.0"),
    ({"vlans": ["100-199"]}, bridge(vlanTrunk=[]), "the untagged network"),
    ({"vlans": ["100-199"]}, bridge(vlanTrunk=[{"id": 100}, {"id": 5}]), "VLAN 5"),
    ({"vlans": ["100-199"]}, bridge(vlanTrunk=[{"minID": 190, "maxID": 210}]), "VLAN 200"),
    ({"vlans": ["100-199"]}, bridge(vlanTrunk=[{"minID": 1, "maxID": 4094}]), "VLAN 1"),
    ({"vlans": ["100-199"]}, bridge(vlanTrunk=[{"minID": 100, "MINID": 1, "maxID": 100}]), "VLAN 1"),
    ({"vlans": ["100-199"]}, bridge(vlanTrunk=[{"maxID": 10**300}]), "VLAN 4095"),
    ({"vlans": ["100-199"]}, bridge(vlanTrunk="1-4094"), "the untagged network"),
    ({"vlans": ["100-199"]}, {"type": "ovs", "bridge": "b", "trunk": [{"id": 3}]}, "VLAN 3"),
    ({"vlans": ["100-199"]}, {"type": "vlan", "vlanID": 5}, "VLAN 5"),
    ({"vlans": ["100-199"]}, {"type": "sriov"}, "the untagged network"),
    ({"subnets": ["10.2.0.0/16"]}, BRIDGE, '"10.1.2.0/24"'),
    ({"subnets": ["10.1.2.0/25"]}, BRIDGE, '"10.1.2.0/24"'),
    ({"subnets": ["10.0.0.0/8"]}, ipam(subnet="fd00::/64"), '"fd00::/64"'),
    ({"subnets": ["10.1.0.0/16"]}, ipam(subnet="10.1.0.0/24", gateway="10.9.0.1"), '"10.9.0.1"'),
    ({"subnets": ["10.1.0.0/16"]}, ipam(subnet="10.1.0.0/24", SUBNET="10.9.0.0/24"), '"10.9.0.0/24"'),
    ({"subnets": ["10.1.0.0/16"]}, bridge(IPAM={"type": "x", "subnet": "10.9.0.0/24"}), '"10.9.0.0/24"'),
    ({"subnets": ["10.1.0.0/16"]}, ipam(ranges=[[{"subnet": "10.1.0.0/24", "rangeEnd": "10.9.0.1"}]]), '"10.9.0.1"'),
    ({"subnets": ["10.1.0.0/16"]}, ipam(addresses=[{"address": "10.1.0.5/8"}]), '"10.1.0.5/8"'),
    (
        {"subnets": ["10.1.0.0/16"]},
        {"type": "x", "ipam": {"type": "y", "range": "10.1.0.5-10.9.0.9/24"}},
        "10.9.0.9/24",
    ),
    ({"subnets": ["10.1.0.0/16"]}, {"type": "x", "ipam": {"type": "y", "range": "10.1.0.5-10.1.0.9/8"}}, "10.1.0.9/8"),
    ({"subnets": ["10.1.0.0/16"]}, ipam(subnet="nonsense"), '"nonsense"'),
    ({"subnets": ["10.1.0.0/16"]}, bridge(runtimeConfig={"ips": ["10.9.0.1/24"]}), '"10.9.0.1/24"'),
    ({"subnets": ["10.1.0.0/16"]}, bridge(args={"cni": {"ips": ["10.9.0.1"]}}), '"10.9.0.1"'),
    ({"subnets": []}, BRIDGE, "allows none"),
    ({"keys": ["bridge"]}, BRIDGE, "`ipam.subnet`"),
    ({"keys": ["bridge", "ipam.range*"]}, BRIDGE, "`ipam.subnet`"),
    ({"keys": ["ipam.subnet"]}, bridge(bridge=None), "`bridge`"),
    ({"keys": []}, {"type": "x", "MTU": 9000}, "`mtu`"),
    ({"keys": []}, {"type": "x", "args": {"cni": {}}}, "`args.cni`"),
    ({"keys": ["bridge", "ipam"]}, bridge(ipMasq=False), "`ipmasq`"),
]


@pytest.mark.parametrize(("rule", "config", "told"), BEYOND)
def test_what_a_rule_does_not_allow_is_refused(node, rule, config, told):
    error = refused(node, config, rule)
    assert told in error
    (key,) = rule
    assert f"`policy[0].{key}`" in error
    assert 'NetworkAttachmentDefinition "test/a"' in error


def test_the_error_says_who_may_not_what_by_which_rule_and_what_would_do(node):
    assert refused(node, BRIDGE, {"namespaces": ["a*", "test"], "bridges": ["br-b", "br-c*"]}) == (
        'pod "test/vm": could not use NetworkAttachmentDefinition "test/a": a definition of namespace "test" may not'
        ' have bridge "br-a"; `policy[0].bridges` of the node\'s configuration, for namespaces a*, test, allows br-b,'
        " br-c*: use one of these, or have it changed there [PLX-POLICY]"
    )


@pytest.mark.parametrize(
    ("rule", "request_", "told"),
    [
        ({"subnets": ["10.1.0.0/16"]}, {"ips": ["10.1.2.3", "10.9.0.1/24"]}, '"10.9.0.1/24"'),
        ({"subnets": ["10.1.0.0/16"]}, {"cni-args": {"ips": "10.9.0.1"}}, '"10.9.0.1"'),
        ({"keys": ["bridge", "ipam"]}, {"cni-args": {"mtu": 9000}}, "`args.cni.mtu`"),
        ({"keys": ["bridge", "ipam", "args.cni.mac"]}, {"cni-args": {"mac": "x", "sysctl": {"a": "b"}}}, "sysctl"),
    ],
)
def test_a_pod_may_not_ask_for_what_the_definition_may_not_say(node, rule, request_, told):
    assert told in refused(node, BRIDGE, rule, request_)


def test_a_pod_may_ask_for_what_the_rule_allows(node):
    rule = {"subnets": ["10.1.0.0/16"], "keys": ["bridge", "ipam", "args.cni.mtu"]}
    assert plan(node, BRIDGE, rule, {"ips": ["10.1.2.3"], "cni-args": {"mtu": 9000}, "mac": "02:00:00:00:00:01"})


def test_the_first_rule_of_the_definitions_namespace_counts_whichever_pod_uses_it(node):
    rules = [{"namespaces": ["o*"], "plugins": ["x"]}, {"namespaces": ["*"], "plugins": ["y"]}]
    for name, namespace, kind in (("a", "other", "x"), ("b", "other", "y"), ("c", "test", "y"), ("d", "test", "x")):
        node.define(name, {"type": kind}, namespace=namespace)
    node.run(networks="other/a,c")
    assert len(node.plan(policy=rules)) == 3
    for networks in ("other/b", "d"):
        node.run(networks=networks)
        with pytest.raises(InvalidConfiguration, match=r"policy\[[01]\].plugins"):
            node.plan(policy=rules)


@pytest.mark.parametrize("rules", [[], [{"namespaces": ["other"]}], [{"namespaces": ["TEST", "tes", ""]}]])
def test_without_a_rule_for_its_namespace_a_definition_is_refused(node, rules):
    node.define("a", {"type": "x"})
    node.run(networks="a")
    with pytest.raises(InvalidConfiguration, match='no definition of namespace "test" may be used') as caught:
        node.plan(policy=rules)
    assert caught.value.id == "PLX-POLICY"


def test_files_of_the_node_stand_open_as_far_as_the_rule_says(node):
    (node.conf_dir / "a.conf").write_text(json.dumps({"name": "a", "type": "x", "logFile": "/var/log/x"}))
    assert plan(node, "", {"plugins": [], "files": ["a"]})
    assert plan(node, "", {"plugins": []})
    assert 'the node\'s network "a"' in refused(node, "", {"files": ["b"]})


def test_what_the_node_names_needs_no_rule(node):
    node.define("main", {"type": "x"}, namespace="kube-system")
    node.run()
    assert len(node.plan(delegates=[], clusterNetwork="main", policy=[])) == 1


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ([{}], r"policy\[0\].namespaces: is missing"),
        ([{"namespaces": []}], r"policy\[0\].namespaces"),
        (
            [{"namespaces": ["a"], "plugin": ["x"]}],
            r"policy\[0\]: has no key `plugin`: it may have namespaces, plugins",
        ),
        (
            [{"namespaces": ["a"]}, {"namespaces": ["a"], "vlans": ["1-5000"]}],
            r"policy\[1\].vlans\[0\]: '1-5000' must be",
        ),
        ([{"namespaces": ["a"], "vlans": ["9-1"]}], r"vlans\[0\].*lower number first"),
        ([{"namespaces": ["a"], "vlans": [True]}], r"vlans\[0\]"),
        ([{"namespaces": ["a"], "subnets": ["10.0.0.1/8"]}], r"subnets\[0\].*host bits"),
        ([{"namespaces": ["a"], "subnets": [10]}], r"subnets\[0\]: must be a string"),
        ([{"namespaces": ["a"], "bridges": "br"}], r"bridges: must be a list"),
        ([{"namespaces": ["a"], "hostPaths": ["x"]}], r"hostPaths\[0\].*absolute"),
        ([5], r"policy\[0\]"),
        ({"namespaces": ["a"]}, r"policy: must be a list"),
    ],
)
def test_a_policy_that_is_wrong_fails_every_call_and_says_where(node, rules, told):
    with pytest.raises(InvalidConfiguration, match=told):
        node.plan(args="", policy=rules)


def test_null_limits_nothing_as_a_key_that_is_left_out(node):
    keys = {key: None for key in policy.Rule.model_fields if key not in ("namespaces", "host_paths")}
    assert plan(node, BRIDGE, keys)
