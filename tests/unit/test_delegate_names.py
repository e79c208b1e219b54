"""How an attachment's link and rules are named, so that they are found again, by the reference plugins too."""

import hashlib
import json
from pathlib import Path

import pytest

from cni.linux import expressions, nft
from cni.linux.nft import Chain, Rule
from cni.spec.request import Request
from delegates import host_veth, masquerade_iptables, masquerade_nft, spoofcheck

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "hashes.json").read_text())["cases"]
COMMENTS = [case for case in VECTORS if case["kind"] == "nft-comment-hash"]
CHAINS = [case for case in VECTORS if case["kind"] == "iptables-masq-chain"]


def request(network: str = "net", container_id: str = "c1", ifname: str = "eth0") -> Request:
    return Request(command="ADD", container_id=container_id, ifname=ifname).with_conf({"name": network})


def test_the_hosts_end_is_named_by_a_hash_of_the_attachment():
    digest = hashlib.sha512(b"netc1eth0").hexdigest()

    assert list(host_veth.names(request())) == [f"veth{digest[start : start + 8]}" for start in (0, 8, 16, 24)]


def test_the_mark_tells_network_container_and_interface():
    assert host_veth.alias(request()) == "plexus:net:c1:eth0"


@pytest.mark.parametrize("length", [1, 80, 81, 150, 151, 5000])
def test_the_mark_fits_and_stays_distinct_however_long_the_names(length: int):
    names = ["n" * length, "n" * (length - 1) + "m"]
    marks = {host_veth.alias(request(name, container_id, "i" * 15)) for name in names for container_id in names}

    assert len(marks) == 4
    assert all(len(mark.encode()) <= 255 for mark in marks)
    assert all(host_veth.alias(request(name)).startswith(host_veth.prefix(name)) for name in names)
    assert host_veth.prefix(names[0]) != host_veth.prefix(names[1])


@pytest.mark.parametrize("case", COMMENTS, ids=lambda case: case["network"])
def test_rules_carry_the_hash_of_the_reference(case: dict[str, str]):
    told = masquerade_nft.comment(case["network"], case["ifname"], case["id"])

    assert told.startswith(f"{case['out']}, net: {case['network']}, if: {case['ifname']}, id: {case['id']}")


def test_a_comment_is_cut_to_what_the_kernel_keeps():
    told = masquerade_nft.comment("net", "eth0", "c" * 200)

    assert len(told) == 128
    assert told.endswith(", id: " + "c" * 69)


@pytest.mark.parametrize("case", CHAINS, ids=lambda case: case["network"])
def test_the_chain_of_a_container_is_that_of_the_reference(case: dict[str, str]):
    assert masquerade_iptables.chain_name(case["network"], case["id"]) == case["out"]


def test_the_remark_on_a_containers_chain_is_that_of_the_reference_as_far_as_it_fits():
    assert masquerade_iptables.comment("net", "c1") == 'name: "net" id: "c1"'
    assert len(masquerade_iptables.comment("n" * 200, "c" * 64)) == 255


def rule(chain: Chain, comment: str, handle: int = 1, ifname: str = "") -> Rule:
    by = [expressions.meta(expressions.IIFNAME), expressions.compare(expressions.EQUAL, ifname.encode())]
    return Rule(chain, handle, comment, expressions.pack(by if ifname else []))


def test_one_attachments_rules_are_told_from_anothers_with_the_same_address():
    rules = [
        rule(masquerade_nft.CHECKS, masquerade_nft.comment("unit-test", "eth0", name), n) for n, name in enumerate("ab")
    ]

    assert masquerade_nft.removal(rules, request("unit-test", "b")) == [rules[1].deletion]


def test_garbage_is_what_the_network_has_of_attachments_that_are_not_valid():
    owners = [("net", "eth0", "c1"), ("net", "eth0", "c2"), ("other", "eth0", "c2"), ("net", "net1", "c1")]
    rules = [rule(masquerade_nft.CHECKS, masquerade_nft.comment(*owner), handle) for handle, owner in enumerate(owners)]

    removed = masquerade_nft.garbage(rules, "net", [("c1", "eth0")])

    assert removed == [rules[1].deletion, rules[3].deletion]


def test_a_source_mac_check_is_garbage_when_neither_its_attachment_nor_its_link_is_there():
    owners = [("valid", "veth1"), ("gone", "veth2"), ("anothers", "veth3")]
    rules = [rule(spoofcheck.PREROUTING, f"macspoofchk-{name}-eth0", 7, link) for name, link in owners]

    removed = spoofcheck.garbage(rules, {"veth3"}, [("valid", "eth0")])

    assert [change.what for change in removed if change.kind == nft.DEL_CHAIN] == [
        'delete the chain "cni-br-iface-gone-eth0"',
        'delete the chain "cni-br-iface-gone-eth0-mac"',
    ]


def test_a_source_mac_check_whose_link_cannot_be_told_is_left_alone():
    assert spoofcheck.garbage([rule(spoofcheck.PREROUTING, "macspoofchk-strange-eth0")], set(), []) == []


def test_chains_are_emptied_before_they_are_deleted():
    [base] = [rule(spoofcheck.PREROUTING, "macspoofchk-c1-eth0")]

    verbs = [change.what.split()[0] for change in spoofcheck.removal([base], request())]

    assert verbs == ["delete", "add", "add", "empty", "empty", "delete", "delete"]
