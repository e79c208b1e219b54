"""`bridge` on a real kernel: what ADD makes, as the kernel tells of it."""

from collections.abc import Callable
from typing import Any

import pytest
from machine import FakeIpam, Namespace, Runtime

from cni.spec import convert, versions

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


def test_the_result_describes_bridge_host_end_and_sandbox_interface_in_that_order(bridge: Runtime):
    result = bridge.add(bridge.conf(mtu=1400, ipam=bridge.ipam(V4)))

    names = [interface.name for interface in result.interfaces]
    assert names == ["cni0", bridge.port(), "eth0"]
    links = [bridge.host.link("cni0"), bridge.host.link(bridge.port()), bridge.sandbox.link("eth0")]
    assert [interface.mac for interface in result.interfaces] == [link["address"] for link in links]
    assert [interface.mtu for interface in result.interfaces] == [1400, 1400, 1400]
    assert [link["mtu"] for link in links] == [1400, 1400, 1400]
    assert [interface.sandbox for interface in result.interfaces] == ["", "", bridge.sandbox.path]


def test_the_hosts_end_can_be_recognised_and_has_a_queue(bridge: Runtime):
    bridge.add(bridge.conf(bridge="br7"))

    port = bridge.host.link(bridge.port())
    assert port["ifname"].startswith("veth")
    assert len(port["ifname"]) == 12
    assert port["ifalias"] == "plexus:net:c1:eth0"
    assert port["txqlen"] == 1000
    assert port["master"] == "br7"


@pytest.mark.parametrize("version", versions.SUPPORTED)
def test_every_version_of_the_specification_is_served(version: str, bridge: Runtime):
    conf = bridge.conf(cniVersion=version, isGateway=True, ipam=bridge.ipam(V4))

    result = bridge.add(conf)

    assert convert.encode(result, version)["cniVersion"] == version
    bridge.delete(conf)
    assert bridge.leases() == []


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0"])
def test_an_interface_without_address_is_refused_where_the_result_could_not_tell_of_it(version: str, bridge: Runtime):
    error = bridge.fails("ADD", bridge.conf(cniVersion=version))

    assert error.msg == "cannot convert: no valid IP addresses"
    assert bridge.host.links() == ["lo"]


def test_without_ipam_the_interface_is_up_and_has_no_address(bridge: Runtime):
    result = bridge.add(bridge.conf(cniVersion="0.3.0"))

    assert len(result.interfaces) == 3
    assert result.ips == ()
    assert "UP" in bridge.sandbox.link("eth0")["flags"]
    assert bridge.sandbox.addresses("eth0") == []


def test_the_sandboxs_interface_can_be_left_down(bridge: Runtime):
    bridge.add(bridge.conf(disableContainerInterface=True))

    assert "UP" not in bridge.sandbox.link("eth0")["flags"]


def test_a_bridge_that_exists_is_used(bridge: Runtime):
    bridge.host.ip("link add cni0 type bridge")
    index = bridge.host.link("cni0")["ifindex"]

    bridge.add(bridge.conf())

    assert bridge.host.link("cni0")["ifindex"] == index
    assert "UP" in bridge.host.link("cni0")["flags"]


def test_a_link_of_another_kind_is_not_used_as_a_bridge(bridge: Runtime):
    bridge.host.ip("link add cni0 type veth peer name other")

    error = bridge.fails("ADD", bridge.conf())

    assert error.msg == 'failed to create bridge "cni0": "cni0" already exists but is not a bridge'
    assert error.id == "PLX-BRIDGE-TYPE"


FLAGS: list[tuple[dict[str, Any], str, object]] = [
    ({}, "hairpin", False),
    ({"hairpinMode": True}, "hairpin", True),
    ({}, "isolated", False),
    ({"portIsolation": True}, "isolated", True),
]


