"""Packets really pass, and really do not, through what `bridge` made."""

from collections.abc import Callable

import pytest
from machine import Namespace, Runtime

V4, V6 = "10.1.2.0/24", "fd00:1::/64"
OUTSIDE = {V4: "203.0.113.2", V6: "2001:db8:113::2"}


@pytest.fixture
def other(namespace: Callable[[str], Namespace]) -> Namespace:
    """A second sandbox."""
    return namespace("other")


@pytest.mark.parametrize(
    ("subnet", "first", "second", "gateway"),
    [
        (V4, "10.1.2.2", "10.1.2.3", "10.1.2.1"),
        (V6, "fd00:1::2", "fd00:1::3", "fd00:1::1"),
    ],
)
def test_sandboxes_on_one_bridge_reach_each_other_and_the_host(
    subnet: str, first: str, second: str, gateway: str, bridge: Runtime, other: Namespace
):
    conf = bridge.conf(isGateway=True, ipam=bridge.ipam(subnet))
    bridge.add(conf)
    bridge.add(conf, container_id="c2", netns=other.path)

    assert bridge.sandbox.pings(second)
    assert other.pings(first)
    assert bridge.sandbox.pings(gateway)
    assert bridge.host.pings(second)


@pytest.mark.parametrize("subnet", [V4, V6])
def test_masquerading_lets_the_sandbox_talk_to_who_knows_no_way_back(subnet: str, bridge: Runtime, outside: Namespace):
    conf = bridge.conf(isDefaultGateway=True, ipam=bridge.ipam(subnet))
    bridge.add(conf)
    assert bridge.sandbox.hears_nothing_from(OUTSIDE[subnet])
    bridge.delete(conf)

    bridge.add(conf | {"ipMasq": True})

    assert bridge.sandbox.pings(OUTSIDE[subnet])


def test_masquerading_ends_with_the_attachment_and_only_with_it(bridge: Runtime, other: Namespace, outside: Namespace):
    conf = bridge.conf(isDefaultGateway=True, ipMasq=True, ipam=bridge.ipam(V4))
    bridge.add(conf)
    bridge.add(conf, container_id="c2", netns=other.path)

    bridge.delete(conf, netns="")

    assert other.pings(OUTSIDE[V4])
    assert len(bridge.host.rules("masq_checks")) == 1


def test_a_layer_2_network_reaches_through_the_bridges_uplink(bridge: Runtime, namespace: Callable[[str], Namespace]):
    neighbour = namespace("neighbour")
    bridge.host.run("sh", "-c", "ip link add multus-bridge type bridge; ip link set multus-bridge up")
    bridge.host.ip(f"link add uplink master multus-bridge type veth peer name wire netns {neighbour.name}")
    bridge.host.ip("link set uplink up")
    neighbour.run("sh", "-c", "ip addr add 192.168.100.1/24 dev wire; ip link set wire up")

    bridge.add(bridge.conf(bridge="multus-bridge", ipam=bridge.ipam("192.168.100.0/24")))

    assert bridge.sandbox.pings("192.168.100.1")
    assert neighbour.pings("192.168.100.2")
    assert bridge.host.addresses("multus-bridge") == []


def test_isolated_ports_reach_the_host_but_not_each_other(bridge: Runtime, other: Namespace):
    conf = bridge.conf(isGateway=True, portIsolation=True, ipam=bridge.ipam(V4))
    bridge.add(conf)
    bridge.add(conf, container_id="c2", netns=other.path)

    assert bridge.sandbox.pings("10.1.2.1")
    assert bridge.sandbox.hears_nothing_from("10.1.2.3")


@pytest.mark.parametrize("args", ["", "IgnoreUnknown=1;MAC=02:00:00:00:00:01"])
def test_what_is_sent_from_another_mac_is_dropped_where_that_is_wanted(args: str, bridge: Runtime):
    conf = bridge.conf(isGateway=True, macspoofchk=True, ipam=bridge.ipam(V4))
    bridge.add(conf, args=args)
    assert bridge.sandbox.pings("10.1.2.1")
    own = bridge.sandbox.link("eth0")["address"]

    bridge.sandbox.ip("link set eth0 address 02:00:00:00:00:66")
    assert bridge.sandbox.hears_nothing_from("10.1.2.1")

    bridge.sandbox.ip(f"link set eth0 address {own}")
    assert bridge.sandbox.pings("10.1.2.1")


def test_the_route_of_ipam_carries_its_mtu(bridge: Runtime, outside: Namespace):
    route = {"dst": "203.0.113.0/24", "mtu": 1300}
    bridge.add(bridge.conf(isGateway=True, ipMasq=True, ipam=bridge.ipam(V4, routes=[route])))

    whole = ["ping", "-n", "-c1", "-W1", "-M", "do", "-s"]
    assert "1 received" in bridge.sandbox.run(*whole, str(1300 - 28), OUTSIDE[V4])
    assert "1 received" not in bridge.sandbox.run(*whole, str(1301 - 28), OUTSIDE[V4], ok=False)


def test_the_masquerading_rules_are_those_of_the_reference(bridge: Runtime):
    bridge.add(bridge.conf(isGateway=True, ipMasq=True, ipam=bridge.ipam(V4, V6)))

    told = bridge.host.run("nft", "list", "table", "inet", "cni_plugins_masquerade")

    comment = 'comment "a4861f4ae9f7d238-'
    lines = [line.strip() for line in told.splitlines()]
    assert "chain masq_checks {" in lines
    hook = "type nat hook postrouting priority srcnat; policy accept;"
    jumps = ["ip daddr 224.0.0.0/4 return", "ip6 daddr ff00::/8 return", "goto masq_checks"]
    assert lines[lines.index(hook) : lines.index(hook) + 4] == [hook, *jumps]
    start = f"ip saddr 10.1.2.2 ip daddr != 10.1.2.0/24 masquerade {comment}"
    assert any(line.startswith(start) and line.endswith(', net: net, if: eth0, id: c1"') for line in lines), told
    assert any(line.startswith("ip6 saddr fd00:1::2 ip6 daddr != fd00:1::/64 masquerade ") for line in lines)
