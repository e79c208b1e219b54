"""Addresses, routes, gateways and name servers that `bridge` gives, as the kernel tells of them."""

from collections.abc import Callable
from typing import Any

import pytest
from machine import Namespace, Runtime

from cni.spec import convert

V4, V6 = "10.1.2.0/24", "fd00:1::/64"
SUBNETS = [
    ((V4,), ["10.1.2.1/24"], ["10.1.2.2/24"], {"default": "10.1.2.1"}),
    (("2001:db8::/64",), ["2001:db8::1/64"], ["2001:db8::2/64"], {"default": "2001:db8::1"}),
    (
        ("192.168.0.0/24", "fd00::/64"),
        ["192.168.0.1/24", "fd00::1/64"],
        ["192.168.0.2/24", "fd00::2/64"],
        {"default": "192.168.0.1", "default6": "fd00::1"},
    ),
]


@pytest.mark.parametrize(("subnets", "gateways", "inside", "defaults"), SUBNETS)
def test_the_bridge_has_the_gateways_and_the_sandbox_the_addresses(
    subnets: tuple[str, ...], gateways: list[str], inside: list[str], defaults: dict[str, str], bridge: Runtime
):
    result = bridge.add(bridge.conf(isDefaultGateway=True, ipam=bridge.ipam(*subnets)))

    assert bridge.host.addresses("cni0") == gateways
    assert bridge.sandbox.addresses("eth0") == inside
    found = [route["gateway"] for route in bridge.sandbox.routes() if route["dst"] == "default"]
    assert found == list(defaults.values())
    assert [str(ip.address) for ip in result.ips] == inside
    assert {ip.interface for ip in result.ips} == {2}
    families = {"10.": "net/ipv4/ip_forward", "192": "net/ipv4/ip_forward"}
    for gateway in gateways:
        assert bridge.host.sysctl(families.get(gateway[:3], "net/ipv6/conf/all/forwarding")) == "1"


def test_duplicate_address_detection_is_waited_for_where_it_is_wanted(bridge: Runtime):
    bridge.add(bridge.conf(isGateway=True, enabledad=True, ipam=bridge.ipam(V6)))

    assert bridge.sandbox.sysctl("net/ipv6/conf/eth0/accept_dad") == "1"
    flags = [entry for entry in bridge.sandbox.ip_json("addr show dev eth0")[0]["addr_info"] if entry.get("tentative")]
    assert flags == []


def test_an_address_that_somebody_has_already_is_refused(bridge: Runtime, namespace: Callable[[str], Namespace]):
    conf = bridge.conf(isGateway=True, enabledad=True, ipam=bridge.ipam(V6))
    rival = namespace("rival")
    bridge.add(bridge.conf(), netns=rival.path, container_id="rival")
    rival.ip("addr add fd00:1::2/64 dev eth0 nodad")

    error = bridge.fails("ADD", conf)

    assert error.id == "PLX-ADDRESS-DUPLICATE"
    assert "fd00:1::2" in error.msg
    assert bridge.leases() == []


def test_ipv4_addresses_have_a_broadcast_address(bridge: Runtime):
    bridge.add(bridge.conf(isGateway=True, ipam=bridge.ipam(V4)))

    for where, name in ((bridge.host, "cni0"), (bridge.sandbox, "eth0")):
        entries = where.ip_json(f"-4 addr show dev {name}")[0]["addr_info"]
        assert [entry["broadcast"] for entry in entries] == ["10.1.2.255"]


ROUTES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"dst": "10.9.0.0/16"}, {"dst": "10.9.0.0/16", "gateway": "10.1.2.1"}),
    ({"dst": "10.9.1.1/16"}, {"dst": "10.9.0.0/16", "gateway": "10.1.2.1"}),
    ({"dst": "10.9.0.0/16", "gw": "10.1.2.99"}, {"gateway": "10.1.2.99"}),
    ({"dst": "10.9.0.0/16", "mtu": 1300, "advmss": 1200}, {"metrics": [{"mtu": 1300, "advmss": 1200}]}),
    ({"dst": "10.9.0.0/16", "priority": 77}, {"metric": 77}),
    ({"dst": "10.9.0.0/16", "scope": 253}, {"scope": "link"}),
]


@pytest.mark.parametrize(("wanted", "expected"), ROUTES)
def test_routes_are_made_as_ipam_says(wanted: dict[str, Any], expected: dict[str, Any], bridge: Runtime):
    bridge.add(bridge.conf(isGateway=True, ipam=bridge.ipam(V4, routes=[wanted])))

    [found] = [route for route in bridge.sandbox.routes() if route["dst"] == "10.9.0.0/16"]
    assert {key: found[key] for key in expected} == expected
    assert ("gateway" in found) == (wanted.get("scope") != 253)


