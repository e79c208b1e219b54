"""A plugin that lays hands on what is not its own, or on itself: the pod is undone all the same, and others live on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bad_delegates import RESULT, Answer, BadNode, namespaces
from installed import tools
from machine import Namespace

INSIDE = 'nsenter --net="$CNI_NETNS" '
DEEDS = {
    "removes-its-interface": f"{INSIDE} ip link add $CNI_IFNAME type veth peer name x$$; {INSIDE} ip link del x$$",
    "removes-anothers-interface": f"{INSIDE} ip link del net1",
    "renames-the-cluster-networks-interface": f"{INSIDE} ip link set eth0 down; {INSIDE} ip link set eth0 name eth9",
    "takes-the-name-of-the-next-interface": f"{INSIDE} ip link add net4 type veth peer name peer4",
    "removes-all-addresses": f"{INSIDE} ip addr flush dev eth0; {INSIDE} ip addr flush dev net1",
    "moves-anothers-interface-away": f"ip netns add $$; {INSIDE} ip link set net1 netns $$; ip netns del $$",
    "removes-the-sandbox": 'ip netns del "${{CNI_NETNS##*/}}"',
    "removes-the-hosts-ends": "ip -o link show type veth | grep 'alias .*:c1:' |"
    " sed 's/@.*//; s/.* //' | xargs -n1 ip link del",
    "removes-a-bridge": "ip link del multus1",
    "removes-all-rules": "nft flush ruleset",
    "removes-the-leases": "grep -lr '^c1' {directory}/leases | xargs rm -f",
    "removes-the-index-of-leases": "rm -f {directory}/leases/.*.index",
    "removes-the-record": "rm -f {directory}/state/containers/c1@*",
    "damages-the-record": "for file in {directory}/state/containers/c1@*; do echo x > $file; done",
    "removes-the-directory-of-records": "cp {directory}/state/containers/c0@* {directory};"
    " rm -rf {directory}/state/containers; mkdir -m 700 {directory}/state/containers;"
    " mv {directory}/c0@* {directory}/state/containers",
    "removes-itself": "rm -f $0",
    "removes-the-other-plugin": "rm -f {directory}/bin/good",
    "locks-what-there-is": "for file in {directory}/state/containers/c1@*; do flock -n -s $file sleep 0.2; done",
}
BEFORE_HE_IS_UNDONE = {"removes-itself", "removes-the-other-plugin"}
"""What no DEL mends fails two of them."""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")


@pytest.fixture
def spaces() -> Iterator[list[Namespace]]:
    tools("ip", "nft", "nsenter", "flock")
    with namespaces("host", "sandbox", "survivor") as made:
        yield made


@pytest.fixture
def node(spaces: list[Namespace], tmp_path: Path) -> BadNode:
    made = BadNode(spaces[0], spaces[1], tmp_path)
    made.conf["parallel"] = False  # so that each plugin finds the same
    return made


def of_survivor(node: BadNode, survivor: Namespace) -> list[Any]:
    """All that he has: what is inside, his lease, his record."""
    leases = [path for path in (node.directory / "leases").rglob("10.*") if path.read_text().startswith("c0")]
    record = node.directory / "state" / "containers" / "c0@eth0.json"
    return [survivor.ip_json("addr"), survivor.routes(), leases, record.read_text()]


def left(node: BadNode) -> list[Any]:
    """What there is of the pod, anywhere."""
    links = [link["ifname"] for link in node.host.ip_json("link") if ":c1:" in link.get("ifalias", "")]
    found = [path for top in ("leases", "state") for path in (node.directory / top).rglob("*") if path.is_file()]
    files = [path.name for path in found if path.name.startswith("c1") or path.read_bytes().startswith(b"c1")]
    return [links, [name for name in files if not name.endswith(".damaged")]]


def assert_answered(answer: Answer) -> None:
    if answer.status:
        assert answer.data["code"] in {5, 6, 7, 8, 11, 101, 102, 103, 104}, answer.text
        assert answer.data["msg"]


@pytest.mark.parametrize("end", ["and-succeeds", "and-fails"])
@pytest.mark.parametrize("deed", DEEDS)
def test_the_pod_is_undone_and_who_lives_besides_is_left_alone(
    deed: str, end: str, node: BadNode, spaces: list[Namespace]
):
    survivor = spaces[2]
    assert node.call_for(survivor, "ADD").status == 0
    before = of_survivor(node, survivor)
    script = DEEDS[deed].format(directory=node.directory)
    fails = "exit 1" if end == "and-fails" else "true"
    node.misbehave(f"{{ {script}; }} >/dev/null 2>&1; {fails}; echo '{RESULT}'", "ADD")

    added = node.call("ADD")
    assert_answered(added)
    assert added.status == 1 or end == "and-succeeds"
    if added.status == 0:
        assert_answered(node.call("CHECK"))
    deleted = [node.call("DEL") for _ in range(4)]

    for answer in deleted:
        assert_answered(answer)
    assert deleted[-1].status == 0, deleted[-1].text
    failed = sum(answer.status for answer in deleted)
    assert failed <= (2 if deed in BEFORE_HE_IS_UNDONE else 1), [answer.text for answer in deleted]
    if deed not in BEFORE_HE_IS_UNDONE:
        assert left(node) == [[], []]
    assert of_survivor(node, survivor) == before
    if deed != "removes-all-rules":  # among which are his
        assert node.call_for(survivor, "CHECK").text == ""
    assert node.call_for(survivor, "DEL").status == 0
