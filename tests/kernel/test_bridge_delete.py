"""DEL and GC of both delegates: whatever has become of the sandbox or the configuration, nothing is left."""

import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from machine import FakeIpam, Namespace, Runtime, fail_at

from cni.spec.errors import DeleteIncomplete

V4, V6 = "10.1.2.0/24", "fd00:1::/64"
KUBEVIRT = (
    "ip link set eth0 down; ip link set eth0 name eth0-nic; ip link set eth0-nic address 02:00:00:00:00:77;"
    "ip addr flush dev eth0-nic; ip link add k6t-eth0 type bridge; ip link set eth0-nic master k6t-eth0 up;"
    "ip link add eth0 type bridge"
)
"""What virt-launcher does to the interface: rename it, move it under a bridge, have its name taken by another link."""


@pytest.fixture(params=["bridge", "veth"])
def runtime(request: pytest.FixtureRequest) -> Runtime:
    return request.getfixturevalue(request.param)


def full(runtime: Runtime) -> dict[str, Any]:
    """A configuration that leaves something in every place."""
    return runtime.conf(
        isDefaultGateway=True, ipMasq=True, macspoofchk=runtime.kind == "bridge", ipam=runtime.ipam(V4, V6)
    )


def assert_nothing_is_left(runtime: Runtime) -> None:
    assert [name for name in runtime.host.links() if name != "cni0"] == ["lo"]
    assert runtime.host.rules("masq_checks") == []
    assert runtime.host.state()["chains"] == []
    assert [rule for rule in runtime.host.rules("PREROUTING") if "macspoofchk" in rule.get("comment", "")] == []
    assert runtime.leases() == []


def nothing(runtime: Runtime) -> None:
    pass


def remove_link(runtime: Runtime) -> None:
    runtime.sandbox.ip("link del eth0")


def remove_addresses(runtime: Runtime) -> None:
    runtime.sandbox.ip("addr flush dev eth0")


def remove_sandbox(runtime: Runtime) -> None:
    subprocess.run(["ip", "netns", "del", runtime.sandbox.name], check=True)


def hand_over_to_kubevirt(runtime: Runtime) -> None:
    runtime.sandbox.run("sh", "-c", KUBEVIRT)


SURROUNDINGS: list[tuple[Callable[[Runtime], None], dict[str, Any]]] = [
    (nothing, {}),
    (nothing, {"netns": ""}),
    (nothing, {"netns": "/nonexistent/netns"}),
    (nothing, {"netns": "/etc/passwd"}),
    (remove_link, {}),
    (remove_link, {"netns": ""}),
    (remove_addresses, {}),
    (remove_sandbox, {}),
    (remove_sandbox, {"netns": ""}),
    (hand_over_to_kubevirt, {}),
]


@pytest.mark.parametrize(("meanwhile", "fields"), SURROUNDINGS)
def test_delete_leaves_nothing_whatever_became_of_the_sandbox(
    meanwhile: Callable[[Runtime], None], fields: dict[str, Any], runtime: Runtime
):
    conf = full(runtime)
    runtime.add(conf)
    meanwhile(runtime)

    runtime.delete(conf, **fields)

    assert_nothing_is_left(runtime)
    runtime.delete(conf, **fields)


CHANGED: list[dict[str, Any]] = [
    {"ipMasq": False, "macspoofchk": False},
    {"bridge": "renamed0"},
    {"vlan": 5000},
    {"vlanTrunk": "nonsense"},
    {"mtu": "large"},
    {"ipMasqBackend": "foo"},
    {"hairpinMode": True, "promiscMode": True},
    {"runtimeConfig": {"mac": "zz"}},
]


@pytest.mark.parametrize("changes", CHANGED, ids=str)
def test_delete_leaves_nothing_whatever_the_configuration_says_by_now(changes: dict[str, Any], runtime: Runtime):
    conf = full(runtime)
    runtime.add(conf)

    runtime.delete(conf | changes)

    assert_nothing_is_left(runtime)


@pytest.mark.parametrize("netns", [None, "", "/nonexistent/netns"])
def test_delete_of_what_was_never_added_succeeds(netns: str | None, runtime: Runtime):
    runtime.delete(full(runtime), **({} if netns is None else {"netns": netns}))

    assert_nothing_is_left(runtime)


def test_delete_keeps_the_bridge_and_its_address(bridge: Runtime):
    conf = full(bridge)
    bridge.add(conf)

    bridge.delete(conf)

    assert bridge.host.addresses("cni0") == ["10.1.2.1/24", "fd00:1::1/64"]


def test_delete_without_ipam_in_the_configuration_removes_the_link(runtime: Runtime):
    conf = full(runtime)
    runtime.add(conf)

    runtime.delete({key: value for key, value in conf.items() if key != "ipam"})

    assert [name for name in runtime.host.links() if name != "cni0"] == ["lo"]


