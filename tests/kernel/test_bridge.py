"""`bridge` on a real kernel: what ADD makes, as the kernel tells of it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from machine import FakeIpam, Namespace, Runtime

from cni.spec import convert, versions

V4, V6 = "10.1.2.0/24", "fd00:1::/64"


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


def test_many_sandboxes_at_once_get_one_bridge_and_an_address_each(
    bridge: Runtime, namespace: Callable[[str], Namespace]
):
    conf = bridge.conf(isDefaultGateway=True, ipMasq=True, ipam=bridge.ipam(V4))
    sandboxes = [namespace("pod") for _ in range(8)]

    with ThreadPoolExecutor(len(sandboxes)) as threads:
        calls = [threads.submit(bridge.add, conf, netns=there.path, container_id=there.name) for there in sandboxes]
        results = [call.result() for call in calls]

    assert len({result.ips[0].address for result in results}) == len(sandboxes)
    assert bridge.host.addresses("cni0") == ["10.1.2.1/24"]
    assert len(bridge.host.rules("masq_checks")) == len(sandboxes)
    with ThreadPoolExecutor(len(sandboxes)) as threads:
        calls = [threads.submit(bridge.delete, conf, netns=there.path, container_id=there.name) for there in sandboxes]
        assert [call.result() for call in calls] == [None] * len(sandboxes)
    assert bridge.host.links() == ["cni0", "lo"]
    assert bridge.host.rules("masq_checks") == []
    assert bridge.leases() == []
