"""The reference plugins and ours remove each other's masquerading, also where theirs would leave it behind."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from machine import Namespace, Runtime
from programs import find, use_iptables
from reference_plugins import Reference, knows_nftables

from cni.spec import convert

V4, V6 = "10.1.2.0/24", "fd00:1::/64"
BACKENDS = ["iptables-nft", "iptables-legacy", *(["nftables"] if knows_nftables() else [])]


@pytest.fixture(params=["bridge", "ptp"])
def ours(request: pytest.FixtureRequest, bridge: Runtime, veth: Runtime) -> Runtime:
    runtime = {"bridge": bridge, "ptp": veth}[request.param]
    runtime.kind = request.param
    return runtime


@pytest.fixture
def theirs(ours: Runtime, reference: Callable[[str], str]) -> Reference:
    return Reference(ours, reference(ours.kind))


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the configuration says; `iptables` is the variant that the parameter names."""
    name, _, variant = request.param.partition("-")
    if variant:
        directory = tmp_path / "bin"
        directory.mkdir()
        use_iptables(variant, directory, monkeypatch)
    return name


def conf_of(ours: Runtime, backend: str, *subnets: str) -> dict[str, Any]:
    return ours.conf(cniVersion="1.0.0", isGateway=True, ipMasq=True, ipMasqBackend=backend, ipam=ours.ipam(*subnets))


def rules(host: Namespace) -> list[str]:
    """All of both programs, without what differs by time and order of creation."""
    found = [f"{rule['chain']} {rule.get('comment')} {rule['expr']}" for rule in host.rules("masq_checks")]
    for family in ("iptables", "ip6tables"):
        for variant in ("nft", "legacy"):
            printed = host.run(find(f"{family}-{variant}"), "-t", "nat", "-S")
            found += [f"{family}-{variant} {line}" for line in printed.splitlines() if "CNI-" in line]
    return found


def test_both_make_the_same_rules(ours: Runtime, theirs: Reference, backend: str):
    conf = conf_of(ours, backend, V4, V6)
    theirs.add(conf)
    expected = rules(ours.host)
    theirs.call("DEL", conf)
    for name in ours.data_dir.glob("*/last_reserved_ip.*"):
        name.unlink()

    ours.add(conf)

    assert rules(ours.host) == expected != []


def test_the_reference_removes_what_we_made(ours: Runtime, theirs: Reference, backend: str):
    conf = conf_of(ours, backend, V4, V6)
    ours.add(conf)

    theirs.call("DEL", conf)

    assert rules(ours.host) == []


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("gone", ["", "link", "sandbox", "name"])
def test_we_remove_what_the_reference_made_whatever_became_of_the_sandbox(
    gone: str, told: bool, ours: Runtime, theirs: Reference, backend: str
):
    conf = conf_of(ours, backend, V4, V6)
    result = theirs.add(conf)
    previous = {"prevResult": convert.encode(result, "1.0.0")} if told else {}
    if gone == "sandbox":
        subprocess.run(["ip", "netns", "del", ours.sandbox.name], check=True)
    elif gone == "link":
        ours.sandbox.ip("link del eth0")

    ours.delete(conf | previous, **({"netns": ""} if gone == "name" else {}))

    assert rules(ours.host) == []
    assert ours.leases() == []


def test_after_an_upgrade_with_the_default_backend_check_passes_and_delete_leaves_nothing(
    ours: Runtime, theirs: Reference, backend: str
):
    conf = conf_of(ours, backend, V4)
    result = theirs.add(conf)
    del conf["ipMasqBackend"]

    ours.check(conf, result)
    ours.delete(conf)

    assert rules(ours.host) == []


def test_two_interfaces_of_which_the_reference_made_one_go_one_by_one(ours: Runtime, theirs: Reference, backend: str):
    conf = conf_of(ours, backend, V4)
    theirs.add(conf)
    ours.add(conf, ifname="eth1")

    ours.delete(conf)

    left = " ".join(rules(ours.host))
    assert "10.1.2.3" in left
    assert "10.1.2.2" not in left
    ours.delete(conf, ifname="eth1")
    assert rules(ours.host) == []
