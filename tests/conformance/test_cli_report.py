"""What `plexus attach` tells of each attachment, from what plugins answered."""

import json
from typing import Any

import pytest

from cni.cli import report
from cni.plugin.chain import Attachment
from cni.plugin.ledger import Entry, Ledger, Record
from cni.spec import convert, netconf

BRIDGE = {"name": "cni0", "mac": "02:00:00:00:00:01"}
VETH = {"name": "veth0", "mac": "02:00:00:00:00:02"}
INSIDE = {"name": "eth0", "mac": "02:00:00:00:00:03", "mtu": 1400, "sandbox": "/run/netns/a"}
OTHER = {"name": "lo", "sandbox": "/run/netns/a"}
ATTACHMENT = Attachment(container_id="c1", ifname="eth0")
PLAIN = netconf.parse('{"name": "net", "type": "bridge"}')


def ip(address: str, interface: int | None = None) -> dict[str, Any]:
    return {"address": address} if interface is None else {"address": address, "interface": interface}


def row(interfaces: list[dict[str, Any]], *ips: dict[str, Any]) -> dict[str, Any]:
    result = convert.decode({"interfaces": interfaces, "ips": list(ips)}, "1.1.0")
    return json.loads(report.as_json(report.rows(PLAIN, ATTACHMENT, result)))[0]


ROWS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "bridge": (
        row([BRIDGE, VETH, INSIDE], ip("10.0.0.2/24", 2), ip("fd00::2/64", 2)),
        {"bridge": "cni0", "hostInterface": "veth0", "ips": ["10.0.0.2/24", "fd00::2/64"]},
    ),
    "bridge-with-vlan": (
        row([BRIDGE, VETH, INSIDE, {"name": "cni0.100"}], ip("10.0.0.2/24", 2)),
        {"bridge": "cni0", "hostInterface": "veth0", "ips": ["10.0.0.2/24"]},
    ),
    "veth": (
        row([VETH, INSIDE], ip("10.0.0.2/24", 1)),
        {"bridge": "", "hostInterface": "veth0", "ips": ["10.0.0.2/24"]},
    ),
    "nothing-on-the-host": (
        row([INSIDE], ip("10.0.0.2/24", 0)),
        {"bridge": "", "hostInterface": "", "ips": ["10.0.0.2/24"]},
    ),
    "no-addresses": (row([BRIDGE, VETH, INSIDE]), {"bridge": "cni0", "hostInterface": "veth0", "ips": []}),
    "addresses-of-no-interface": (
        row([INSIDE], ip("10.0.0.2/24")),
        {"bridge": "", "hostInterface": "", "ips": ["10.0.0.2/24"]},
    ),
    "addresses-of-another-interface": (
        row([OTHER, INSIDE], ip("127.0.0.1/8", 0), ip("10.0.0.2/24", 1)),
        {"bridge": "", "hostInterface": "", "ips": ["10.0.0.2/24"]},
    ),
}


@pytest.mark.parametrize("case", ROWS)
def test_a_row_tells_both_ends_and_the_bridge(case: str):
    told, expected = ROWS[case]
    inside = {"network": "net", "interface": "eth0", "mac": "02:00:00:00:00:03", "mtu": 1400, "default": True}
    assert told == expected | inside


def test_an_old_result_without_interfaces_still_has_its_addresses():
    assert row([], ip("10.0.0.2/24")) == {
        "network": "net",
        "interface": "eth0",
        "ips": ["10.0.0.2/24"],
        "mac": "",
        "mtu": 0,
        "hostInterface": "",
        "bridge": "",
        "default": True,
    }


def test_the_meta_plugins_attachments_come_from_its_record(tmp_path: Any):
    conf = {"name": "plexus", "plugins": [{"type": "plexus", "cniDir": str(tmp_path)}, {"type": "portmap"}]}
    network = netconf.parse_list(json.dumps(conf))
    result = convert.decode({"interfaces": [BRIDGE, VETH, INSIDE], "ips": [ip("10.0.0.2/24", 2)]}, "1.1.0")
    entries = (
        Entry(network="cluster", conf="{}", ifname="eth0", default=True).attached(result),
        Entry(network="default/l2", conf="{}", ifname="net1"),
    )
    record = Record(container_id="c1", ifname="eth0", netns="/run/netns/a", entries=entries)
    Ledger(str(tmp_path / "containers")).write(record)

    rows = report.rows(network, ATTACHMENT, result)

    assert [(one.network, one.interface, one.default) for one in rows] == [
        ("cluster", "eth0", True),
        ("default/l2", "net1", False),
    ]


def test_the_table_has_a_column_for_each_thing_and_a_dash_for_nothing():
    result = convert.decode({"interfaces": [BRIDGE, VETH, INSIDE], "ips": [ip("10.0.0.2/24", 2)]}, "1.1.0")
    rows = report.rows(PLAIN, ATTACHMENT, result) + report.rows(PLAIN, ATTACHMENT, convert.decode({}, "1.1.0"))

    assert report.as_table(rows).splitlines() == [
        "NETWORK  INTERFACE  IP           MAC                HOST VETH  BRIDGE",
        "net      eth0       10.0.0.2/24  02:00:00:00:00:03  veth0      cni0",
        "net      eth0       -            -                  -          -",
    ]
