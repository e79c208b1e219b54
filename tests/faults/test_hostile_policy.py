"""What SECURITY.md says of definitions without a policy is closed by one: nothing of it reaches the host."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bad_delegates import namespaces
from hostile_node import HostileNode
from installed import tools

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")
POLICY = {
    "namespaces": ["default"],
    "plugins": ["bridge", "host-local", "static", "spy"],
    "bridges": ["evil*"],
    "subnets": ["10.66.0.0/16"],
    "keys": ["bridge", "isGateway", "ipMasq", "mtu", "ipam", "delegate", "args.cni.ips"],
}
UPLINKS = {"subnet": "203.0.113.0/24", "rangeStart": "203.0.113.9"}
STATIC = {"type": "static", "addresses": [{"address": "10.244.0.2/24"}]}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {
    "the-clusters-bridge": ({"bridge": "cni0"}, None),
    "the-clusters-bridge-by-default": ({"bridge": None}, None),
    "the-clusters-bridge-in-another-spelling": ({"BRIDGE": "cni0"}, None),
    "the-gateway-of-the-cluster-by-force": ({"bridge": "cni0", "isGateway": True, "forceAddress": True}, None),
    "by-force": ({"forceAddress": True}, None),
    "listening-to-everybody": ({"promiscMode": True}, None),
    "removing-the-bridge": ({"removeBridge": True}, None),
    "the-uplinks-network": ({"isGateway": True, "ipam": UPLINKS}, None),
    "a-part-of-the-uplinks-network": ({"isGateway": True, "ipam": {"subnet": "203.0.113.252/30"}}, None),
    "all-networks": ({"ipam": {"subnet": "0.0.0.0/0"}}, None),
    "the-uplinks-address-as-the-gateway": (
        {"isGateway": True, "ipam": {"subnet": "10.66.0.0/24", "gateway": "203.0.113.1"}},
        None,
    ),
    "a-second-network": ({"ipam": {"ranges": [[{"subnet": "10.66.0.0/24"}], [UPLINKS]]}}, None),
    "the-living-ones-address": ({"ipam": STATIC}, None),
    "the-living-ones-address-as-the-pods-wish": ({"capabilities": {"ips": True}}, {"ips": ["10.244.0.2/24"]}),
    "the-living-ones-address-as-the-pods-argument": ({}, {"cni-args": {"ips": ["10.244.0.2/24"]}}),
    "the-living-ones-address-as-the-runtimes-word": ({"runtimeConfig": {"ips": ["10.244.0.2/24"]}}, None),
    "a-route-for-the-neighbours-address": ({"type": "ptp", "ipam": UPLINKS}, None),
    "the-uplink-itself": ({"type": "host-device", "device": "uplink"}, None),
    "the-uplink-as-a-master": ({"type": "macvlan", "master": "uplink"}, None),
    "a-plugin-behind-a-plugin": ({"type": "spy", "delegate": {"type": "host-device"}}, None),
    "a-plugin-behind-two": ({"type": "spy", "delegate": {"Delegate": {"TYPE": "tuning"}}}, None),
    "another-plugin-for-addresses": ({"ipam": {"type": "dhcp"}}, None),
    "an-argument-of-any-name": ({}, {"cni-args": {"anything": 1}}),
}


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HostileNode]:
    tools("ip", "nft", "nsenter")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with namespaces("host", "sandbox", "survivor") as (host, sandbox, survivor):
        made = HostileNode(host, sandbox, survivor, tmp_path)
        made.conf["policy"] = [POLICY | {"hostPaths": [str(tmp_path / "leases")]}]
        yield made


def definition(node: HostileNode, keys: dict[str, Any]) -> dict[str, Any]:
    ipam = keys.get("ipam", {"subnet": "10.66.0.0/24"})
    whole = node.network(**keys | {"ipam": node.ipam(**ipam) if "type" not in ipam else ipam})
    return {key: value for key, value in whole.items() if value is not None}


@pytest.mark.parametrize("case", CASES)
def test_a_policy_keeps_it_from_the_host(case: str, node: HostileNode):
    keys, selection = CASES[case]
    node.ask(definition(node, keys), selection)
    before = node.everybody_elses()
    added = node.call("ADD")
    assert added.verdict == (7, "PLX-POLICY"), added.text
    assert "policy[0]" in added.data["details"]
    assert node.call("DEL").text == ""
    assert (node.left(), node.everybody_elses()) == ([], before)
    assert "evil0" not in node.host.links()


def test_what_the_policy_allows_harms_nobody(node: HostileNode):
    node.ask(definition(node, {"isGateway": True, "ipMasq": True}))
    before = node.everybody_elses()
    assert node.call("ADD").status == 0
    assert node.call("CHECK").text == ""
    assert node.call_for(node.survivor, "CHECK").text == ""
    assert node.call("DEL").text == ""
    assert (node.left(), node.everybody_elses()) == ([], before)
