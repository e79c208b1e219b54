"""What a tenant writes into definitions and annotations is refused by name, or harms nobody but his own pod."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bad_delegates import namespaces
from hostile_node import HostileNode
from installed import tools

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")

Case = tuple[dict[str, Any] | str, dict[str, Any] | str | None, str]
"""A definition, or what of it differs from one that would do; what the pod asks; a part of the error, "" for none."""
LEASE = "10.244.0.2"
"""The living container's."""


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HostileNode]:
    tools("ip", "nft", "nsenter")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with namespaces("host", "sandbox", "survivor") as (host, sandbox, survivor):
        yield HostileNode(host, sandbox, survivor, tmp_path)


def assert_harmless(node: HostileNode, told: str | tuple[str, ...]) -> str:
    """Everything that a runtime may ask for: refused with these words, or done and undone, and nobody else touched."""
    before = node.everybody_elses()
    added = node.call("ADD")
    if added.status:
        assert told, added.text
        assert added.data["code"] in {1, 2, 4, 5, 6, 7, 11, 101, 104}, added.text
        said = f"{added.data['msg']}; {added.data.get('details', '')}"
        assert any(words in said for words in ([told] if isinstance(told, str) else told)), said
        assert len(said) < 2000
        assert node.left() == []
    else:
        assert not told, "it was not refused"
        assert node.call("CHECK").text == ""
    assert node.call_for(node.survivor, "CHECK").text == ""
    assert node.call("DEL").text == ""
    assert node.left() == []
    assert node.everybody_elses() == before
    return added.text


BRIDGES: dict[str, tuple[dict[str, Any], str]] = {
    "the-uplink": ({"bridge": "uplink"}, '"uplink" already exists but is not a bridge'),
    "the-uplink-that-need-not-be-made": ({"bridge": "uplink", "createBridge": False}, "is not a bridge"),
    "the-uplink-as-a-gateway-by-force": (
        {"bridge": "uplink", "isGateway": True, "forceAddress": True},
        "is not a bridge",
    ),
    "a-link-that-is-down": ({"bridge": "spare"}, "is not a bridge"),
    "lo": ({"bridge": "lo"}, "is not a bridge"),
    "a-vlan-of-the-uplink": ({"bridge": "uplink", "vlan": 5, "isGateway": True}, "is not a bridge"),
    "a-path": ({"bridge": "a/x"}, "interface name contains /"),
    "a-path-of-the-host": ({"bridge": "/dev/sda"}, "PLX-HOST-PATH"),
    "a-template": ({"bridge": "evil%d"}, "%"),
    "a-newline": ({"bridge": "a\nb"}, "whitespace"),
    "a-nul": ({"bridge": "a\0b"}, "interface name contains"),
    "sixteen-bytes": ({"bridge": "x" * 16}, "too long"),
    "all": ({"bridge": "all"}, '"all"'),
    "default": ({"bridge": "default"}, '"default"'),
    "nothing": ({"bridge": "."}, "interface name is . or .."),
    "a-number": ({"bridge": 5}, "bridge"),
    "two-spellings": ({"bridge": "evil0", "BRIDGE": "uplink"}, "is not a bridge"),
    "the-clusters-with-other-vlans": ({"bridge": "cni0", "vlan": 7}, "PLX-BRIDGE-VLAN"),
    "the-clusters-with-larger-frames": ({"bridge": "cni0", "mtu": 70000}, "mtu"),
    "the-clusters-with-another-address": ({"bridge": "cni0", "isGateway": True}, "PLX-BRIDGE-ADDRESS"),
    "the-clusters-which-is-to-be-removed": ({"bridge": "cni0", "removeBridge": True}, ""),
    "a-gateway-that-the-host-is-elsewhere": ({"bridge": "evil0"}, ""),
}


@pytest.mark.parametrize("case", BRIDGES)
def test_a_bridge_is_no_interface_of_the_host(case: str, node: HostileNode):
    keys, told = BRIDGES[case]
    node.ask(node.network(**keys))
    assert_harmless(node, told)


