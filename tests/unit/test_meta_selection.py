"""The annotations in which a pod asks for networks."""

from __future__ import annotations

import json

import pytest

from cni.meta import selection
from cni.spec.errors import CNIError

SHORT_FORMS = {
    "": [],
    "  ": [],
    "net1": ["default/net1"],
    "kube-system/net1": ["kube-system/net1"],
    "net1@my_interface": ["default/net1@my_interface"],
    "a/net1@Eth.5": ["a/net1@Eth.5"],
    " net1 , ns / net2 @ if2 ": ["default/net1", "ns/net2@if2"],
    "net1,net1": ["default/net1", "default/net1"],
    "/net1": ["default/net1"],
    "dotted.name": ["default/dotted.name"],
}


@pytest.mark.parametrize(("text", "expected"), SHORT_FORMS.items())
def test_the_short_form_lists_networks(text, expected):
    assert [_told(chosen) for chosen in selection.parse(text, selection.NETWORKS, "default")] == expected


def _told(chosen: selection.NetworkSelection) -> str:
    return chosen.full_name + (f"@{chosen.interface}" if chosen.interface else "")


REFUSED = {
    "net1,": "element 2",
    "ns/": "element 1",
    "@eth1": "element 1",
    "root@someIP/root@someOtherIP/root@thirdIP": "is not of the form",
    "root@someIP/root@someOtherIP": "is not of the form",
    "a/b/c": "is not of the form",
    "default/net1@myIfc Name": "'myIfc Name'",
    "default/net1@very_long_interface_name": "'very_long_interface_name'",
    "net1@a:b": "'a:b'",
    "net1@..": "'..'",
    "../../etc/passwd": "is not of the form",
    "../x": "'..'",
    "net\0": "'net\\x00'",
    "Net1": "'Net1'",
    "n" * 254: "at most 253",
    "[adsfasdfasdfasf]": "line 1, column 2",
    "[null]": "element 1 must be an object, not null",
    '["net1"]': "element 1 must be an object, not a string",
    '{"name": "net1"}': "must be a list of objects, not an object",
    '"net1"': "must be a list of objects, not a string",
    '[{"name": "net1"}': "ends too early",
    '[{"namespace": "a"}]': "name: is missing",
    '[{"name": ""}]': "names no network",
    '[{"name": 5}]': "name: must be a string, not 5",
    '[{"name": "../x"}]': "'../x'",
    '[{"name": "a", "namespace": "../.."}]': "'../..'",
    '[{"name": "a", "interface": "a/b"}]': "'a/b'",
    '[{"name": "a", "interface": "a\\u0000"}]': "interface",
    '[{"name": "a", "mac": "02:00:00"}]': "mac: invalid MAC address: 02:00:00",
    '[{"name": "a", "mac": 2}]': "mac: must be a string, not 2",
    '[{"name": "a", "ips": "10.0.0.1"}]': "ips: must be",
    '[{"name": "a", "ips": ["10.0.0.300"]}]': "ips[0]: invalid IP address: 10.0.0.300",
    '[{"name": "a", "ips": ["10.0.0.1/33"]}]': "ips[0]: invalid CIDR address: 10.0.0.1/33",
    '[{"name": "a", "default-route": ["x"]}]': "default-route[0]: invalid IP address: x",
    '[{"name": "a", "bandwidth": {"ingressRate": "1M"}}]': "bandwidth.ingressRate: must be an integer, not '1M'",
    '[{"name": "a", "portMappings": [1]}]': "portMappings[0]",
    '[{"name": "a", "cni-args": []}]': "cni-args",
    ",".join(["n"] * 10_000): "10000 networks",
    json.dumps([{"name": "n"}] * 10_000): "longer than"
    if len(json.dumps([{"name": "n"}] * 10_000)) > 262144
    else "10000",
    "n" * 300_000: "longer than 262144",
    "[" * 100_000: "nested too deeply",
}


@pytest.mark.parametrize(("text", "told"), REFUSED.items(), ids=lambda value: value[:40])
def test_a_wrong_annotation_is_refused_with_a_message_that_names_the_value(text, told):
    with pytest.raises(CNIError) as caught:
        selection.parse(text, selection.NETWORKS, "default")

    assert caught.value.code in (6, 7)
    assert told in str(caught.value)
    assert len(str(caught.value)) < 500


def test_the_json_form_carries_every_request():
    text = json.dumps(
        [
            {
                "name": "net1",
                "namespace": "a",
                "interface": "pod37a8eec1ce1",
                "ips": ["10.0.0.1/24", "2001:db8::1"],
                "mac": "C2-11-22-33-44-66",
                "infiniband-guid": "24:8a:07:03:00:8d:ae:2e",
                "bandwidth": {"ingressRate": 100},
                "portMappings": [{"hostPort": 8080, "containerPort": 80}],
                "cni-args": {"vlan": 5},
                "default-route": [],
                "deviceID": "0000:00:00.1",
                "ipam-claim-reference": "someone else reads it",
            }
        ]
    )

    (chosen,) = selection.parse(text, selection.NETWORKS, "default")

    assert (chosen.full_name, chosen.interface, chosen.mac) == ("a/net1", "pod37a8eec1ce1", "c2:11:22:33:44:66")
    assert chosen.default_route == ()
    assert chosen.cni_args == {"vlan": 5}
    assert chosen.runtime_config == {
        "ips": ["10.0.0.1/24", "2001:db8::1"],
        "mac": "c2:11:22:33:44:66",
        "infinibandGUID": "24:8a:07:03:00:8d:ae:2e",
        "bandwidth": {"ingressRate": 100},
        "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
        "deviceID": "0000:00:00.1",
    }


def test_interface_request_is_an_older_name_of_interface():
    (chosen,) = selection.parse('[{"name": "a", "interfaceRequest": "eth7"}]', selection.NETWORKS, "default")

    assert chosen.interface == "eth7"


def test_null_asks_for_nothing():
    (chosen,) = selection.parse('[{"name": "a", "ips": null, "default-route": null}]', selection.NETWORKS, "default")

    assert chosen.runtime_config == {}
    assert chosen.default_route is None


@pytest.mark.parametrize("text", ["a,b", "[]", ""])
def test_the_default_network_annotation_names_exactly_one(text):
    with pytest.raises(CNIError, match="must name one network"):
        selection.parse_default_network(text, "kube-system")
