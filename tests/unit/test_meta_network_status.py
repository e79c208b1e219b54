"""network-status in the shape of the NPWG standard."""

from __future__ import annotations

import json

import pytest

from cni.meta import network_status
from cni.plugin.ledger import Entry, Record


def _status(result, *, default=False):
    entry = Entry(
        network="test/net1", conf="{}", ifname="net1", default=default, result={"cniVersion": "1.1.0"} | result
    )
    return json.loads(network_status.build(Record(container_id="c", ifname="eth0", netns="/n", entries=(entry,))))


NET1 = {"name": "net1", "mac": "92:79:27:01:7c:cf", "mtu": 9000, "sandbox": "/n"}
IPS = [{"address": "1.1.1.3/24", "interface": 0}, {"address": "2001::1/64", "interface": 0}]

CASES = {
    "one interface": (
        {"interfaces": [NET1], "ips": IPS},
        [
            {
                "name": "test/net1",
                "interface": "net1",
                "ips": ["1.1.1.3", "2001::1"],
                "mac": NET1["mac"],
                "mtu": 9000,
                "dns": {},
            }
        ],
    ),
    "gateways of the default routes": (
        {
            "interfaces": [NET1],
            "ips": IPS,
            "routes": [
                {"dst": "0.0.0.0/0", "gw": "1.1.1.1"},
                {"dst": "::/0", "gw": "2001::2"},
                {"dst": "10.0.0.0/8", "gw": "1.1.1.9"},
            ],
        },
        [
            {
                "name": "test/net1",
                "interface": "net1",
                "ips": ["1.1.1.3", "2001::1"],
                "mac": NET1["mac"],
                "mtu": 9000,
                "dns": {},
                "gateway": ["1.1.1.1", "2001::2"],
            }
        ],
    ),
    "a default route without gateway has that of the address": (
        {"interfaces": [NET1], "ips": [IPS[0] | {"gateway": "1.1.1.1"}], "routes": [{"dst": "0.0.0.0/0"}]},
        [
            {
                "name": "test/net1",
                "interface": "net1",
                "ips": ["1.1.1.3"],
                "mac": NET1["mac"],
                "mtu": 9000,
                "dns": {},
                "gateway": ["1.1.1.1"],
            }
        ],
    ),
    "a default route without any gateway is not <nil>": (
        {"interfaces": [{"name": "a", "sandbox": "/n"}], "ips": [], "routes": [{"dst": "0.0.0.0/0"}]},
        [{"name": "test/net1", "interface": "a", "dns": {}}],
    ),
    "interfaces of the host are left out, and so are their addresses": (
        {
            "interfaces": [{"name": "br0"}, {"name": "veth1"}, NET1],
            "ips": [{"address": "1.1.1.3/24", "interface": 2}, {"address": "1.1.1.1/24", "interface": 0}],
        },
        [{"name": "test/net1", "interface": "net1", "ips": ["1.1.1.3"], "mac": NET1["mac"], "mtu": 9000, "dns": {}}],
    ),
    "an address without interface is the last one's": (
        {
            "interfaces": [{"name": "a", "sandbox": "/n"}, {"name": "b", "sandbox": "/n"}],
            "ips": [{"address": "1.1.1.3/24"}],
        },
        [
            {"name": "test/net1", "interface": "a", "dns": {}},
            {"name": "test/net1", "interface": "b", "ips": ["1.1.1.3"], "dns": {}},
        ],
    ),
    "nothing but addresses": (
        {"ips": [{"address": "1.1.1.3/24"}]},
        [{"name": "test/net1", "interface": "net1", "ips": ["1.1.1.3"], "dns": {}}],
    ),
    "an empty result": ({}, [{"name": "test/net1", "interface": "net1", "dns": {}}]),
    "dns": (
        {"dns": {"nameservers": ["1.1.1.1"], "search": ["a"]}},
        [{"name": "test/net1", "interface": "net1", "dns": {"nameservers": ["1.1.1.1"], "search": ["a"]}}],
    ),
}


@pytest.mark.parametrize(("result", "expected"), CASES.values(), ids=CASES)
def test_a_status_tells_what_the_result_says(result, expected):
    assert _status(result) == expected


def test_the_interface_whose_address_has_a_gateway_is_the_default():
    result = {
        "interfaces": [
            {"name": "h1"},
            {"name": "eth0", "sandbox": "/n"},
            {"name": "h2"},
            {"name": "other", "sandbox": "/n"},
        ],
        "ips": [
            {"address": "10.244.1.6/24", "interface": 1},
            {"address": "10.20.1.3/24", "interface": 3, "gateway": "10.20.1.1"},
        ],
    }

    first, second = _status(result, default=True)

    assert "default" not in first
    assert second["default"] is True


def test_without_a_gateway_the_first_interface_is_the_default():
    result = {"interfaces": [{"name": "a", "sandbox": "/n"}, {"name": "b", "sandbox": "/n"}]}

    assert [status.get("default") for status in _status(result, default=True)] == [True, None]


def test_an_attachment_that_was_not_made_has_no_status():
    record = Record(
        container_id="c", ifname="eth0", netns="/n", entries=(Entry(network="a", conf="{}", ifname="net1"),)
    )

    assert network_status.build(record) == "[]"


@pytest.mark.parametrize(
    ("conf", "told"),
    [
        ({"name": "more", "plugins": [{"type": "passthru"}, {"type": "x"}]}, []),
        ({"name": "more", "type": "passthru"}, []),
        ({"name": "more", "plugins": [{"type": "x"}, {"type": "passthru"}]}, [{"interface": "net1", "dns": {}}]),
        ({"name": "more", "type": "x"}, [{"interface": "net1", "dns": {}}]),
    ],
)
def test_a_chain_that_makes_nothing_is_no_network_of_the_pod(conf, told):
    entry = Entry(network="", conf=json.dumps(conf), ifname="net1", result={"cniVersion": "1.1.0"})
    record = Record(container_id="c", ifname="eth0", netns="/n", entries=(entry,))
    assert json.loads(network_status.build(record)) == told
    made = {"cniVersion": "1.1.0", "interfaces": [{"name": "net1", "sandbox": "/n"}]}
    record = record.with_entries((Entry(network="", conf=json.dumps(conf), ifname="net1", result=made),))
    assert json.loads(network_status.build(record)) == [{"interface": "net1", "dns": {}}]
