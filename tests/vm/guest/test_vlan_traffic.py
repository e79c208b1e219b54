"""Frames and packets on a bridge with VLANs: what passes, what is stopped, and with which tag it arrives."""

from machine import Runtime
from vlans import Wire, add_tagged, attach

ANY = "10.9.0.{}/24"
PORTS = {
    "access100": {"vlan": 100},
    "alike100": {"vlan": 100},
    "access200": {"vlan": 200},
    "trunk": {"vlanTrunk": [{"id": 100}, {"minID": 200, "maxID": 201}]},
    "mixed": {"vlan": 200, "vlanTrunk": [{"id": 100}]},
    "plain": {},
}
HEARD = {
    ("access100", 0): {"alike100": 0, "trunk": 100, "mixed": 100},
    ("access200", 0): {"trunk": 200, "mixed": 0},
    ("access100", 200): {},
    ("access100", 1): {},
    ("trunk", 0): {"plain": 0},
    ("trunk", 100): {"access100": 0, "alike100": 0, "mixed": 100},
    ("trunk", 200): {"access200": 0, "mixed": 0},
    ("trunk", 201): {},
    ("trunk", 300): {},
    ("mixed", 0): {"access200": 0, "trunk": 200},
    ("mixed", 100): {"access100": 0, "alike100": 0, "trunk": 100},
    ("plain", 0): {"trunk": 0},
    ("plain", 100): {},
}
"""Who hears a frame sent from a port with a tag, 0 for none; and with which tag."""


def test_a_frame_is_heard_in_its_vlan_only_and_with_the_tag_that_the_port_has(bridge: Runtime, another):
    bridge.host.ip("link add cni0 type bridge vlan_filtering 1")
    wires = {}
    for name, keys in PORTS.items():
        runtime = another(name)
        attach(runtime, **keys)
        wires[name] = Wire(runtime.sandbox)
    found = {}

    for sender, tag in HEARD:
        text = f"{sender} with tag {tag}"
        wires[sender].send(text, tag)
        frames = {name: wire.heard() for name, wire in wires.items()}
        assert all(said == text for heard in frames.values() for said, _ in heard)
        found[sender, tag] = {name: heard[0][1] for name, heard in frames.items() if len(heard) == 1}

    for wire in wires.values():
        wire.socket.close()
    assert found == HEARD


def test_sandboxes_reach_each_other_in_their_vlan_only(bridge: Runtime, another):
    same, other, trunk = another("c2"), another("c3"), another("c4")
    attach(bridge, vlan=100)
    attach(same, vlan=100)
    attach(other, vlan=200)
    attach(trunk, vlanTrunk=[{"id": 100}])
    for number, runtime in enumerate((bridge, same, other), 1):
        runtime.sandbox.ip(f"addr add {ANY.format(number)} dev eth0")
    add_tagged(trunk.sandbox, 100, ANY.format(4))

    assert bridge.sandbox.pings("10.9.0.2")
    assert bridge.sandbox.pings("10.9.0.4")
    assert not bridge.sandbox.pings("10.9.0.3")


def test_a_gateway_serves_its_vlan_and_the_host_routes_between_vlans(bridge: Runtime, another):
    second, stranger = another("c2"), another("c3")
    bridge.add(bridge.conf(vlan=100, isDefaultGateway=True, ipam=bridge.ipam("10.1.2.0/24", "fd00:1::/64")))
    second.add(second.conf(name="other", vlan=200, isDefaultGateway=True, ipam=second.ipam("10.2.0.0/24")))
    attach(stranger, vlan=300)
    stranger.sandbox.ip("addr add 10.1.2.200/24 dev eth0")

    assert bridge.sandbox.pings("10.1.2.1")
    assert bridge.sandbox.pings("fd00:1::1")
    assert bridge.sandbox.pings("10.2.0.2")
    assert second.sandbox.pings("10.1.2.2")
    assert not stranger.sandbox.pings("10.1.2.1")