INTERFACES: dict[str, tuple[str, str]] = {
    "the-cluster-networks": ("eth0", "PLX-IFNAME-TWICE"),
    "lo": ("lo", "PLX-IFNAME-TAKEN"),
    "the-hosts-bridge": ("cni0", ""),
    "the-hosts-uplink": ("uplink", ""),
    "a-path": ("../x", "PLX-ANNOTATION"),
    "an-absolute-path": ("/proc/x", "PLX-ANNOTATION"),
    "sixteen-bytes": ("x" * 16, "PLX-ANNOTATION"),
    "sixteen-bytes-of-few-letters": ("ü" * 8, "PLX-ANNOTATION"),
    "a-newline": ("net1\nx", "PLX-ANNOTATION"),
    "a-nul": ("net1\0", "PLX-ANNOTATION"),
    "a-template": ("net%d", "%"),
    "all": ("all", '"all"'),
    "default": ("default", '"default"'),
    "another-variable": ("a;MAC=b", ""),
    "an-option": ("-all", ""),
    "a-record-of-another": ("c0@eth0.json", ""),
    "a-dot": (".", "PLX-ANNOTATION"),
    "half-a-letter": ("a\ud800", "PLX-ANNOTATION"),
}


@pytest.mark.parametrize("case", INTERFACES)
def test_an_interface_of_the_pod_is_nobody_elses(case: str, node: HostileNode):
    name, told = INTERFACES[case]
    node.ask(node.network(), {"interface": name})
    assert_harmless(node, told)


TEXTS: dict[str, tuple[str, str]] = {
    "a-path-twice-the-last-counts": ('{"type":"../../bin/sh","type":"spy","cniVersion":"1.0.0"}', ""),
    "a-path-the-last-time": ('{"type":"spy","type":"../../bin/sh","cniVersion":"1.0.0"}', "PLX-PLUGIN-TYPE"),
    "a-path-in-another-spelling": ('{"type":"spy","tYPE":"/bin/sh"}', "PLX-PLUGIN-TYPE"),
    "a-path-behind-null": ('{"type":"spy","Type":null,"TYPE":"a/b"}', "PLX-PLUGIN-TYPE"),
    "us": ('{"type":"plexus","delegates":[{"type":"spy"}]}', "PLX-RECURSION"),
    "us-twice-removed": ('{"type":"spy","delegate":{"delegate":{"Type":"multus"}}}', "PLX-RECURSION"),
    "an-escaped-path": ('{"type":"spy","\\u0064ataDir":"\\u002fetc"}', "PLX-HOST-PATH"),
    "a-key-with-a-long-s": ('{"type":"spy","ipam":{"type":"spy","re\u017folvConf":"etc/shadow"}}', "PLX-HOST-PATH"),
    "a-key-with-kelvin": ('{"type":"spy","\u212aubeconfig":"x"}', "PLX-HOST-PATH"),
    "a-key-in-capitals-in-a-list": ('{"type":"spy","a":[{"b":[{"DATADIR":"x"}]}]}', "PLX-HOST-PATH"),
    "a-directory-instead-of-a-plugin": ('{"type":"."}', "PLX-PLUGIN-TYPE"),
    "a-hidden-file": ('{"type":".spy.new"}', "PLX-PLUGIN-MISSING"),
    "a-plugin-with-a-newline": ('{"type":"spy\\n"}', "PLX-PLUGIN-MISSING"),
    "a-number": ('{"type":5}', "type"),
    "no-type": ('{"cniVersion":"1.0.0"}', "type"),
    "a-list": ("[]", "must be a JSON object"),
    "not-a-number": ('{"type":"spy","a":NaN}', "NaN"),
    "an-endless-number": ('{"type":"spy","a":' + "9" * 20000 + "}", "digits"),
    "a-name-that-climbs": ('{"type":"spy","name":".."}', "PLX-HOST-PATH"),
    "a-name-that-is-a-path": ('{"type":"spy","name":"a/../../b"}', "PLX-HOST-PATH"),
    "a-name-that-is-a-slash": ('{"type":"spy","name":"/"}', "PLX-HOST-PATH"),
    "a-name-with-a-nul": ('{"type":"spy","name":"a\\u0000"}', "network name"),
    "a-name-as-long-as-a-file": ('{"type":"spy","name":"' + "n" * 300 + '"}', "PLX-TOO-LARGE"),
    "a-name-that-is-an-option": ('{"type":"spy","name":"-rf"}', "network name"),
    "a-version-of-its-own": ('{"type":"spy","cniVersion":"9.9.9"}', "9.9.9"),
    "a-version-that-is-a-path": ('{"type":"spy","cniVersion":"/etc"}', "PLX-HOST-PATH"),
    "ten-megabytes": ('{"type":"spy","a":"' + "x" * 10_000_000 + '"}', "PLX-TOO-LARGE"),
    "ten-megabytes-of-brackets": ("[" * 10_000_000, "PLX-TOO-LARGE"),
    "a-chain-of-hundreds": ('{"plugins":[' + ",".join(['{"type":"spy"}'] * 300) + "]}", "PLX-TOO-LARGE"),
    "thirty-thousand-keys": ("{" + ",".join(f'"{n}":0' for n in range(3000)) + ',"type":"spy"}', ""),
}


