"""The rows about network-status: from a plugin's result to the text of the annotation."""

from __future__ import annotations

import json

import pytest
from vectors import cases

from cni.meta import network_status
from cni.plugin.ledger import Entry, Record
from cni.spec import convert
from cni.spec.errors import CNIError

ROWS = cases.by_id("multus_status")
WRITTEN, REFUSED = (
    [pytest.param(row, id=row["id"]) for row in ROWS.values() if isinstance(row["expected"], kind)]
    for kind in (list, dict)
)


def _record(given):
    result = convert.decode(given["result"], given.get("version", "1.1.0"))
    entry = Entry(network="test/net1", conf="{}", ifname="net1", default=given.get("default", False))
    return Record(container_id="c", ifname="eth0", netns="/s", entries=(entry.attached(result),))


@pytest.mark.parametrize("row", WRITTEN)
def test_the_status_is_what_the_row_says_with_its_keys_in_their_order(row):
    text = network_status.build(_record(row["given"]))

    expected = ",".join(json.dumps(entry, indent=4) for entry in row["expected"])
    assert text == row.get("text", f"[{expected}]")
    assert json.loads(text) == row["expected"]


@pytest.mark.parametrize("row", REFUSED)
def test_a_result_is_refused_as_the_row_says(row):
    with pytest.raises(CNIError) as caught:
        _record(row["given"])

    assert row["expected"]["error"]["text"] in str(caught.value)
    assert caught.value.code == row["expected"]["error"]["code"]


def test_every_attachment_has_its_entries_in_the_order_of_attachment():
    rows = [ROWS["E1-default"], ROWS["E6"], ROWS["E1"]]
    entries = tuple(entry for row in rows for entry in _record(row["given"]).entries)

    status = json.loads(network_status.build(Record(container_id="c", ifname="eth0", netns="/s", entries=entries)))

    assert status == [entry for row in rows for entry in row["expected"]]


def test_no_result_makes_the_text_of_a_nil_address():
    for row in WRITTEN:
        assert "nil" not in network_status.build(_record(row.values[0]["given"]))
