"""What is written and read without pyroute2's machinery is what that would write and read."""

import struct
from typing import Any

import pytest
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from cni.linux import netlink, wire
from cni.linux.netlink import nested
from cni.linux.wire import Attributes, Message


def pair() -> dict[str, Any]:
    peer = nested(("IFLA_IFNAME", "eth0"), ("IFLA_NET_NS_FD", 7), ("IFLA_ADDRESS", "02:00:00:00:00:01"))
    return nested(("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_DATA", nested(("VETH_INFO_PEER", peer))))


def port() -> dict[str, Any]:
    data = nested(("IFLA_BRPORT_MODE", 1), ("IFLA_BRPORT_ISOLATED", 0))
    return nested(("IFLA_INFO_SLAVE_KIND", "bridge"), ("IFLA_INFO_SLAVE_DATA", data))


def bridge() -> dict[str, Any]:
    return nested(("IFLA_INFO_KIND", "bridge"), ("IFLA_INFO_DATA", nested(("IFLA_BR_VLAN_FILTERING", 1))))


def unplugged() -> dict[str, Any]:
    return {"vid": 100, "flags": 6}


MESSAGES = {
    "a link by index": lambda: netlink.message(ifinfmsg, ("IFLA_EXT_MASK", 8), index=3),
    "switched on": lambda: netlink.message(ifinfmsg, index=3, flags=1, change=1),
    "a veth": lambda: netlink.message(
        ifinfmsg, ("IFLA_IFNAME", "veth1"), ("IFLA_TXQLEN", 1000), ("IFLA_LINKINFO", pair()), ("IFLA_MASTER", 4),
        flags=1, change=1,
    ),
    "a port": lambda: netlink.message(ifinfmsg, ("IFLA_IFALIAS", "plexus:ä"), ("IFLA_LINKINFO", port()), index=5),
    "a bridge": lambda: netlink.message(ifinfmsg, ("IFLA_IFNAME", "br0"), ("IFLA_LINKINFO", bridge())),
    "a VLAN": lambda: netlink.message(
        ifinfmsg, ("IFLA_AF_SPEC", nested(("IFLA_BRIDGE_VLAN_INFO", unplugged()))), family=7, index=5
    ),
    "IPv4": lambda: netlink.message(
        ifaddrmsg, ("IFA_LOCAL", "10.0.0.1"), ("IFA_BROADCAST", "10.0.0.255"), index=3, family=2, prefixlen=24
    ),
    "IPv6": lambda: netlink.message(
        ifaddrmsg, ("IFA_LOCAL", "fd00::1"), ("IFA_FLAGS", 0x202), index=3, family=10, prefixlen=64
    ),
    "a route": lambda: netlink.message(
        rtmsg, ("RTA_OIF", 3), ("RTA_TABLE", 1000), ("RTA_DST", "fd00::"), ("RTA_GATEWAY", "fe80::1"),
        ("RTA_METRICS", nested(("RTAX_MTU", 1400))), family=10, dst_len=64, proto=3, type=1, scope=253,
    ),
}  # fmt: skip
MESSAGE = pytest.mark.parametrize("make", MESSAGES.values(), ids=list(MESSAGES))


def whole(message: Message) -> bytes:
    return netlink.HEADER.pack(netlink.HEADER.size + len(message.body), 16, 0, 1, 0) + message.body


def by_its_class(message: Message) -> bytes:
    made = message.kind()
    made.update(message.fields)
    made["attrs"] = message.attributes
    made.data = bytearray()
    made.encode()
    return bytes(made.data[netlink.HEADER.size :])


@MESSAGE
def test_the_bytes_are_those_of_pyroute2(make: Any) -> None:
    assert make().body == by_its_class(make())


@MESSAGE
def test_what_is_read_is_what_pyroute2_reads(make: Any) -> None:
    message = make()
    data = whole(message)
    ours = wire.read(message.kind, data, 0, len(data))
    theirs = message.kind(data)
    theirs.decode()
    for name, _ in message.attributes:
        slot = next(slot for slot in theirs["attrs"] if slot.name == name)
        if not isinstance(slot.value, dict):
            assert Attributes.of(ours).get(name) == slot.value
    assert {field: ours[field] for field in message.fields} == dict(message.fields)


def test_attributes_inside_of_attributes_are_found() -> None:
    data = whole(MESSAGES["a port"]())
    info = Attributes.of(wire.read(ifinfmsg, data, 0, len(data))).within("IFLA_LINKINFO")
    assert info.get("IFLA_INFO_SLAVE_KIND") == "bridge"
    assert info.within("IFLA_INFO_SLAVE_DATA").get("IFLA_BRPORT_MODE") == 1
    assert info.within("IFLA_INFO_DATA").get("IFLA_BR_VLAN_FILTERING", "none") == "none"


def test_the_metrics_of_a_route_are_found() -> None:
    data = whole(MESSAGES["a route"]())
    attributes = Attributes.of(wire.read(rtmsg, data, 0, len(data)))
    assert attributes.within("RTA_METRICS").get("RTAX_MTU") == 1400
    assert attributes.within("RTA_VIA").get("anything") is None


def test_the_entries_of_a_list_are_those_that_pyroute2_finds() -> None:
    data = whole(MESSAGES["a VLAN"]())
    spec = Attributes.of(wire.read(ifinfmsg, data, 0, len(data))).get("IFLA_AF_SPEC")
    assert [entry["vid"] for entry in spec.get_attrs("IFLA_BRIDGE_VLAN_INFO")] == [100]


def test_a_state_is_read_by_its_name() -> None:
    content = struct.pack("=HHB3x", 5, 16, 6)
    data = netlink.HEADER.pack(36 + len(content) - 4, 16, 0, 1, 0) + bytes(16) + content
    assert Attributes.of(wire.read(ifinfmsg, data, 0, len(data))).get("IFLA_OPERSTATE") == "UP"


@pytest.mark.parametrize(("attribute", "value"), [("IFLA_MTU", -1), ("IFLA_MTU", 1 << 32), ("IFLA_IFNAME", "\ud800")])
def test_a_value_that_does_not_fit_is_refused(attribute: str, value: Any) -> None:
    with pytest.raises((struct.error, UnicodeError)):
        _ = netlink.message(ifinfmsg, (attribute, value)).body


def test_attributes_that_are_cut_short_are_read_to_the_end() -> None:
    data = whole(MESSAGES["a veth"]())
    for end in range(32, len(data)):
        Attributes.of(wire.read(ifinfmsg, data[:end], 0, len(data))).get("IFLA_IFNAME")


def test_all_attributes_of_one_name_are_found() -> None:
    names = [("IFLA_ALT_IFNAME", "one"), ("IFLA_ALT_IFNAME", "two")]
    data = whole(netlink.message(ifinfmsg, *names))
    assert wire.read(ifinfmsg, data, 0, len(data)).get_attrs("IFLA_ALT_IFNAME") == ["one", "two"]