@pytest.mark.parametrize("case", TEXTS)
def test_a_text_of_a_definition_runs_nothing_and_names_no_file(case: str, node: HostileNode):
    text, told = TEXTS[case]
    node.ask(text)
    assert_harmless(node, told)
    if not told:
        assert not {"/bin/sh", "/etc"} & set(map(str, node.spied().values()))


ADDRESSES: dict[str, tuple[dict[str, Any], dict[str, Any] | None, str]] = {
    "the-living-ones": (
        {"name": "cluster", "ipam": {"subnet": "10.244.0.0/24"}, "capabilities": {"ips": True}},
        {"ips": [LEASE]},
        LEASE,
    ),
    "the-living-ones-by-the-definition": (
        {"name": "cluster", "ipam": {"subnet": "10.244.0.0/24"}, "args": {"cni": {"ips": [LEASE]}}},
        None,
        LEASE,
    ),
    "his-gateways": (
        {"name": "cluster", "ipam": {"subnet": "10.244.0.0/24"}, "capabilities": {"ips": True}},
        {"ips": ["10.244.0.1"]},
        "10.244.0.1",
    ),
    "everything": ({"ipam": {"subnet": "0.0.0.0/0"}}, None, ""),
    "everything-of-the-sixth-version": ({"ipam": {"subnet": "::/0"}}, None, ""),
    "groups": ({"ipam": {"subnet": "224.0.0.0/4"}}, None, ""),
    "a-single-one": ({"ipam": {"subnet": "10.1.1.1/32"}}, None, "subnet"),
    "backwards": (
        {"ipam": {"subnet": "10.1.0.0/16", "rangeStart": "10.1.0.9", "rangeEnd": "10.1.0.3"}},
        None,
        "10.1.0.9",
    ),
    "from-elsewhere": ({"ipam": {"subnet": "10.1.0.0/16", "rangeStart": "10.2.0.9"}}, None, "10.2.0.9"),
    "a-name": ({"ipam": {"subnet": "localhost"}}, None, "localhost"),
    "an-object": ({"ipam": {"subnet": {"a": 1}}}, None, "subnet"),
    "the-same-twice": (
        {"ipam": {"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.1.0.0/25"}]]}},
        None,
        "overlaps",
    ),
    "four-hundred-ranges": (
        {"ipam": {"ranges": [[{"subnet": f"10.{n // 200}.{n % 200}.0/30"} for n in range(400)]]}},
        None,
        "",
    ),
    "with-a-rest": ({"ipam": {"subnet": "10.1.0.0/24; rm -rf /"}}, None, "10.1.0.0/24"),
    "with-routes-to-everywhere": (
        {"ipam": {"subnet": "10.1.0.0/24", "routes": [{"dst": f"100.64.{n}.0/24"} for n in range(200)]}},
        None,
        "",
    ),
    "of-a-group-as-mac": ({}, {"mac": "01:00:5e:00:00:01"}, "group"),
    "of-a-group-as-mac-by-the-definition": ({"args": {"cni": {"mac": "ff:ff:ff:ff:ff:ff"}}}, None, "ff:ff:ff:ff:ff:ff"),
    "of-nobody-as-mac": ({}, {"mac": "00:00:00:00:00:00"}, "MAC"),
    "another-variable-in-a-mac": ({}, {"mac": "02:00:00:00:00:01;IP=1"}, "MAC"),
    "another-variable-in-an-address": ({}, {"ips": ["10.66.0.9;K8S_POD_NAME=other"]}, "10.66.0.9;"),
    "a-line-in-an-address": ({}, {"ips": ["10.66.0.9\n"]}, "10.66.0.9"),
    "a-thousand": ({}, {"ips": [f"10.66.1.{n % 250}" for n in range(1000)]}, "PLX-ANNOTATION"),
    "a-masquerade-of-another-kind": ({"ipMasq": True, "ipMasqBackend": "sh -c id"}, None, "PLX-MASQ-BACKEND"),
    "masquerade": ({"ipMasq": True, "ipam": {"subnet": "10.244.0.0/24", "rangeStart": "10.244.0.200"}}, None, ""),
    "a-vlan-beyond": ({"vlan": 4095}, None, "4095"),
    "a-trunk-of-everything": (
        {"vlanTrunk": [{"minID": 1, "maxID": 4094}] * 300},
        None,
        ("PLX-BRIDGE-VLAN", "PLX-KERNEL"),
    ),
    "frames-of-no-size": ({"mtu": -5}, None, "mtu"),
    "frames-of-any-size": ({"mtu": 10**30}, None, "mtu"),
}


