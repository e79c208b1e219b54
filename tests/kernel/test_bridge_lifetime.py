"""Which bridges are made and removed: none but those that somebody wants."""

import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest
from machine import Namespace, Runtime, fail_at
from reference_plugins import Reference

from cni.linux.links import HALF_MADE
from cni.spec.errors import CNIError

V4 = "10.1.2.0/24"
NOBODY = {"container_id": "", "ifname": "", "netns": ""}


def temporary(bridge: Runtime, **keys: Any) -> dict[str, Any]:
    return bridge.conf(removeBridge=True, isGateway=True, ipam=bridge.ipam(V4), **keys)


def test_a_bridge_that_is_missing_is_not_made_where_that_is_not_wanted(bridge: Runtime):
    bridge.host.ip("link add br-real type bridge")
    bridge.host.ip("link add other type bridge")
    before = bridge.state()

    error = bridge.fails("ADD", bridge.conf(createBridge=False, ipam=bridge.ipam(V4)))

    assert (error.id, error.code) == ("PLX-BRIDGE-MISSING", 7)
    assert '"cni0"' in error.msg
    assert 'the bridges here are "br-real", "other"' in error.details
    assert bridge.state() == before


def test_a_machine_without_bridges_says_so(bridge: Runtime):
    error = bridge.fails("ADD", bridge.conf(createBridge=False))

    assert "there is no bridge here" in error.details


def test_a_bridge_that_is_there_is_used_where_none_is_to_be_made(bridge: Runtime):
    bridge.host.ip("link add cni0 type bridge")
    conf = bridge.conf(createBridge=False)

    bridge.check(conf, bridge.add(conf))

    assert bridge.host.link(bridge.port())["master"] == "cni0"


def test_status_tells_of_a_bridge_that_is_missing(bridge: Runtime):
    conf = bridge.conf(createBridge=False)

    error = bridge.fails("STATUS", conf, **NOBODY)

    assert (error.id, error.code) == ("PLX-BRIDGE-MISSING", 50)
    bridge.host.ip("link add cni0 type bridge")
    bridge.call("STATUS", conf, **NOBODY)


def half_made(bridge: Runtime) -> None:
    """Leave what somebody leaves who is killed between the two messages that make a bridge."""
    bridge.host.ip(f"link add cni0 group {HALF_MADE} type bridge")


def test_a_bridge_whose_maker_was_killed_is_finished_by_the_next(bridge: Runtime):
    bridge.add(bridge.conf(mtu=1400))
    finished = bridge.host.link("cni0")
    bridge.host.ip("link del cni0")
    half_made(bridge)

    bridge.add(bridge.conf(mtu=1400), container_id="c2", ifname="eth1")

    link = bridge.host.link("cni0")
    keys = ("ifalias", "group", "mtu", "flags")
    assert [link[key] for key in keys] == [finished[key] for key in keys]
    bridge.delete(bridge.conf(mtu=1400), container_id="c2", ifname="eth1")
    assert bridge.host.link("cni0")["mtu"] == 1400


def test_a_bridge_whose_maker_was_killed_goes_where_that_is_wanted(bridge: Runtime):
    half_made(bridge)

    bridge.delete(temporary(bridge))

    assert bridge.host.links() == ["lo"]


def test_a_bridge_that_we_made_is_marked(bridge: Runtime):
    bridge.add(bridge.conf())

    assert bridge.host.link("cni0")["ifalias"] == "plexus:bridge"


@pytest.mark.parametrize("netns", [None, "", "/nonexistent/netns"])
def test_a_bridge_goes_with_its_last_port_where_that_is_wanted(
    netns: str | None, bridge: Runtime, namespace: Callable[[str], Namespace]
):
    conf, other = temporary(bridge), namespace("other")
    fields = {} if netns is None else {"netns": netns}
    bridge.add(conf)
    bridge.add(conf, container_id="c2", netns=other.path)

    bridge.delete(conf, **fields)
    assert bridge.host.pings("10.1.2.3")
    bridge.delete(conf, container_id="c2", **({"netns": other.path} | fields))

    assert bridge.host.links() == ["lo"]
    bridge.delete(conf, **fields)


def test_a_bridge_goes_when_the_sandbox_went_first(bridge: Runtime):
    conf = temporary(bridge)
    bridge.add(conf)
    subprocess.run(["ip", "netns", "del", bridge.sandbox.name], check=True)

    bridge.delete(conf)

    assert bridge.host.links() == ["lo"]


