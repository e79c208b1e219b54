"""Another version of plexus wrote the record: nothing of it is lost, and no sandbox waits for that version."""

from __future__ import annotations

import json

import pytest
from plexus_node import KUBEVIRT, Node

from cni.cli import state
from cni.meta import reclaim
from cni.plugin import ledger
from cni.plugin.ledger import Ledger
from cni.spec.errors import CNIError


@pytest.fixture
def node(host, sandbox, tmp_path):
    made = Node(host, sandbox, tmp_path)
    made.run(KUBEVIRT)
    return made


def records(node):
    return Ledger(str(node.directory / "state" / "containers"))


def rewrite(node, **changes):
    content = json.dumps(json.loads(node.record.read_text()) | changes)
    node.record.write_text(content)
    return content


def leases(node):
    return sorted(path.name for path in (node.directory / "leases").rglob("1*"))


def test_a_container_that_a_newer_version_attached_is_checked_and_deleted(node):
    node.add()
    rewrite(node, asked="something new")

    node.check()
    node.delete()

    assert (leases(node), node.state_files()) == ([], [])


def test_what_a_newer_version_noted_stays_noted_of_what_cannot_be_undone(node):
    node.add()
    record = json.loads(node.record.read_text())
    rewrite(node, asked="something new", entries=[{**record["entries"][0], "conf": "{", "asked": 1}])

    node.delete()

    (left,) = (node.directory / "state" / "unfinished").iterdir()
    content = json.loads(left.read_text())
    assert (content["asked"], content["entries"][0]["asked"]) == ("something new", 1)


def test_the_record_of_a_newer_format_is_left_to_the_version_that_wrote_it(node, monkeypatch):
    node.add()
    content = rewrite(node, format=2)

    node.delete()

    assert "eth0" not in node.state()["sandbox links"]
    assert leases(node) == []
    (left,) = (node.directory / "state" / "unfinished").iterdir()
    assert left.read_text() == content
    found = state.read(records(node))
    assert (found.newer, found.damaged, found.unfinished) == ([str(left)], [], [])
    assert reclaim.Reclaimer.of(node.request("GC")).look() == []

    monkeypatch.setattr(ledger, "FORMAT", 2)  # the newer version is installed again
    node.collect()
    assert node.state_files() == []


def test_a_delete_that_left_a_newer_record_is_done_again_if_it_was_cut_off(node):
    node.add()
    rewrite(node, format=2)
    records(node).leave("c1", "eth0")

    node.delete()

    assert "eth0" not in node.state()["sandbox links"]
    assert "10.244.0.2" not in leases(node)


def test_a_container_of_a_newer_format_is_not_added_again_and_not_checked(node):
    node.add()
    content = rewrite(node, format=2)

    for call in (node.add, node.check):
        with pytest.raises(CNIError) as told:
            call()
        assert (told.value.code, told.value.id) == (6, "PLX-LEDGER-NEWER")

    assert node.record.read_text() == content


@pytest.mark.parametrize("content", ["newer", "{", None])
def test_gc_takes_nothing_from_the_living_whose_record_cannot_be_read(content, node):
    node.conf["defaultNetworks"] = []
    node.add()
    before = leases(node)
    if content is None:
        node.record.unlink()
    elif content == "newer":
        rewrite(node, format=2)
    else:
        node.record.write_text(content)
    stale = node.directory / "leases" / "cluster" / "10.244.0.77"
    stale.write_text("dead\r\neth0")
    node.conf["delegates"].append(node.bridge("multus-br", "multus-bridge", "192.168.100.0/24"))

    node.collect(("c1", "eth0"))

    assert leases(node) == before


def test_gc_leaves_a_container_alone_that_is_not_valid_and_of_a_newer_format(node):
    node.add()
    content = rewrite(node, format=2)

    node.collect()

    assert node.record.read_text() == content