@pytest.mark.parametrize("case", ADDRESSES)
def test_addresses_are_his_own_or_refused(case: str, node: HostileNode):
    keys, selection, told = ADDRESSES[case]
    ipam = node.ipam(**keys.get("ipam", {"subnet": "10.66.0.0/24"}))
    node.ask(node.network(**keys | {"ipam": ipam}), selection)
    assert_harmless(node, told)


ANNOTATIONS: dict[str, tuple[str, str]] = {
    "a-thousand-networks": (",".join(["evil"] * 1000), "more than the 64"),
    "a-thousand-networks-in-json": (json.dumps([{"name": "evil"}] * 1000), "more than the 64"),
    "ten-megabytes": ("evil@" + "x" * 10_000_000, "PLX-ANNOTATION"),
    "ten-megabytes-of-brackets": ("[" * 10_000_000, "PLX-ANNOTATION"),
    "brackets": ("[" * 100_000, "PLX-ANNOTATION"),
    "a-path": ("../../etc/passwd", "PLX-ANNOTATION"),
    "a-namespace-that-climbs": ("../evil", "PLX-NAME"),
    "a-name-with-a-query": ("evil?x=y", "PLX-NAME"),
    "a-name-with-a-fragment": ("default/evil#", "PLX-NAME"),
    "an-escaped-slash": ("default/..%2fevil", "PLX-NAME"),
    "the-same-twice-under-one-name": ("evil@a,evil@a", "PLX-IFNAME-TWICE"),
    "the-clusters-interface": ("evil@eth0", "PLX-IFNAME-TWICE"),
    "names-of-others-that-are-numbered": ("evil@net2,evil", "PLX-IFNAME-TWICE"),
    "no-text": (json.dumps([{"name": 5}]), "PLX-ANNOTATION"),
    "a-null-byte": ("evil\0", "PLX-NAME"),
    "keys-in-other-letters": (json.dumps([{"NAME": "evil", "INTERFACE": "../x"}]), "PLX-ANNOTATION"),
    "keys-twice": ('[{"name":"evil","interface":"ok","interface":"../x"}]', "PLX-ANNOTATION"),
    "a-path-in-arguments": (json.dumps([{"name": "evil", "cni-args": {"dataDir": "/etc"}}]), "PLX-HOST-PATH"),
    "a-path-as-a-device": (json.dumps([{"name": "evil", "deviceID": "../../dev/sda"}]), "PLX-"),
    "a-gateway-that-is-none": (json.dumps([{"name": "evil", "default-route": ["nobody"]}]), "PLX-ANNOTATION"),
    "sixty-four-gateways": (json.dumps([{"name": "evil", "default-route": ["10.66.0.9"] * 64}]), "PLX-DEFAULT-ROUTE"),
    "ports-of-the-node": (
        json.dumps([{"name": "evil", "portMappings": [{"hostPort": 22, "containerPort": 22}]}]),
        "portMappings",
    ),
    "as-many-as-one-may": (",".join(f"evil@n{number}" for number in range(64)), ""),
}


