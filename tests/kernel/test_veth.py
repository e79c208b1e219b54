"""`veth` on a real kernel: what ADD makes, and packets that pass through it."""

from collections.abc import Callable
from typing import Any

import pytest
from machine import FakeIpam, Namespace, Runtime

from cni.spec import convert, versions

V4, V6 = "10.6.0.0/24", "fd06::/64"


@pytest.mark.parametrize("kind", ["veth", "ptp"])
def test_the_result_describes_the_hosts_end_then_the_sandboxs_interface(kind: str, veth: Runtime):
    veth.kind = kind

    result = veth.add(veth.conf(mtu=5000, ipMasq=True, ipam=veth.ipam("10.1.2.0/24")))

    assert [interface.name for interface in result.interfaces] == [veth.port(), "eth0"]
    links = [veth.host.link(veth.port()), veth.sandbox.link("eth0")]
    assert [interface.mac for interface in result.interfaces] == [link["address"] for link in links]
    assert [interface.mtu for interface in result.interfaces] == [link["mtu"] for link in links] == [5000, 5000]
    assert [interface.sandbox for interface in result.interfaces] == ["", veth.sandbox.path]
    assert [(str(ip.address), ip.interface) for ip in result.ips] == [("10.1.2.2/24", 1)]
    assert links[0]["txqlen"] == 1000


@pytest.mark.parametrize("version", versions.SUPPORTED)
def test_every_version_of_the_specification_is_served(version: str, veth: Runtime):
    conf = veth.conf(cniVersion=version, ipam=veth.ipam(V4))

    assert convert.encode(veth.add(conf), version)["cniVersion"] == version
    veth.delete(conf)
    assert veth.leases() == []
    assert veth.host.links() == ["lo"]


def test_the_sandbox_sends_everything_by_way_of_the_gateway(veth: Runtime):
    veth.add(veth.conf(ipam=veth.ipam(V4, V6, routes=[{"dst": "0.0.0.0/0"}])))

    found = {route["dst"]: route for route in veth.sandbox.routes()}
    assert found["10.6.0.1"] == found["10.6.0.1"] | {"dev": "eth0", "scope": "link", "prefsrc": "10.6.0.2"}
    assert found["10.6.0.0/24"] == found["10.6.0.0/24"] | {"gateway": "10.6.0.1", "prefsrc": "10.6.0.2"}
    assert found["default"]["gateway"] == "10.6.0.1"
    assert found["fd06::1"]["dev"] == "eth0"
    assert found["fd06::/64"]["gateway"] == "fd06::1"
    assert set(found) == {"10.6.0.1", "10.6.0.0/24", "default", "fd06::1", "fd06::/64"}


def test_the_hosts_end_is_the_gateway_and_the_way_to_the_sandbox(veth: Runtime):
    veth.add(veth.conf(ipam=veth.ipam(V4, V6)))

    port = veth.port()
    assert veth.host.addresses(port) == ["10.6.0.1/32", "fd06::1/128"]
    found = {route["dst"]: route for route in veth.host.routes() if route["dev"] == port}
    assert found["10.6.0.2"]["scope"] == "host"
    assert "fd06::2" in found
    assert veth.host.sysctl("net/ipv4/ip_forward") == "1"
    assert veth.host.sysctl("net/ipv6/conf/all/forwarding") == "1"


@pytest.mark.parametrize(("subnet", "gateway"), [(V4, "10.6.0.1"), (V6, "fd06::1")])
def test_sandbox_and_host_reach_each_other(subnet: str, gateway: str, veth: Runtime):
    result = veth.add(veth.conf(ipam=veth.ipam(subnet)))

    assert veth.sandbox.pings(gateway)
    assert veth.host.pings(str(result.ips[0].address.ip))


def test_sandboxes_reach_each_other_through_the_host(veth: Runtime, namespace: Callable[[str], Namespace]):
    other = namespace("other")
    conf = veth.conf(ipam=veth.ipam(V4))
    veth.add(conf)
    veth.add(conf, container_id="c2", netns=other.path)

    assert veth.sandbox.pings("10.6.0.3")
    assert other.pings("10.6.0.2")