@pytest.mark.parametrize(("keys", "flag", "expected"), FLAGS)
def test_the_port_is_as_configured(keys: dict[str, Any], flag: str, expected: object, bridge: Runtime):
    bridge.add(bridge.conf(**keys))

    data = bridge.host.link(bridge.port())["linkinfo"]["info_slave_data"]
    assert data[flag] is expected


def test_promiscuous_mode_is_set_on_a_bridge_that_exists_too(bridge: Runtime):
    bridge.host.ip("link add cni0 type bridge")

    bridge.add(bridge.conf(promiscMode=True))

    assert "PROMISC" in bridge.host.link("cni0")["flags"]


def test_sysctls_are_those_of_the_reference(bridge: Runtime):
    bridge.add(bridge.conf(isGateway=True, ipam=bridge.ipam(V4, V6)))

    assert bridge.host.sysctl("net/ipv6/conf/cni0/accept_ra") == "0"
    assert bridge.host.sysctl(f"net/ipv6/conf/{bridge.port()}/accept_ra") == "0"
    inside = {
        "net/ipv4/conf/eth0/arp_notify": "1",
        "net/ipv6/conf/eth0/accept_dad": "0",
        "net/ipv6/conf/eth0/keep_addr_on_down": "1",
    }
    assert {key: bridge.sandbox.sysctl(key) for key in inside} == inside


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


def test_the_mac_of_the_runtime_counts_more_than_that_of_args_and_this_more_than_that_of_cni_args(bridge: Runtime):
    by_args = {"args": {"cni": {"mac": "02:00:00:00:07:89"}}}
    by_runtime = {"runtimeConfig": {"mac": "02-00-00-00-0A-BC"}}
    env = "IgnoreUnknown=1;MAC=02:00:00:00:04:56"
    expected = [({}, "04:56"), (by_args, "07:89"), (by_args | by_runtime, "0a:bc")]

    for number, (keys, ending) in enumerate(expected):
        result = bridge.add(bridge.conf(**keys), args=env, ifname=f"eth{number}")
        assert bridge.sandbox.link(f"eth{number}")["address"] == f"02:00:00:00:{ending}"
        assert result.interfaces[2].mac == f"02:00:00:00:{ending}"


@pytest.mark.parametrize("mac", ["zz", "02:00:00:00:00", "01:00:00:00:00:01", "00:00:00:00:00:00", "02:00:00:00:00:0g"])
def test_a_mac_that_cannot_be_is_refused_before_anything_is_made(mac: str, bridge: Runtime):
    error = bridge.fails("ADD", bridge.conf(runtimeConfig={"mac": mac}))

    assert error.id == "PLX-MAC"
    assert mac in error.msg
    assert bridge.host.links() == ["lo"]


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


def test_what_earlier_plugins_of_the_chain_made_comes_first_in_the_result(bridge: Runtime):
    earlier = {
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "lo", "sandbox": bridge.sandbox.path}],
        "ips": [{"address": "127.0.0.1/8", "interface": 0}],
        "routes": [{"dst": "192.0.2.0/24"}],
        "dns": {"nameservers": ["192.0.2.53"]},
    }
    conf = bridge.conf(isDefaultGateway=True, ipam=bridge.ipam(V4), prevResult=earlier)

    result = bridge.add(conf)

    assert [interface.name for interface in result.interfaces] == ["lo", "cni0", bridge.port(), "eth0"]
    assert [(str(ip.address), ip.interface) for ip in result.ips] == [("127.0.0.1/8", 0), ("10.1.2.2/24", 3)]
    assert [str(route.dst) for route in result.routes] == ["192.0.2.0/24", "0.0.0.0/0"]
    assert result.dns.nameservers == ("192.0.2.53",)


def test_a_name_that_is_taken_in_the_sandbox_is_an_error_that_names_it(bridge: Runtime):
    bridge.sandbox.ip("link add eth0 type bridge")
    before = bridge.state(without="cni0")

    error = bridge.fails("ADD", bridge.conf(ipam=bridge.ipam(V4)))

    assert error.id == "PLX-IFNAME-TAKEN"
    assert '"eth0"' in error.msg
    assert "already exists" in error.msg
    assert bridge.state(without="cni0") == before


