"""What the plugins of a container are told when it is deleted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cni.meta.container import Container
from cni.plugin.chain import Host
from cni.plugin.ledger import Entry, Ledger, Record
from cni.spec.request import Request

RESULT = {"cniVersion": "1.1.0", "ips": [{"address": "10.0.0.2/24"}]}
BROKEN: list[Any] = [{"cniVersion": "9"}, {"cniVersion": "1.1.0", "ips": [{}]}]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(str(tmp_path))


def told(result: Any, ledger: Ledger, kind: str, version: str) -> Any:
    """The prevResult of a DEL for what was attached with that recorded result."""
    asked: list[Request] = []
    conf = json.dumps({"cniVersion": version, "name": "n", "type": kind})
    entry = Entry(network="n", conf=conf, ifname="eth0", result=result)
    record = Record(container_id="c1", ifname="eth0", netns="", entries=(entry,))
    host = Host(path=(), environ={}, call=lambda _, request: asked.append(request))
    Container(record, ledger, host).detach("eth0")
    (request,) = asked
    return request.conf.get("prevResult")


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0", "1.1.0"])
def test_our_own_plugins_are_told_the_result_as_it_was_recorded(version: str, ledger: Ledger):
    assert told(RESULT, ledger, "bridge", version) == RESULT
    assert told(None, ledger, "bridge", version) is None


def test_others_are_told_it_in_the_shape_of_their_version(ledger: Ledger):
    assert told(RESULT, ledger, "none", "1.0.0") == RESULT | {"cniVersion": "1.0.0"}
    assert told(RESULT, ledger, "none", "0.4.0")["ips"] == [{"version": "4", "address": "10.0.0.2/24"}]
    assert told(RESULT, ledger, "none", "0.3.1") is None


@pytest.mark.parametrize("result", BROKEN)
def test_others_are_told_nothing_that_cannot_be_read(result: Any, ledger: Ledger):
    assert told(result, ledger, "none", "1.0.0") is None