@pytest.mark.parametrize("case", ANNOTATIONS)
def test_an_annotation_is_about_the_pods_own_interfaces(case: str, node: HostileNode):
    text, told = ANNOTATIONS[case]
    node.ask(node.network(), text)
    assert_harmless(node, told)


FORGED = {"cniVersion": "1.0.0", "ips": [{"address": "10.244.0.2/24"}]}


@pytest.mark.parametrize("letters", [str, str.upper, lambda key: key.replace("s", "\u017f").replace("k", "\u212a")])
def test_what_only_a_runtime_says_no_definition_does(letters: Callable[[str], str], node: HostileNode):
    """In any letters that some program takes for the same."""
    says = {
        "prevResult": FORGED,
        "cniVersion": "0.1.0",
        "cni.dev/valid-attachments": [],
        "cni.dev/attachments": [],
        "name": "evil",
    }
    node.ask({"type": "spy", "cniVersion": "1.1.0", "name": "evil"} | {letters(key): says[key] for key in says})
    node.conf["runtimeConfig"] = {"portMappings": [{"hostPort": 1}]}
    assert_harmless(node, "")
    told = {key.casefold() for key in node.spied()}
    assert told <= {"type", "cniversion", "name"}, told
    assert len(node.spied()) == len(told)


def test_a_runtimes_values_for_the_cluster_network_are_no_tenants(node: HostileNode):
    node.ask({"type": "spy", "cniVersion": "1.0.0", "capabilities": {"portMappings": True, "secret": True}})
    node.conf["runtimeConfig"] = {"portMappings": [{"hostPort": 1}], "secret": "x"}
    assert_harmless(node, "")
    assert "runtimeConfig" not in node.spied()


def test_a_garbage_collection_is_told_of_the_living_by_no_definition(node: HostileNode):
    """A definition that calls itself as the cluster network, and says in its own words that nobody lives."""
    keys = {"cni.dev/valid-attachments": [], "CNI.dev/valid-attachments": [], "cni.dev/valid-attachment\u017f": []}
    ipam = node.ipam(subnet="10.244.0.0/24")
    node.ask(node.network(name="cluster", bridge="cni0", ipam=ipam, cniVersion="1.1.0") | keys)
    before = node.everybody_elses()
    assert node.call("ADD").status == 0
    living = [{"containerID": "c0", "ifname": "eth0"}, {"containerID": "c1", "ifname": "eth0"}]
    assert node.call("GC", **{"cni.dev/valid-attachments": living}).text == ""
    assert node.call("CHECK").text == ""
    assert node.call_for(node.survivor, "CHECK").text == ""
    assert node.call("GC", **{"cni.dev/valid-attachments": living[:1]}).text == ""
    assert node.left() == []
    assert node.everybody_elses() == before


def test_arguments_of_a_pod_are_no_variables_of_its_plugins(node: HostileNode):
    node.ask(
        {"type": "spy", "cniVersion": "1.0.0"},
        {"cni-args": {"K8S_POD_NAME": "other", "LD_PRELOAD": "x.so", "a;IP": "1;MAC=x"}, "interface": "a;IP=1"},
    )
    assert_harmless(node, "")
    environ = dict(line.partition("=")[::2] for line in node.told_environ.read_text().splitlines())
    assert environ["CNI_ARGS"].count("K8S_POD_NAME=") == 1
    assert "K8S_POD_NAME=vm" in environ["CNI_ARGS"].split(";")
    assert "IP=1" not in environ["CNI_ARGS"]
    assert not {"LD_PRELOAD", "K8S_POD_NAME", "IP", "MAC"} & set(environ)


@pytest.mark.parametrize("length", [200, 250, 300, 5000])
def test_the_id_of_a_container_is_as_long_as_the_name_of_a_file_may_be(length: int, node: HostileNode):
    node.ask(node.network())
    environ = {"CNI_CONTAINERID": "c" * length}
    before = node.everybody_elses()
    added = node.call("ADD", environ=environ)
    assert (added.status == 0) == (length == 200), added.text
    if added.status:
        assert added.data["code"] in (4, 5)
        assert "too long" in added.text
    deleted = node.call("DEL", environ=environ)
    assert deleted.status == 0, deleted.text
    assert [path for path in node.leases() if path.read_text().startswith("cc")] == []
    assert node.everybody_elses() == before
