"""A plugin that can neither add nor delete does not keep a sandbox for ever, and what is ours is undone at once."""

from __future__ import annotations

import json

import pytest
from plexus_node import KUBEVIRT, Node

from cni.plugin.ledger import Ledger
from cni.spec.errors import CNIError

ALWAYS_FAILS = """#!/bin/sh
echo "$CNI_COMMAND" >> {calls}
cat > /dev/null
echo '{{"cniVersion": "1.0.0", "code": 7, "msg": "this configuration makes no sense"}}'
exit 1
"""


@pytest.fixture
def node(host, sandbox, tmp_path):
    made = Node(host, sandbox, tmp_path)
    (tmp_path / "bin").mkdir()
    install(made, ALWAYS_FAILS.format(calls=tmp_path / "calls"))
    made.define("broken", {"cniVersion": "1.0.0", "name": "broken", "type": "broken"})
    made.run([*KUBEVIRT, {"name": "broken", "interface": "net9"}])
    return made


def install(node, script):
    path = node.directory / "bin" / "broken"
    path.write_text(script)
    path.chmod(0o755)


def ledger(node):
    return Ledger(str(node.directory / "state" / "containers"))


def is_ours_gone(node):
    state = node.state()
    leases = [name for name in state["files"] if name.startswith("leases/")]
    return (state["host links"], state["rules"], leases) == (["lo"], [], [])


def test_a_plugin_whose_add_and_delete_fail_lets_the_sandbox_go_and_is_remembered(node):
    with pytest.raises(CNIError, match="makes no sense"):
        node.add()
    assert is_ours_gone(node)
    assert [entry.ifname for record in ledger(node).records() for entry in record.entries] == ["net9"]

    with pytest.raises(CNIError, match="makes no sense"):  # the second DEL: that of the failed ADD was the first
        node.delete()
    node.delete()
    node.delete()

    assert (node.directory / "calls").read_text().split() == ["ADD", "DEL", "DEL", "DEL"]
    assert list(ledger(node).records()) == []
    (left,) = ledger(node).unfinished.records()
    assert (left.pod, left.entries[0].failure.tries) == ("default/vm", 3)


def test_a_plugin_that_was_uninstalled_lets_the_sandbox_go_and_ours_is_undone_at_the_first_del(node):
    result = json.dumps({"cniVersion": "1.0.0", "ips": [{"address": "10.5.0.2/24"}]})
    install(node, f"#!/bin/sh\n[ $CNI_COMMAND = ADD ] && echo '{result}'\nexit 0\n")
    node.add()
    (node.directory / "bin" / "broken").unlink()

    for _ in range(2):
        with pytest.raises(CNIError) as told:
            node.delete()
        assert told.value.id == "PLX-PLUGIN-MISSING"
        assert is_ours_gone(node)
    node.delete(netns="")

    (left,) = ledger(node).unfinished.records()
    assert left.entries[0].result["ips"] == [{"address": "10.5.0.2/24"}]


def test_a_failed_delete_says_nothing_of_a_container_that_is_attached_under_the_same_name_later(node):
    with pytest.raises(CNIError):
        node.add()
    with pytest.raises(CNIError):
        node.delete()
    node.delete()
    node.run(KUBEVIRT)
    node.add()
    node.check()

    node.delete()

    assert is_ours_gone(node)
    assert list(ledger(node).records()) == []
    assert [entry.ifname for record in ledger(node).unfinished.records() for entry in record.entries] == ["net9"]


def test_a_delete_goes_on_despite_who_hangs_over_the_container_and_an_add_does_not(node, monkeypatch):
    node.run(KUBEVIRT)
    node.add()
    monkeypatch.setattr("cni.plugin.hold.PATIENCE", 0.0)
    with ledger(node).claimed("c1", "eth0"):
        node.delete()
        assert is_ours_gone(node)
        with pytest.raises(CNIError) as told:
            node.add()
    assert (told.value.code, told.value.id) == (11, "PLX-LEDGER-BUSY")
    assert is_ours_gone(node)


def test_a_network_status_that_could_not_be_taken_back_goes_with_the_next_delete(node):
    node.run(KUBEVIRT)
    node.add()
    status = node.directory / "state" / "network-status" / "default" / "vm.json"
    aside = status.parent.rename(node.directory / "aside")
    status.parent.touch()
    with pytest.raises(CNIError, match=r"vm\.json"):
        node.delete()
    assert is_ours_gone(node)
    status.parent.unlink()
    aside.rename(status.parent)

    node.delete()

    assert not status.exists()
    assert list(ledger(node).records()) == []
