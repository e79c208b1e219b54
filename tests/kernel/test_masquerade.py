"""Masquerading by either program: what the outside hears, what is left after DEL and GC, and which program does it."""

import json
import os
import subprocess
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from machine import Namespace, Runtime, fail_at
from programs import find, install_only, use_iptables

from cni.linux import netlink
from cni.spec import convert
from cni.spec.errors import CNIError
from cni.spec.result import Result

V4, V6 = "10.1.2.0/24", "fd00:1::/64"
OUTSIDE = {V4: "203.0.113.2", V6: "2001:db8:113::2"}


@pytest.fixture(params=["nftables", "iptables-nft", "iptables-legacy"])
def backend(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the configuration says; `iptables` is the variant that the parameter names."""
    name, _, variant = request.param.partition("-")
    if variant:
        directory = tmp_path / "bin"
        directory.mkdir()
        use_iptables(variant, directory, monkeypatch)
    return name


@pytest.fixture(params=["bridge", "veth"])
def runtime(request: pytest.FixtureRequest) -> Runtime:
    return request.getfixturevalue(request.param)


@pytest.fixture
def other(namespace: Callable[[str], Namespace]) -> Namespace:
    """A second sandbox."""
    return namespace("other")


def masquerading(runtime: Runtime, backend: str, *subnets: str) -> dict[str, Any]:
    routes = [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
    chosen = [route for route, family in zip(routes, ":.", strict=True) if not all(family in net for net in subnets)]
    ipam = runtime.ipam(*subnets, routes=chosen)
    return runtime.conf(isGateway=True, ipMasq=True, ipMasqBackend=backend, ipam=ipam)


def with_result(conf: dict[str, Any], result: Result) -> dict[str, Any]:
    return conf | {"prevResult": convert.encode(result, conf["cniVersion"])}


def rules(host: Namespace) -> list[str]:
    """Everything that masquerades, by either program."""
    found = [f"nft {rule['comment']}" for rule in host.rules("masq_checks")]
    for program in ("iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy"):
        printed = host.run(find(program), "-t", "nat", "-S")
        found += [f"{program} {line}" for line in printed.splitlines() if "CNI-" in line]
    return found


@pytest.mark.parametrize("subnets", [(V4,), (V6,), (V4, V6)], ids=str)
def test_the_sandbox_talks_to_who_knows_no_way_back(
    subnets: tuple[str, ...], backend: str, runtime: Runtime, outside: Namespace
):
    conf = masquerading(runtime, backend, *subnets)
    runtime.add(conf | {"ipMasq": False})
    assert all(runtime.sandbox.hears_nothing_from(OUTSIDE[subnet]) for subnet in subnets)
    runtime.delete(conf)

    result = runtime.add(conf)

    assert all(runtime.sandbox.pings(OUTSIDE[subnet]) for subnet in subnets)
    runtime.check(conf, result)
    runtime.delete(conf)
    assert rules(runtime.host) == []


@pytest.mark.parametrize("netns", [None, "", "/nonexistent/netns"])
@pytest.mark.parametrize("told", [True, False])
def test_of_two_interfaces_of_one_container_each_is_masqueraded_until_its_own_delete(
    told: bool, netns: str | None, backend: str, runtime: Runtime, outside: Namespace
):
    """They share a chain of iptables, which the reference plugins empty with the first (B61)."""
    conf = masquerading(runtime, backend, V4)
    second = conf | {"ipam": runtime.ipam("10.1.2.0/24")}
    confs = {"eth0": conf, "eth1": second}
    results = {ifname: runtime.add(confs[ifname], ifname=ifname) for ifname in confs}
    fields = {} if netns is None else {"netns": netns}

    def delete(ifname: str) -> None:
        known = with_result(confs[ifname], results[ifname]) if told else confs[ifname]
        runtime.delete(known, ifname=ifname, **fields)

    if runtime.kind == "bridge" and netns is None:
        assert runtime.sandbox.pings(OUTSIDE[V4])
    delete("eth0")

    runtime.sandbox.ip("route replace default via 10.1.2.1 dev eth1")
    assert runtime.sandbox.pings(OUTSIDE[V4])
    delete("eth1")
    assert rules(runtime.host) == []


def test_a_network_of_two_subnets_masquerades_neither_towards_itself(backend: str, bridge: Runtime):
    """With iptables the rule of the last subnet must come before the one that masquerades everything."""
    bridge.add(masquerading(bridge, backend, V4, "10.9.2.0/24") | {"isGateway": False})

    if backend == "nftables":
        assert len(bridge.host.rules("masq_checks")) == 2
        return
    chain = [line for line in rules(bridge.host) if " -A CNI-" in line]
    verdicts = [(line.split(" -d ")[1].split()[0], line.split(" -j ")[1]) for line in chain]
    assert verdicts == [("10.1.2.0/24", "ACCEPT"), ("10.9.2.0/24", "ACCEPT"), ("224.0.0.0/4", "MASQUERADE")]


def remove_sandbox(runtime: Runtime) -> None:
    subprocess.run(["ip", "netns", "del", runtime.sandbox.name], check=True)


def remove_link(runtime: Runtime) -> None:
    runtime.sandbox.ip("link del eth0")


def remove_addresses(runtime: Runtime) -> None:
    runtime.sandbox.ip("addr flush dev eth0")


def rename_link(runtime: Runtime) -> None:
    runtime.sandbox.run("sh", "-c", "ip link set eth0 down; ip link set eth0 name nic; ip addr flush dev nic")


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("meanwhile", [remove_sandbox, remove_link, remove_addresses, rename_link])
def test_nothing_is_left_whatever_became_of_the_sandbox(
    meanwhile: Callable[[Runtime], None], told: bool, backend: str, bridge: Runtime
):
    conf = masquerading(bridge, backend, V4, V6)
    result = bridge.add(conf)
    meanwhile(bridge)

    bridge.delete(with_result(conf, result) if told else conf)

    assert rules(bridge.host) == []
    assert bridge.host.state()["chains"] == []


@pytest.mark.parametrize("changes", [{"ipMasq": False}, {"ipMasqBackend": "auto"}, {"ipMasqBackend": "foo"}], ids=str)
def test_nothing_is_left_whatever_the_configuration_says_by_now(changes: dict[str, Any], backend: str, bridge: Runtime):
    conf = masquerading(bridge, backend, V4)
    bridge.add(conf)

    bridge.delete(conf | changes)

    assert rules(bridge.host) == []


def test_an_add_that_fails_at_any_change_leaves_no_rule(backend: str, runtime: Runtime):
    conf = masquerading(runtime, backend, V4, V6)
    failures = []

    for step in count(1):
        try:
            with fail_at(step) as failing:
                runtime.add(conf)
        except CNIError as error:
            failures.append(error.msg)
        else:
            runtime.delete(conf)
        assert rules(runtime.host) == [], f"after failing to {failing.failed}"
        assert runtime.host.state()["chains"] == []
        assert runtime.leases() == []
        if not failing.failed:
            break
        runtime.host.run("sh", "-c", "ip link del cni0 2>&- || :")

    families = 1 if backend == "nftables" else 2
    assert sum("could not masquerade" in failure for failure in failures) == families


def test_a_rule_that_cannot_be_removed_is_told_of_and_the_rest_is_removed(backend: str, bridge: Runtime):
    conf = masquerading(bridge, backend, V4)
    bridge.add(conf)

    with fail_at(1 if backend == "iptables" else 2):
        error = bridge.fails("DEL", conf)

    assert '"eth0"' in error.msg
    assert "it was made to fail" in error.details
    assert bridge.host.links() == ["cni0", "lo"]
    assert bridge.leases() == []
    bridge.delete(conf)
    assert rules(bridge.host) == []


def test_garbage_is_collected_container_by_container(
    backend: str, runtime: Runtime, namespace: Callable[[str], Namespace]
):
    conf = masquerading(runtime, backend, V4, V6)
    for number in range(3):
        runtime.add(conf, container_id=f"c{number}", netns=namespace("pod").path)
    neighbour = conf | {"name": "net2", "ipam": runtime.ipam("10.1.2.0/24", gateway="10.1.2.1")}
    runtime.add(neighbour, container_id="c9", netns=namespace("pod").path)

    runtime.gc(conf, ("c1", "eth0"))

    left = [line for line in rules(runtime.host) if "POSTROUTING" in line or line.startswith("nft ")]
    assert sorted(r"\"c1\"" in line or line.endswith("id: c1") for line in left) == [False, True, True]
    runtime.gc(conf)
    runtime.gc(neighbour)
    assert rules(runtime.host) == []


def test_check_tells_of_rules_that_are_gone(backend: str, bridge: Runtime):
    conf = masquerading(bridge, backend, V4)
    result = bridge.add(conf)
    bridge.check(conf | {"ipMasqBackend": "auto"}, result)
    wipe = "nft flush ruleset; iptables -t nat -F"
    bridge.host.run("sh", "-c", wipe)

    error = bridge.fails("CHECK", with_result(conf, result))

    assert "masqueraded addresses: expected 10.1.2.2, found none" in error.details


@pytest.fixture
def without_nftables(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that has no nftables: it knows as little of netfilter's netlink as of a family that nobody has."""
    monkeypatch.setattr(netlink, "NETFILTER", 31)


@pytest.mark.parametrize("installed", [("nft", "iptables"), ("iptables", "iptables-restore"), ()])
def test_auto_is_nftables_where_the_kernel_has_it_whatever_is_installed(
    installed: tuple[str, ...], bridge: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    conf = masquerading(bridge, "auto", V4)
    with monkeypatch.context() as patch:
        install_only(patch, tmp_path / "bin", *installed)
        bridge.call("STATUS", conf, container_id="", ifname="", netns="")
        bridge.add(conf)

    assert [rule["comment"].endswith("if: eth0, id: c1") for rule in bridge.host.rules("masq_checks")] == [True]
    bridge.delete(conf)
    assert rules(bridge.host) == []


def test_auto_is_iptables_where_the_kernel_has_no_nftables(
    bridge: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_nftables: None
):
    directory = tmp_path / "bin"
    directory.mkdir()
    use_iptables("legacy", directory, monkeypatch)
    conf = masquerading(bridge, "auto", V4)

    bridge.call("STATUS", conf, container_id="", ifname="", netns="")
    bridge.add(conf)

    assert rules(bridge.host)[0].startswith("iptables-legacy ")
    bridge.delete(conf)
    assert rules(bridge.host) == []


@pytest.mark.parametrize("wanted", ["nftables", "auto"])
def test_a_kernel_without_nftables_is_told_of_and_nothing_is_left(
    wanted: str, bridge: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_nftables: None
):
    conf = masquerading(bridge, wanted, V4)
    with monkeypatch.context() as patch:
        install_only(patch, tmp_path / "bin", "nft")
        status = bridge.fails("STATUS", conf, container_id="", ifname="", netns="")
        error = bridge.fails("ADD", conf)

    assert (status.code, status.details) == (50, "load its module nf_tables, or use another kernel")
    assert error.id == "PLX-NFT-MISSING"
    assert "Protocol not supported: the kernel needs its module nf_tables" in error.details
    assert bridge.host.links() == ["cni0", "lo"]
    assert bridge.leases() == []


def test_iptables_that_is_missing_is_named_and_nothing_is_left(
    bridge: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    conf = masquerading(bridge, "iptables", V4)
    with monkeypatch.context() as patch:
        install_only(patch, tmp_path / "bin", "nft")
        status = bridge.fails("STATUS", conf, container_id="", ifname="", netns="")
        error = bridge.fails("ADD", conf)

    assert (status.code, status.details) == (50, "install iptables")
    assert error.id == "PLX-IPTABLES-MISSING"
    assert bridge.host.links() == ["cni0", "lo"]
    assert bridge.leases() == []


def handles(host: Namespace, chain: str) -> list[int]:
    """What the kernel calls the rules of a chain: one that is written again has another handle."""
    return [rule["handle"] for rule in host.rules(chain)]


def test_what_all_share_is_written_once_and_again_where_somebody_changed_it(bridge: Runtime, other: Namespace):
    conf = masquerading(bridge, "nftables", V4)
    bridge.add(conf)
    first = bridge.host.rules("postrouting")

    bridge.add(conf, container_id="c2", netns=other.path)
    assert handles(bridge.host, "postrouting") == [rule["handle"] for rule in first]
    bridge.delete(conf, container_id="c2")

    bridge.host.run("nft", "insert rule inet cni_plugins_masquerade postrouting accept")
    bridge.add(conf, container_id="c2", netns=other.path)
    assert [rule["expr"] for rule in bridge.host.rules("postrouting")] == [rule["expr"] for rule in first]


def test_iptables_is_not_run_where_it_made_nothing(bridge: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Other people's rules are no reason either."""
    log = tmp_path / "runs"
    for name in ("iptables", "ip6tables", "iptables-nft", "ip6tables-nft", "iptables-restore", "ip6tables-restore"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho "$0 $*" >>{log}\nexit 1\n')
        program.chmod(0o755)
    bridge.host.run(find("iptables-nft"), "-t", "nat", "-A", "POSTROUTING", "-s", "192.0.2.1", "-j", "MASQUERADE")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    conf = masquerading(bridge, "nftables", V4, V6)

    result = bridge.add(conf)
    bridge.delete(with_result(conf, result))
    bridge.delete(conf, netns="")

    assert not log.exists(), log.read_text()
    assert json.dumps(bridge.host.nft()).count("192.0.2.1") == 1