@pytest.mark.parametrize(("subnet", "address"), [(V4, "203.0.113.2"), (V6, "2001:db8:113::2")])
def test_masquerading_lets_the_sandbox_talk_to_who_knows_no_way_back(
    subnet: str, address: str, veth: Runtime, outside: Namespace
):
    routes = [{"dst": "0.0.0.0/0" if subnet == V4 else "::/0"}]
    conf = veth.conf(ipam=veth.ipam(subnet, routes=routes))
    veth.add(conf)
    assert veth.sandbox.hears_nothing_from(address)
    veth.delete(conf)

    veth.add(conf | {"ipMasq": True})

    assert veth.sandbox.pings(address)


DNS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"nameservers": ["192.0.2.3"]}),
    ({"dns": {"nameservers": ["192.0.2.9"], "search": ["a"]}}, {"nameservers": ["192.0.2.9"], "search": ["a"]}),
    ({"dns": {"nameservers": [], "search": [], "options": []}}, {}),
]


@pytest.mark.parametrize(("keys", "expected"), DNS)
def test_name_servers_are_ipams_unless_the_configuration_says_anything(
    keys: dict[str, Any], expected: dict[str, Any], veth: Runtime
):
    resolv = veth.data_dir.parent / "resolv.conf"
    resolv.write_text("nameserver 192.0.2.3\n")

    result = veth.add(veth.conf(ipam=veth.ipam(V4, resolvConf=str(resolv)), **keys))

    assert convert.encode(result, "1.1.0").get("dns", {}) == expected


def test_the_mac_can_be_chosen_as_for_a_bridge(veth: Runtime):
    veth.add(veth.conf(runtimeConfig={"mac": "02:00:00:00:00:05"}, ipam=veth.ipam(V4)), args="OTHER=1;IgnoreUnknown=1")

    assert veth.sandbox.link("eth0")["address"] == "02:00:00:00:00:05"


def test_without_ipam_there_is_no_veth(veth: Runtime):
    error = veth.fails("ADD", veth.conf())

    assert error.msg == "no plugin name provided"
    assert veth.host.links() == ["lo"]
    veth.delete(veth.conf())


def test_ipam_without_gateway_is_an_error_that_says_so_and_nothing_is_left(veth: Runtime, fake_ipam: FakeIpam):
    error = veth.fails("ADD", veth.conf(ipam=fake_ipam.answers(ips=[{"address": "10.6.0.9/24"}])))

    assert error.id == "PLX-GATEWAY"
    assert "10.6.0.9/24" in error.msg
    assert fake_ipam.calls() == ["ADD", "DEL"]
    assert veth.host.links() == ["lo"]


def test_two_addresses_of_one_subnet_share_the_gateway(veth: Runtime, fake_ipam: FakeIpam):
    ips = [{"address": f"10.6.0.{number}/24", "gateway": "10.6.0.1"} for number in (8, 9)]

    veth.add(veth.conf(ipam=fake_ipam.answers(ips=ips)))

    assert veth.host.addresses(veth.port()) == ["10.6.0.1/32"]
    assert veth.host.pings("10.6.0.8")
    assert veth.host.pings("10.6.0.9")


def test_a_sandbox_that_is_none_is_refused_and_nothing_is_leased(veth: Runtime):
    error = veth.fails("ADD", veth.conf(ipam=veth.ipam(V4)), netns="/etc/passwd")

    assert error.id == "PLX-NETNS"
    assert veth.leases() == []


def test_a_name_that_is_taken_in_the_sandbox_is_an_error_that_names_it(veth: Runtime):
    veth.sandbox.ip("link add eth0 type bridge")
    before = veth.state()

    error = veth.fails("ADD", veth.conf(ipam=veth.ipam(V4)))

    assert error.id == "PLX-IFNAME-TAKEN"
    assert veth.state() == before


def test_what_earlier_plugins_of_the_chain_made_comes_first_in_the_result(veth: Runtime):
    earlier = {"cniVersion": "1.1.0", "interfaces": [{"name": "lo", "sandbox": veth.sandbox.path}]}

    result = veth.add(veth.conf(ipam=veth.ipam(V4), prevResult=earlier))

    assert [interface.name for interface in result.interfaces] == ["lo", veth.port(), "eth0"]
    assert [ip.interface for ip in result.ips] == [2]


def test_status_tells_what_ipam_says(veth: Runtime, fake_ipam: FakeIpam):
    veth.call("STATUS", veth.conf(ipam=fake_ipam.answers()), container_id="", netns="", ifname="")

    assert fake_ipam.calls() == ["STATUS"]
