"""The rows about finding networks: definitions, files of the node, the cluster network, isolation."""

from __future__ import annotations

import pytest
from meta_node import Situation
from vectors import cases

from cni.spec import netconf
from cni.spec.errors import CNIError

ROWS = cases.load("multus_networks")
FOUND, REFUSED = (
    [pytest.param(row, id=row["id"]) for row in ROWS if kind in row["expected"]] for kind in ("attachments", "error")
)


def _told(entry):
    conf = netconf.parse(entry.conf)
    return [entry.network, conf.name, [netconf.plugin_type(plugin) for plugin in conf.plugins], entry.ifname]


@pytest.mark.parametrize("row", FOUND)
def test_a_pod_gets_the_networks_that_the_row_says(row, tmp_path):
    entries = Situation(row["given"], tmp_path).plan()

    assert [_told(entry) for entry in entries] == row["expected"]["attachments"]
    assert [entry.default for entry in entries] == [True] + [False] * (len(entries) - 1)
    if "text" in row["expected"]:
        assert entries[-1].conf == row["expected"]["text"]


@pytest.mark.parametrize("row", REFUSED)
def test_what_is_wrong_is_told_as_the_row_says(row, tmp_path):
    situation = Situation(row["given"], tmp_path)

    with pytest.raises(CNIError) as caught:
        situation.plan()

    expected = row["expected"]["error"]
    assert situation.located(expected["text"]) in str(caught.value)
    assert (caught.value.code, caught.value.id) == (expected["code"], expected["id"])