def test_a_bridge_goes_with_garbage(bridge: Runtime, namespace: Callable[[str], Namespace]):
    conf = temporary(bridge)
    bridge.add(conf)
    bridge.add(conf, container_id="c2", netns=namespace("other").path)

    bridge.gc(conf, ("c2", "eth0"))
    assert "cni0" in bridge.host.links()
    bridge.gc(conf)

    assert bridge.host.links() == ["lo"]


def by_admin(bridge: Runtime) -> None:
    bridge.host.ip("link add cni0 type bridge")


def in_use_by_the_machine(bridge: Runtime) -> None:
    bridge.add(bridge.conf(), container_id="first")
    bridge.delete(bridge.conf(), container_id="first")
    bridge.host.run("sh", "-c", "ip link add up0 type veth peer name wire; ip link set up0 master cni0")


@pytest.mark.parametrize("made", [by_admin, in_use_by_the_machine])
def test_a_bridge_stays_that_is_anybody_elses(made: Callable[[Runtime], None], bridge: Runtime):
    made(bridge)

    bridge.add(temporary(bridge))
    bridge.delete(temporary(bridge))

    assert "cni0" in bridge.host.links()


def test_a_bridge_stays_that_a_reference_plugin_made(bridge: Runtime, reference: Callable[[str], str]):
    conf = temporary(bridge) | {"cniVersion": "1.0.0"}
    Reference(bridge, reference("bridge")).add(conf)

    bridge.delete(conf)

    assert bridge.host.links() == ["cni0", "lo"]


def test_a_bridge_that_another_network_uses_goes_with_the_last_of_those_that_want_it(bridge: Runtime):
    bridge.add(temporary(bridge))
    bridge.add(bridge.conf(name="other"), ifname="eth1")

    bridge.delete(temporary(bridge))
    assert "cni0" in bridge.host.links()
    bridge.delete(bridge.conf(name="other"), ifname="eth1")

    assert "cni0" in bridge.host.links()
    bridge.delete(temporary(bridge))
    assert bridge.host.links() == ["lo"]


@pytest.mark.parametrize("changes", [{"bridge": 5}, {"removeBridge": "yes"}, {"removeBridge": False}], ids=str)
def test_delete_succeeds_whatever_the_configuration_says_of_the_bridge_by_now(changes: dict[str, Any], bridge: Runtime):
    bridge.add(temporary(bridge))

    bridge.delete(temporary(bridge) | changes)

    assert bridge.host.links() == ["cni0", "lo"]
    assert bridge.leases() == []


@pytest.mark.parametrize("keys", [{}, {"mtu": 9000, "promiscMode": True}], ids=str)
def test_an_add_that_fails_at_any_change_leaves_no_bridge(keys: dict[str, Any], bridge: Runtime):
    conf = temporary(bridge, **keys)
    for step in count(1):
        try:
            with fail_at(step) as failing:
                bridge.add(conf)
        except CNIError:
            pass
        else:
            bridge.delete(conf)
        assert bridge.host.links() == ["lo"], f"after failing to {failing.failed}"
        assert bridge.leases() == []
        if not failing.failed:
            break
    assert step > 8


def test_a_bridge_that_cannot_be_removed_is_told_of_and_the_address_is_released(bridge: Runtime):
    conf = temporary(bridge)
    bridge.add(conf)

    with fail_at(2):
        error = bridge.fails("DEL", conf)

    assert 'delete link "cni0"' in error.msg
    assert bridge.leases() == []
    bridge.delete(conf)
    assert bridge.host.links() == ["lo"]


def test_nobody_is_cut_off_while_others_come_and_go(bridge: Runtime, namespace: Callable[[str], Namespace]):
    """A bridge that goes between two looks takes the ports along that it got meanwhile."""
    conf = bridge.conf(removeBridge=True)

    def come_and_go(sandbox: Namespace) -> None:
        for _ in range(12):
            bridge.add(conf, container_id=sandbox.name, netns=sandbox.path)
            port = bridge.host.link(bridge.port(f"plexus:net:{sandbox.name}:eth0"))
            assert port.get("master") == "cni0"
            bridge.delete(conf, container_id=sandbox.name, netns=sandbox.path)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(come_and_go, [namespace("pod") for _ in range(4)]))

    assert bridge.host.links() == ["lo"]
