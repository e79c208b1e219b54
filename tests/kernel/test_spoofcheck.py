"""`macspoofchk`: frames with a false source MAC are sent, and do not arrive."""

import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from frames import LAST, Frame, listening, send
from machine import Namespace, Runtime
from reference_plugins import Reference

V4 = "10.1.2.0/24"
FALSE = "02:00:00:00:00:66"
WANTED = "02:00:00:00:00:01"


@pytest.fixture
def neighbour(bridge: Runtime, namespace: Callable[[str], Namespace]) -> Namespace:
    """Another sandbox on the bridge, which hears everything that the bridge passes on."""
    found = namespace("neighbour")
    bridge.add(bridge.conf(), container_id="neighbour", netns=found.path)
    return found


@pytest.fixture
def theirs(bridge: Runtime, reference: Callable[[str], str]) -> Reference:
    return Reference(bridge, reference("bridge"))


def checked(bridge: Runtime, **keys: Any) -> dict[str, Any]:
    return bridge.conf(cniVersion="1.0.0", macspoofchk=True, **keys)


def arrived(bridge: Runtime, neighbour: Namespace, ifname: str = "eth0") -> list[bytes]:
    """What arrives at the neighbour, and at the host itself, of frames with a right and with a false source MAC."""
    own = bridge.sandbox.link(ifname)["address"]
    sent = [
        Frame(own, b"right"),
        Frame(FALSE, b"false"),
        Frame(neighbour.link("eth0")["address"], b"the neighbour's"),
        Frame(own, b"right, tagged", tagged=True),
        Frame(FALSE, b"false, tagged", tagged=True),
        Frame(own, LAST),
    ]
    with listening(neighbour, "eth0") as at_neighbour, listening(bridge.host, "cni0") as at_host:
        send(bridge.sandbox, ifname, sent)
        heard = at_neighbour.heard()
        assert at_host.heard() == heard
    return heard


RIGHT = [b"right", b"right, tagged"]
EVERYTHING = [b"right", b"false", b"the neighbour's", b"right, tagged", b"false, tagged"]


def assert_nothing_is_left(bridge: Runtime) -> None:
    assert bridge.host.rules("PREROUTING") == []
    assert bridge.host.state()["chains"] == []


def test_without_the_check_everything_arrives(bridge: Runtime, neighbour: Namespace):
    bridge.add(bridge.conf())

    assert arrived(bridge, neighbour) == EVERYTHING


@pytest.mark.parametrize(
    ("keys", "args"),
    [
        ({}, ""),
        ({}, f"IgnoreUnknown=1;MAC={WANTED}"),
        ({"runtimeConfig": {"mac": WANTED}}, ""),
        ({"portIsolation": False, "hairpinMode": True}, ""),
    ],
)
def test_only_frames_with_the_interfaces_own_mac_arrive(
    keys: dict[str, Any], args: str, bridge: Runtime, neighbour: Namespace
):
    bridge.add(checked(bridge, **keys), args=args)

    assert arrived(bridge, neighbour) == RIGHT


def test_each_interface_of_a_container_has_a_check_of_its_own(bridge: Runtime, neighbour: Namespace):
    bridge.add(checked(bridge))
    bridge.add(checked(bridge), ifname="eth1")
    assert arrived(bridge, neighbour) == arrived(bridge, neighbour, "eth1") == RIGHT

    bridge.delete(checked(bridge))

    assert arrived(bridge, neighbour, "eth1") == RIGHT
    assert {rule["comment"] for rule in bridge.host.rules("PREROUTING")} == {"macspoofchk-c1-eth1"}


def test_others_are_not_checked(bridge: Runtime, neighbour: Namespace, namespace: Callable[[str], Namespace]):
    bridge.add(checked(bridge), container_id="c2", netns=namespace("other").path)
    bridge.add(bridge.conf())

    assert arrived(bridge, neighbour) == EVERYTHING


def test_the_rules_are_those_of_the_reference(bridge: Runtime):
    bridge.add(checked(bridge), args=f"IgnoreUnknown=1;MAC={WANTED}")

    told = bridge.host.run("nft", "-s", "list", "table", "bridge", "nat")

    lines = [" ".join(line.split()) for line in told.splitlines()]
    comment = 'comment "macspoofchk-c1-eth0"'
    hook = "type filter hook prerouting priority dstnat; policy accept;"
    assert lines[lines.index("chain PREROUTING {") + 1 :][:2] == [
        hook,
        f'iifname "{bridge.port()}" jump cni-br-iface-c1-eth0 {comment}',
    ]
    assert lines[lines.index("chain cni-br-iface-c1-eth0 {") + 1] == f"jump cni-br-iface-c1-eth0-mac {comment}"
    assert lines[lines.index("chain cni-br-iface-c1-eth0-mac {") + 1 :][:2] == [
        f"ether saddr {WANTED} return {comment}",
        f"drop {comment}",
    ]


@pytest.mark.parametrize("fields", [{}, {"netns": ""}, {"netns": "/nonexistent/netns"}], ids=str)
def test_the_check_ends_with_the_attachment(fields: dict[str, str], bridge: Runtime, neighbour: Namespace):
    bridge.add(checked(bridge))

    bridge.delete(checked(bridge), **fields)

    assert_nothing_is_left(bridge)
    bridge.add(bridge.conf())
    assert arrived(bridge, neighbour) == EVERYTHING


def test_frames_are_checked_as_well_where_a_reference_plugin_made_the_rules(
    bridge: Runtime, neighbour: Namespace, theirs: Reference
):
    theirs.add(checked(bridge))

    assert arrived(bridge, neighbour) == RIGHT


@pytest.mark.parametrize("gone", ["", "link", "sandbox"])
def test_we_remove_what_a_reference_plugin_made(gone: str, bridge: Runtime, theirs: Reference):
    theirs.add(checked(bridge))
    if gone == "link":
        bridge.sandbox.ip("link del eth0")
    elif gone == "sandbox":
        subprocess.run(["ip", "netns", "del", bridge.sandbox.name], check=True)

    bridge.delete(checked(bridge))

    assert_nothing_is_left(bridge)


def test_a_reference_plugin_removes_what_we_made(bridge: Runtime, theirs: Reference):
    bridge.add(checked(bridge))

    theirs.call("DEL", checked(bridge))

    assert_nothing_is_left(bridge)


def test_ours_and_theirs_are_checked_side_by_side(bridge: Runtime, neighbour: Namespace, theirs: Reference):
    theirs.add(checked(bridge))
    bridge.add(checked(bridge), ifname="eth1")

    assert arrived(bridge, neighbour) == arrived(bridge, neighbour, "eth1") == RIGHT
    theirs.call("DEL", checked(bridge))
    assert arrived(bridge, neighbour, "eth1") == RIGHT
    bridge.delete(checked(bridge), ifname="eth1")
    assert_nothing_is_left(bridge)
