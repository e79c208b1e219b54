"""Names that are made of hashes, case by case; those that belong to plugins we do not have are listed as such."""

from typing import Any

import pytest
from vectors import cases

from cni.cli.runtime import absolute, digest

CASES = cases.load("hashes")
OURS = {"cnitool-container-id"}
ELSEWHERE = {
    "nft-comment-hash": "with the masquerading rules",
    "iptables-masq-chain": "with the masquerading rules",
    "portmap-dn-chain": "portmap is not built in",
    "bandwidth-ifb": "bandwidth is not built in",
}


@pytest.mark.parametrize("case", [case for case in CASES if case["kind"] in OURS], ids=str)
def test_the_command_gives_a_namespace_the_container_id_that_cnitool_gives_it(case: dict[str, Any]):
    assert f"cnitool-{digest(absolute(case['netns']))}" == case["out"]


@pytest.mark.parametrize("netns", ["/run/netns/../netns/b2", "//run/netns/b2/", "/run//netns/./b2"])
def test_a_namespace_has_one_container_id_however_its_path_is_written(netns: str):
    assert digest(absolute(netns)) == digest(absolute("/run/netns/b2"))


def test_every_kind_of_case_is_ours_or_listed():
    assert {case["kind"] for case in CASES} == OURS | ELSEWHERE.keys()
