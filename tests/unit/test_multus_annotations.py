"""The rows about the annotations: what a pod asks for, and what of it is refused."""

from __future__ import annotations

import json

import pytest
from meta_node import Node
from vectors import cases

from cni.meta import selection
from cni.spec import netconf
from cni.spec.errors import CNIError

ROWS = cases.by_id("multus_annotations")

READ, REFUSED, ATTACHED = (
    [pytest.param(row, id=row["id"]) for row in ROWS.values() if kind in row["expected"]]
    for kind in ("networks", "error", "attachments")
)


def _selections(given):
    if given.get("of") == selection.DEFAULT_NETWORK:
        return [selection.parse_default_network(given["annotation"], "kube-system")]
    return selection.parse(given["annotation"], selection.NETWORKS, "test")


def _told(chosen):
    gateways = chosen.default_route
    told = {
        "network": chosen.full_name,
        "interface": chosen.interface,
        "asked": {key: value for key, value in chosen.runtime_config.items() if key != "deviceID"},
        "cni-args": chosen.cni_args,
        "device": chosen.device_id,
    }
    said = {key: value for key, value in told.items() if value}
    return said if gateways is None else said | {"default-route": [str(gateway) for gateway in gateways]}


@pytest.mark.parametrize("row", READ)
def test_an_annotation_is_read_as_the_row_says(row):
    assert [_told(chosen) for chosen in _selections(row["given"])] == row["expected"]["networks"]


@pytest.mark.parametrize("row", REFUSED)
def test_an_annotation_is_refused_as_the_row_says(row):
    with pytest.raises(CNIError) as caught:
        _selections(row["given"])

    expected = row["expected"]["error"]
    assert expected["text"] in str(caught.value)
    assert (caught.value.code, caught.value.id) == (expected["code"], expected["id"])


@pytest.mark.parametrize("row", ATTACHED)
def test_the_definitions_that_an_annotation_names_are_attached_in_its_order(row, tmp_path):
    node = Node(tmp_path)
    for name, conf in row["given"]["definitions"].items():
        node.define(name, conf)
    node.run(networks=row["given"]["annotation"])

    _, *additional = node.plan()

    told = [[entry.network, json.loads(entry.conf)["type"], entry.ifname] for entry in additional]
    assert told == row["expected"]["attachments"]
    assert not any(entry.default for entry in additional)
    assert all(netconf.parse(entry.conf).name for entry in additional)
