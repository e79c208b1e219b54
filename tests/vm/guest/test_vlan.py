"""`bridge` with `vlan` and `vlanTrunk`: what ADD makes of them, what CHECK sees, what DEL leaves."""

import contextlib
from itertools import count
from typing import Any

import pytest
from machine import Runtime, fail_at
from vlan_cases import CASES, NATIVE
from vlans import filters, memberships, peer, ports

from cni.linux import vlan
from cni.spec.errors import CNIError
from cni.spec.result import Result

V4, V6 = "10.1.2.0/24", "fd00:1::/64"
NO_MESSAGE = 1020
"""A type of rtnetlink's messages that no kernel knows."""


@pytest.mark.parametrize("name", CASES)
def test_the_port_is_in_the_vlans_that_the_network_names(name: str, clean_bridge: Runtime):
    (keys, expected), bridge = CASES[name], clean_bridge
    conf = bridge.conf(**keys)

    result = bridge.add(conf)

    assert memberships(bridge.host, result.interfaces[1].name) == expected
    assert filters(bridge.host)
    bridge.check(conf, result)
    bridge.delete(conf)
    assert bridge.host.links() == ["cni0", "lo"]
    assert bridge.sandbox.links() == ["lo"]


def test_a_network_without_vlans_leaves_the_bridge_as_it_is(bridge: Runtime, another):
    plain = bridge.conf(vlan=0)
    assert not filters(bridge.host, bridge.add(plain).interfaces[0].name)

    other = another("c2")
    port = other.add(other.conf(bridge="other", vlan=7)).interfaces[1].name
    third = another("c3")
    result = third.add(third.conf(bridge="other"))

    assert filters(bridge.host, "other")
    assert memberships(bridge.host, port) == {7: NATIVE}
    assert memberships(bridge.host, result.interfaces[1].name) == {1: NATIVE}


def test_a_bridge_that_does_not_filter_is_refused_and_left_as_it_was(bridge: Runtime):
    bridge.host.ip("link add cni0 type bridge")

    error = bridge.fails("ADD", bridge.conf(vlan=100))

    assert error.id == "PLX-BRIDGE-VLAN"
    assert "vlan_filtering 1" in error.details
    assert not filters(bridge.host)
    assert bridge.host.links() == ["cni0", "lo"]


@pytest.mark.parametrize("default_pvid", [0, 7])
def test_the_default_vlan_of_an_admins_bridge_makes_no_difference_to_an_access_port(default_pvid: int, bridge: Runtime):
    bridge.host.ip(f"link add cni0 type bridge vlan_filtering 1 vlan_default_pvid {default_pvid}")

    port = bridge.add(bridge.conf(vlan=100)).interfaces[1].name

    assert memberships(bridge.host, port) == {100: NATIVE}


def test_check_tells_of_every_vlan_that_is_not_as_it_was(bridge: Runtime):
    conf = bridge.conf(vlan=100, vlanTrunk=[{"minID": 101, "maxID": 102}])
    result = bridge.add(conf)
    bridge.check(conf, result)
    port = result.interfaces[1].name
    wanted = "expected 100 untagged, 101 tagged, 102 tagged"

    bridge.host.run("bridge", "vlan", "del", "dev", port, "vid", "102")
    assert f"{wanted}, found 100 untagged, 101 tagged" in failed_check(bridge, conf, result)
    bridge.host.run("bridge", "vlan", "add", "dev", port, "vid", "101", "pvid", "untagged")
    assert f"{wanted}, found 100 tagged, 101 untagged" in failed_check(bridge, conf, result)
    bridge.host.run("bridge", "vlan", "del", "dev", port, "vid", "100")
    assert f"{wanted}, found 101 untagged" in failed_check(bridge, conf, result)
    bridge.host.ip("link set cni0 type bridge vlan_filtering 0")
    assert 'VLAN filtering of bridge "cni0": expected on, found off' in failed_check(bridge, conf, result)


def test_check_tells_of_a_vlan_that_the_port_must_not_be_in(bridge: Runtime):
    conf = bridge.conf(vlan=100)
    result = bridge.add(conf)
    bridge.host.run("bridge", "vlan", "add", "dev", result.interfaces[1].name, "vid", "200")

    assert "expected 100 untagged, found 100 untagged, 200 tagged" in failed_check(bridge, conf, result)