def test_a_route_goes_into_the_table_that_it_names(bridge: Runtime):
    route = {"dst": "0.0.0.0/0", "gw": "10.1.2.1", "table": 1234}

    bridge.add(bridge.conf(isGateway=True, ipam=bridge.ipam(V4, routes=[route])))

    assert [found["dst"] for found in bridge.sandbox.routes(table="1234")] == ["default"]


def test_a_default_route_without_gateway_from_ipam_is_not_repeated(bridge: Runtime):
    conf = bridge.conf(isDefaultGateway=True, ipam=bridge.ipam(V4, V6, routes=[{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]))

    result = bridge.add(conf)

    gateways = [route["gateway"] for route in bridge.sandbox.routes() if route["dst"] == "default"]
    assert gateways == ["10.1.2.1", "fd00:1::1"]
    assert [str(route.gw) for route in result.routes] == gateways


def test_a_route_that_comes_twice_is_made_once(bridge: Runtime):
    bridge.add(bridge.conf(isGateway=True, ipam=bridge.ipam(V4, routes=[{"dst": "10.9.0.0/16"}] * 2)))

    assert len([route for route in bridge.sandbox.routes() if route["dst"] == "10.9.0.0/16"]) == 1


def test_the_bridge_keeps_its_mac_once_it_has_an_address(bridge: Runtime):
    bridge.host.ip("link add cni0 address 02:00:00:00:00:99 type bridge")
    conf = bridge.conf(isGateway=True, ipam=bridge.ipam(V4))

    bridge.add(conf, args="IgnoreUnknown=1;MAC=02:00:00:00:00:01")
    assert bridge.host.link("cni0")["address"] == "02:00:00:00:00:99"
    bridge.delete(conf)

    assert bridge.host.link("cni0")["address"] == "02:00:00:00:00:99"


def test_a_bridge_that_lost_its_last_port_gets_a_mac_to_keep(bridge: Runtime):
    bridge.add(bridge.conf())
    bridge.delete(bridge.conf())
    assert bridge.host.link("cni0")["address"] == "00:00:00:00:00:00"
    conf = bridge.conf(isGateway=True, ipam=bridge.ipam(V4))

    bridge.add(conf)
    mac = bridge.host.link("cni0")["address"]
    bridge.delete(conf)

    assert bridge.host.link("cni0")["address"] == mac != "00:00:00:00:00:00"


DNS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"nameservers": ["192.0.2.3"]}),
    ({"dns": {}}, {"nameservers": ["192.0.2.3"]}),
    ({"dns": {"domain": "example.com"}}, {"domain": "example.com"}),
    ({"dns": {"nameservers": []}}, {}),
]


@pytest.mark.parametrize(("keys", "expected"), DNS)
def test_name_servers_are_ipams_unless_the_configuration_says_anything(
    keys: dict[str, Any], expected: dict[str, Any], bridge: Runtime
):
    resolv = bridge.data_dir.parent / "resolv.conf"
    resolv.write_text("nameserver 192.0.2.3\n")

    result = bridge.add(bridge.conf(ipam=bridge.ipam(V4, resolvConf=str(resolv)), **keys))

    assert convert.encode(result, "1.1.0").get("dns", {}) == expected


def test_another_address_on_the_bridge_is_refused(bridge: Runtime):
    bridge.host.run("sh", "-c", "ip link add cni0 type bridge; ip addr add 10.0.0.1/8 dev cni0")

    error = bridge.fails("ADD", bridge.conf(isGateway=True, ipam=bridge.ipam("10.1.0.0/16")))

    assert error.msg == 'failed to set bridge addr: "cni0" already has an IP address different from 10.1.0.1/16'
    assert error.id == "PLX-BRIDGE-ADDRESS"
    assert bridge.host.addresses("cni0") == ["10.0.0.1/8"]
    assert bridge.leases() == []


def test_another_address_on_the_bridge_is_replaced_by_force(bridge: Runtime):
    bridge.host.run("sh", "-c", "ip link add cni0 type bridge; ip addr add 10.0.0.1/8 dev cni0")

    bridge.add(bridge.conf(isGateway=True, forceAddress=True, ipam=bridge.ipam("10.1.0.0/16")))

    assert bridge.host.addresses("cni0") == ["10.1.0.1/16"]


def test_ipv6_subnets_that_do_not_overlap_share_the_bridge(bridge: Runtime):
    bridge.add(bridge.conf(isGateway=True, ipam=bridge.ipam(V6)))
    other = bridge.conf(name="other", isGateway=True, ipam=bridge.ipam("fd00:2::/64"))
    bridge.add(other, ifname="eth1")

    assert bridge.host.addresses("cni0") == ["fd00:1::1/64", "fd00:2::1/64"] or bridge.host.addresses("cni0") == [
        "fd00:2::1/64",
        "fd00:1::1/64",
    ]
    overlapping = bridge.conf(name="third", isGateway=True, ipam=bridge.ipam("fd00:1::/48"))
    assert bridge.fails("ADD", overlapping, ifname="eth2").id == "PLX-BRIDGE-ADDRESS"
