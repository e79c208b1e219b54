"""IPv6 and dual stack: addresses that can be used when ADD returns, duplicates that are found, ways out and back."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from machine import Namespace, Runtime

from cni.linux import netns

V4, V6 = "10.1.2.0/24", "fd00:1::/64"
OUTSIDE = {V4: "203.0.113.2", V6: "2001:db8:113::2"}
GATEWAYS = {V4: "10.1.2.1", V6: "fd00:1::1"}


@pytest.fixture(params=["bridge", "veth"])
def runtime(request: pytest.FixtureRequest) -> Runtime:
    return request.getfixturevalue(request.param)


@pytest.fixture
def other(namespace: Callable[[str], Namespace]) -> Namespace:
    """A second sandbox."""
    return namespace("other")


def conf_of(runtime: Runtime, *subnets: str, **keys: Any) -> dict[str, Any]:
    routes = [{"dst": "::/0" if ":" in subnet else "0.0.0.0/0"} for subnet in subnets]
    return runtime.conf(isGateway=True, ipam=runtime.ipam(*subnets, routes=routes), **keys)


def unsettled(where: Namespace, link: str) -> list[str]:
    """The link's addresses that cannot be used yet, or never can."""
    found = where.ip_json(f"-6 addr show dev {link} scope global")
    entries = [entry for shown in found for entry in shown["addr_info"]]
    assert entries
    return [entry["local"] for entry in entries if entry.get("tentative") or entry.get("dadfailed")]


def solicitations(where: Namespace) -> int:
    """How often a namespace asked the network for a neighbour, or for a duplicate of its own address."""
    counters = where.run("cat", "/proc/net/snmp6")
    found = re.search(r"Icmp6OutNeighborSolicits\s+(\d+)", counters)
    assert found
    return int(found[1])


@pytest.mark.parametrize("everywhere", ["0", "1"])
@pytest.mark.parametrize("subnets", [(V6,), (V4, V6)], ids=str)
def test_addresses_can_be_used_at_once_where_nobody_asks_for_duplicates(
    subnets: tuple[str, ...], everywhere: str, runtime: Runtime
):
    """Also in a sandbox whose own setting, for all of its interfaces, is to ask."""
    runtime.sandbox.run("sh", "-c", f"echo {everywhere} > /proc/sys/net/ipv6/conf/all/accept_dad")

    runtime.add(conf_of(runtime, *subnets))

    assert unsettled(runtime.sandbox, "eth0") == []
    gateways = "cni0" if runtime.kind == "bridge" else runtime.port()
    assert unsettled(runtime.host, gateways) == []
    assert "1 received" in runtime.sandbox.run("ping", "-n", "-c1", "-W30", GATEWAYS[V6])


def test_who_asks_for_an_address_as_soon_as_add_has_returned_is_heard(runtime: Runtime):
    """The kernel joins the group at which neighbours ask some time after it has taken an address."""
    conf = conf_of(runtime, V6)

    for number in range(2, 22):
        runtime.add(conf)
        assert f"ff0200000000000000000001ff{1:06x}" in netns.run_inside(runtime.host.path, groups)
        assert f"ff0200000000000000000001ff{number:06x}" in netns.run_inside(runtime.sandbox.path, groups)
        runtime.delete(conf)
        if runtime.kind == "bridge":
            runtime.host.ip("link delete cni0")


def groups() -> set[str]:
    """The multicast groups of the calling thread's namespace; no program is started, which would take too long."""
    with open("/proc/thread-self/net/igmp6", encoding="ascii") as file:
        return {line.split()[2] for line in file}


@pytest.mark.parametrize("gateway", [True, False])
def test_addresses_can_be_used_when_duplicates_have_been_asked_for(gateway: bool, bridge: Runtime):
    conf = conf_of(bridge, V4, V6, enabledad=True) | {"isGateway": gateway}

    bridge.add(conf)

    assert unsettled(bridge.sandbox, "eth0") == []
    assert solicitations(bridge.sandbox) > 0
    if gateway:
        assert unsettled(bridge.host, "cni0") == []
        assert "1 received" in bridge.sandbox.run("ping", "-n", "-c1", "-W30", GATEWAYS[V6])