def test_a_second_add_of_one_attachment_is_refused_and_leaves_the_first(bridge: Runtime):
    conf = bridge.conf(ipam=bridge.ipam(V4))
    bridge.add(conf)
    before = bridge.state()

    error = bridge.fails("ADD", conf)

    assert error.id == "PLX-IFNAME-TAKEN"
    assert "attached already" in error.details
    assert bridge.state() == before


def test_another_name_is_taken_for_the_hosts_end_where_the_first_is_a_strangers(bridge: Runtime):
    conf = bridge.conf()
    first = bridge.add(conf).interfaces[1].name
    bridge.delete(conf)
    bridge.host.ip(f"link add {first} type bridge")

    second = bridge.add(conf).interfaces[1].name

    assert second != first
    assert bridge.host.link(second)["ifalias"] == "plexus:net:c1:eth0"
    bridge.delete(conf)
    assert bridge.host.links() == sorted(["lo", "cni0", first])


@pytest.mark.parametrize("netns", ["/nonexistent/netns", "/etc/passwd"])
def test_a_sandbox_that_is_none_is_refused_before_the_bridge_is_made(netns: str, bridge: Runtime):
    error = bridge.fails("ADD", bridge.conf(ipam=bridge.ipam(V4)), netns=netns)

    assert error.id == "PLX-NETNS"
    assert netns in error.msg
    assert bridge.host.links() == ["lo"]
    assert bridge.leases() == []


def test_ipam_that_gives_no_address_is_told_to_release_and_named(bridge: Runtime, fake_ipam: FakeIpam):
    conf = bridge.conf(ipam=fake_ipam.answers())

    error = bridge.fails("ADD", conf)

    assert error.msg == "IPAM plugin returned missing IP config"
    assert fake_ipam.kind in error.details
    assert fake_ipam.calls() == ["ADD", "DEL"]
    assert bridge.host.links() == ["cni0", "lo"]


def test_ipam_that_fails_is_told_to_release_and_its_error_is_kept(bridge: Runtime):
    conf = bridge.conf(ipam=bridge.ipam("10.1.2.0/30"))
    bridge.add(conf)

    error = bridge.fails("ADD", conf, container_id="c2", ifname="eth1")

    assert "no IP addresses available in range set" in error.msg
    assert bridge.leases() == ["10.1.2.2"]
    assert len(bridge.host.links()) == 3


def test_a_kernel_without_vlan_filtering_is_told_of_before_anything_is_made(bridge: Runtime):
    if bridge.host.can_filter_vlans():
        pytest.skip("this kernel filters VLANs")

    error = bridge.fails("ADD", bridge.conf(vlan=100, ipam=bridge.ipam(V4)))

    assert error.id == "PLX-BRIDGE-VLAN"
    assert error.code == 2
    assert "`vlan` is 100" in error.msg
    assert bridge.host.links() == ["lo"]
    assert bridge.leases() == []


def test_a_bridge_that_mixes_vlans_is_not_used_for_one(bridge: Runtime):
    bridge.host.ip("link add cni0 type bridge")

    error = bridge.fails("ADD", bridge.conf(vlanTrunk=[{"id": 5}]))

    assert error.id == "PLX-BRIDGE-VLAN"
    assert "vlan_filtering 1" in error.details
    assert bridge.host.links() == ["cni0", "lo"]


def test_an_unknown_ipam_is_an_error_and_nothing_is_left(bridge: Runtime):
    error = bridge.fails("ADD", bridge.conf(ipam={"type": "no-such"}))

    assert 'failed to find plugin "no-such"' in error.msg
    assert bridge.host.links() == ["lo"]


def test_status_tells_what_ipam_says(bridge: Runtime, fake_ipam: FakeIpam):
    bridge.call("STATUS", bridge.conf(ipam=fake_ipam.answers()), container_id="", netns="", ifname="")

    assert fake_ipam.calls() == ["STATUS"]