def test_check_reads_the_vlans_of_a_kernel_that_cannot_tell_of_one_port(
    bridge: Runtime, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(vlan, "GET_VLANS", NO_MESSAGE)
    conf = bridge.conf(vlan=100, vlanTrunk=[{"minID": 101, "maxID": 110}])
    result = bridge.add(conf)
    bridge.check(conf, result)
    bridge.host.run("bridge", "vlan", "del", "dev", result.interfaces[1].name, "vid", "105")

    assert "104 tagged, 106 tagged" in failed_check(bridge, conf, result)


def test_check_tells_of_a_port_that_was_taken_off_the_bridge(bridge: Runtime):
    conf = bridge.conf(vlan=100)
    result = bridge.add(conf)
    port = result.interfaces[1].name
    bridge.host.ip(f"link set {port} nomaster")

    assert f'VLANs of port "{port}": expected 100 untagged, found none' in failed_check(bridge, conf, result)


def failed_check(bridge: Runtime, conf: dict[str, Any], result: Result) -> str:
    with pytest.raises(CNIError) as caught:
        bridge.check(conf, result)
    assert caught.value.id == "PLX-CHECK"
    return caught.value.details


def test_the_gateway_is_an_interface_of_the_host_in_the_vlan(bridge: Runtime, another):
    conf = bridge.conf(vlan=100, isDefaultGateway=True, ipam=bridge.ipam(V4, V6))

    result = bridge.add(conf)

    assert [interface.name for interface in result.interfaces] == [
        "cni0", result.interfaces[1].name, "eth0", "cni0.100",
    ]  # fmt: skip
    assert {ip.interface for ip in result.ips} == {2}
    assert bridge.host.addresses("cni0.100") == ["10.1.2.1/24", "fd00:1::1/64"]
    assert bridge.host.addresses("cni0") == []
    assert len(bridge.host.links()) == 5
    assert bridge.host.link("cni0.100")["address"] == result.interfaces[3].mac
    own_port = peer(bridge.host, "cni0.100")
    assert own_port in ports(bridge.host)
    assert memberships(bridge.host, own_port) == {100: NATIVE}
    defaults = {route["gateway"] for route in bridge.sandbox.routes() if route["dst"] == "default"}
    assert defaults == {"10.1.2.1", "fd00:1::1"}
    bridge.check(conf, result)

    second = another("c2")
    second.add(conf)
    assert len(bridge.host.links()) == 6
    for runtime in (bridge, second):
        runtime.delete(conf)
    assert bridge.host.links() == sorted(["cni0", "cni0.100", "lo", own_port])
    assert bridge.leases() == []


BROKEN_GATEWAYS = {
    "out of its VLAN": "bridge vlan del dev {port} vid 100",
    "off the bridge": "ip link set {port} nomaster",
    "port down": "ip link set {port} down",
    "down": "ip link set cni0.100 down",
}


@pytest.mark.parametrize("broken", BROKEN_GATEWAYS)
def test_a_broken_gateway_is_told_by_check_and_repaired_by_the_next_add(broken: str, bridge: Runtime, another):
    conf = bridge.conf(vlan=100, isDefaultGateway=True, ipam=bridge.ipam(V4))
    result = bridge.add(conf)
    own_port = peer(bridge.host, "cni0.100")
    bridge.host.run(*BROKEN_GATEWAYS[broken].format(port=own_port).split())

    details = failed_check(bridge, conf, result)
    assert "cni0.100" in details or own_port in details
    second = another("c2")
    second.add(conf)

    assert memberships(bridge.host, own_port) == {100: NATIVE}
    bridge.check(conf, result)
    assert bridge.sandbox.pings("10.1.2.1")


def test_another_link_of_the_gateways_name_is_refused(bridge: Runtime):
    bridge.host.ip("link add cni0.100 type bridge")

    error = bridge.fails("ADD", bridge.conf(vlan=100, isGateway=True, ipam=bridge.ipam(V4)))

    assert error.id == "PLX-VLAN-GATEWAY"
    assert bridge.sandbox.links() == ["lo"]
    assert bridge.leases() == []


def test_nobody_on_the_vlan_can_give_the_host_routes(bridge: Runtime):
    bridge.add(bridge.conf(vlan=100, isGateway=True, ipam=bridge.ipam(V4)))

    for name in ("cni0", "cni0.100", peer(bridge.host, "cni0.100")):
        assert bridge.host.sysctl(f"net/ipv6/conf/{name}/accept_ra") == "0"


def test_each_vlan_has_a_gateway_interface_of_its_own(bridge: Runtime, another):
    bridge.add(bridge.conf(vlan=100, isGateway=True, ipam=bridge.ipam(V4)))
    second = another("c2")
    second.add(second.conf(name="other", vlan=200, isGateway=True, ipam=second.ipam("10.2.0.0/24")))

    assert bridge.host.addresses("cni0.100") == ["10.1.2.1/24"]
    assert bridge.host.addresses("cni0.200") == ["10.2.0.1/24"]


def test_a_trunks_gateway_is_the_bridge(bridge: Runtime):
    conf = bridge.conf(vlanTrunk=[{"id": 10}], isGateway=True, ipam=bridge.ipam(V4))

    bridge.check(conf, bridge.add(conf))

    assert bridge.host.addresses("cni0") == ["10.1.2.1/24"]
    assert bridge.sandbox.pings("10.1.2.1")


def test_an_add_that_fails_at_any_change_leaves_the_vlans_as_they_were(bridge: Runtime, another):
    conf = bridge.conf(vlan=100, vlanTrunk=[{"id": 101}], isGateway=True, ipam=bridge.ipam(V4))
    another("first").add(conf)
    before = snapshot(bridge)

    for step in count(1):
        with fail_at(step) as failing, contextlib.suppress(CNIError):
            bridge.add(conf)
            if failing.failed:  # a change that need not succeed: the ADD did
                bridge.delete(conf)
        if not failing.failed:
            break
        assert snapshot(bridge) == before, f"after failing to {failing.failed}"

    assert step > 8


def snapshot(bridge: Runtime) -> list[Any]:
    """What a failed ADD must leave as it was; a process for each part of it would take seconds in all."""
    host = bridge.host.run("sh", "-c", "ip -oneline addr show scope global; bridge vlan show")
    return [host, bridge.sandbox.links(), bridge.leases()]