def test_delete_of_one_of_two_interfaces_keeps_the_other(runtime: Runtime):
    conf = full(runtime) | {"ipam": runtime.ipam(V4)}
    runtime.add(conf)
    runtime.add(conf, ifname="eth1")

    runtime.delete(conf)

    assert runtime.sandbox.links() == ["eth1", "lo"]
    assert runtime.leases() == ["10.1.2.3"]
    [rule] = runtime.host.rules("masq_checks")
    assert ", if: eth1, " in rule["comment"]


def test_delete_spares_what_took_the_name_since(runtime: Runtime):
    """A second DEL must not remove another attachment's interface, nor one that is no veth and so was never ours."""
    conf = runtime.conf(ipam=runtime.ipam(V4))
    runtime.add(conf)
    runtime.delete(conf)
    runtime.add(conf, ifname="eth1")
    runtime.sandbox.run("sh", "-c", "ip link set eth1 down; ip link set eth1 name eth0; ip link add eth2 type bridge")

    runtime.delete(conf)
    runtime.delete(conf, ifname="eth2")

    assert runtime.sandbox.links() == ["eth0", "eth2", "lo"]


def test_delete_removes_a_veth_without_mark_by_its_name(runtime: Runtime):
    """As a reference plugin made it, or an ADD that was killed."""
    runtime.host.ip(f"link add vethref type veth peer name eth0 netns {runtime.sandbox.name}")

    runtime.delete(runtime.conf())

    assert runtime.host.links() == ["lo"]
    assert runtime.sandbox.links() == ["lo"]


def test_delete_tries_everything_and_names_each_failure(runtime: Runtime):
    conf = full(runtime) | {"ipam": runtime.ipam(V4)}
    runtime.add(conf)

    # The first change that DEL makes is the link's removal.
    with fail_at(1):
        error = runtime.fails("DEL", conf | {"ipam": {"type": "no-such"}})

    assert isinstance(error, DeleteIncomplete)
    assert runtime.kind == "veth" or "could not detach" in error.msg
    assert 'could not delete link "veth' in error.details
    assert "no-such" in error.details
    assert runtime.host.rules("masq_checks") == []
    runtime.delete(conf)
    assert_nothing_is_left(runtime)


def test_gc_removes_links_rules_and_leases_of_attachments_that_are_not_valid(
    runtime: Runtime, namespace: Callable[[str], Namespace]
):
    conf = full(runtime) | {"ipam": runtime.ipam(V4)}
    other = conf | {"name": "other", "ipam": runtime.ipam("10.1.2.0/24", gateway="10.1.2.1")}
    sandboxes = [namespace("pod") for _ in range(3)]
    for number, sandbox in enumerate(sandboxes):
        runtime.add(conf, container_id=f"c{number}", netns=sandbox.path)
    runtime.add(other, container_id="c9", netns=sandboxes[2].path, ifname="net1")

    runtime.gc(conf, ("c1", "eth0"))

    aliases = {link["ifalias"] for link in runtime.host.ip_json("link show type veth") if "ifalias" in link}
    assert aliases == {"plexus:net:c1:eth0", "plexus:other:c9:net1"}
    assert [sandbox.links() for sandbox in sandboxes] == [["lo"], ["eth0", "lo"], ["lo", "net1"]]
    comments = [rule["comment"] for rule in runtime.host.rules("masq_checks")]
    assert [comment.partition(", ")[2] for comment in comments] == [
        "net: net, if: eth0, id: c1",
        "net: other, if: net1, id: c9",
    ]
    if runtime.kind == "bridge":
        checked = {rule["comment"] for rule in runtime.host.rules("PREROUTING")}
        assert checked == {"macspoofchk-c1-eth0", "macspoofchk-c9-net1"}
    runtime.gc(conf)
    runtime.gc(other)
    assert_nothing_is_left(runtime)


def test_gc_is_passed_on_to_ipam(runtime: Runtime, fake_ipam: FakeIpam):
    runtime.gc(runtime.conf(ipam=fake_ipam.answers()))

    assert fake_ipam.calls() == ["GC"]


def test_nothing_needs_a_program(runtime: Runtime, monkeypatch: pytest.MonkeyPatch):
    conf = runtime.conf(isGateway=True, ipMasq=True, macspoofchk=True, ipam=runtime.ipam(V4))
    with monkeypatch.context() as patch:
        patch.setattr("cni.linux.program.SYSTEM_PATH", "/nonexistent")
        patch.setenv("PATH", "/nonexistent")

        runtime.call("STATUS", conf, container_id="", ifname="", netns="")
        result = runtime.add(conf)
        runtime.check(conf, result)
        runtime.gc(conf)
        runtime.delete(conf)

    assert_nothing_is_left(runtime)