def test_duplicates_are_looked_for_on_a_bridge_that_was_made_without(bridge: Runtime, other: Namespace):
    bridge.add(bridge.conf(), container_id="rival", netns=other.path)
    assert bridge.host.sysctl("net/ipv6/conf/cni0/accept_dad") == "0"
    other.ip("addr add fd00:1::1/64 dev eth0 nodad")

    assert bridge.fails("ADD", conf_of(bridge, V6, enabledad=True)).id == "PLX-ADDRESS-DUPLICATE"


def test_the_setting_of_a_bridge_that_is_not_ours_stays(bridge: Runtime):
    bridge.host.ip("link add cni0 type bridge")

    bridge.add(conf_of(bridge, V6))

    assert bridge.host.sysctl("net/ipv6/conf/cni0/accept_dad") == "1"


def test_a_gateway_that_another_host_has_is_refused_and_nothing_is_left(bridge: Runtime, other: Namespace):
    """Two nodes on one wire with one definition both want to be the subnet's first address."""
    bridge.add(bridge.conf(), container_id="rival", netns=other.path)
    other.ip("addr add fd00:1::1/64 dev eth0 nodad")
    before = bridge.state()

    error = bridge.fails("ADD", conf_of(bridge, V6, enabledad=True))

    assert error.id == "PLX-ADDRESS-DUPLICATE"
    assert 'fd00:1::1 on link "cni0"' in error.msg
    assert {**bridge.state()[0], "routes": None} == {**before[0], "routes": None}
    assert bridge.leases() == []


@pytest.mark.parametrize("subnets", [(V6,), (V4, V6)], ids=str)
def test_sandboxes_reach_each_other_the_host_and_the_outside(
    subnets: tuple[str, ...], runtime: Runtime, other: Namespace, outside: Namespace
):
    conf = conf_of(runtime, *subnets, ipMasq=True)
    first = runtime.add(conf)
    second = runtime.add(conf, container_id="c2", netns=other.path)

    for mine, its, subnet in zip(first.ips, second.ips, subnets, strict=True):
        assert runtime.sandbox.pings(str(its.address.ip))
        assert other.pings(str(mine.address.ip))
        assert runtime.sandbox.pings(GATEWAYS[subnet])
        assert runtime.host.pings(str(mine.address.ip))
        assert runtime.sandbox.pings(OUTSIDE[subnet])
    runtime.check(conf, first)
    runtime.delete(conf)
    runtime.delete(conf, container_id="c2", netns=other.path)
    assert runtime.host.rules("masq_checks") == []
    assert runtime.leases() == []


def test_the_outside_reaches_the_sandbox_by_way_of_the_host(runtime: Runtime, outside: Namespace):
    runtime.add(conf_of(runtime, V4, V6))
    outside.ip("-6 route add fd00:1::/64 via 2001:db8:113::1")
    outside.ip("route add 10.1.2.0/24 via 203.0.113.1")

    assert outside.pings("fd00:1::2")
    assert outside.pings("10.1.2.2")


@pytest.mark.parametrize(("subnet", "on", "off"), [(V4, "ipv4", "ipv6"), (V6, "ipv6", "ipv4")])
def test_only_the_families_in_use_are_forwarded(subnet: str, on: str, off: str, runtime: Runtime):
    keys = {"ipv4": "net/ipv4/ip_forward", "ipv6": "net/ipv6/conf/all/forwarding"}

    runtime.add(conf_of(runtime, subnet))

    assert (runtime.host.sysctl(keys[on]), runtime.host.sysctl(keys[off])) == ("1", "0")


def test_a_sandbox_without_ipv6_gets_it_where_it_gets_such_an_address(runtime: Runtime):
    runtime.sandbox.run(
        "sh", "-c", "for d in all default lo; do echo 1 > /proc/sys/net/ipv6/conf/$d/disable_ipv6; done"
    )

    runtime.add(conf_of(runtime, V4, V6))

    assert runtime.sandbox.addresses("eth0") == ["10.1.2.2/24", "fd00:1::2/64"]
    assert runtime.sandbox.pings(GATEWAYS[V6])


def test_addresses_survive_their_interface_going_down(runtime: Runtime):
    """As when a virtual machine's launcher renames it."""
    runtime.add(conf_of(runtime, V4, V6))

    runtime.sandbox.run("sh", "-c", "ip link set eth0 down; ip link set eth0 up")

    assert runtime.sandbox.addresses("eth0") == ["10.1.2.2/24", "fd00:1::2/64"]
