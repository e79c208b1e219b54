"""Whatever an executed plugin does: the runtime is answered in the protocol's form, the rest of the pod is undone."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from bad_delegates import FAULTS, OK, SECRET, Answer, BadNode, Fault, namespaces
from installed import tools

from cni.linux import process

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")
NIGHTLY = os.environ.get("PLEXUS_TESTS_NIGHTLY") == "1"
HANGING = [name for name in FAULTS if "hangs" in name]
MOST = {name: fault for name, fault in FAULTS.items() if NIGHTLY or name not in HANGING[2:]}
"""Two that hang are enough for what takes several times as long as they are given, but with `--nightly`."""

every_fault = pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
most_faults = pytest.mark.parametrize("fault", MOST.values(), ids=MOST)


@pytest.fixture(autouse=True)
def _graces_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "GRACE", 0.1)
    monkeypatch.setattr(process, "LINGER", 0.05)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[BadNode]:
    tools("ip", "nft", "nsenter")
    with namespaces("host", "sandbox") as (host, sandbox):
        made = BadNode(host, sandbox, tmp_path)
        yield made
        made.kill_children()


def assert_told(answer: Answer, expected: tuple[int, str], fault: Fault) -> None:
    """The answer is what the fault comes to, in a form that anybody can read and show."""
    assert answer.verdict == expected, answer.text
    assert (answer.status == 0) == (expected == OK)
    assert len(answer.text) < 12_000
    assert SECRET not in answer.text + answer.stderr
    if expected != OK:
        told = f"{answer.data['msg']} {answer.data.get('details', '')}"
        assert fault.told in told
        assert '"bad"' in told or not expected[1]  # its own words may not say who it is
        assert not CONTROL.search(told)


def assert_clean(log: Path) -> None:
    text = log.read_bytes().decode() if log.exists() else ""
    assert not CONTROL.search(text)
    assert SECRET not in text
    assert max(map(len, text.splitlines()), default=0) < 20_000


def recorded(node: BadNode) -> list[str]:
    """The interfaces that are remembered, of the only container."""
    if not node.record.exists():
        return []
    return [entry["ifname"] for entry in json.loads(node.record.read_text())["entries"]]


@every_fault
def test_an_add_that_meets_it_leaves_nothing(fault: Fault, node: BadNode):
    before = node.state()
    node.meet(fault, "ADD")
    answer = node.call("ADD")
    assert_told(answer, fault.add, fault)
    if fault.add == OK:
        assert node.call("DEL").status == 0
    assert node.state() == before
    assert node.called() == ["ADD", "DEL"]
    assert_clean(node.log)


@most_faults
def test_a_delete_that_meets_it_undoes_the_others_and_is_done_once_the_plugin_is_mended(fault: Fault, node: BadNode):
    before = node.state()
    assert node.call("ADD").status == 0
    node.meet(fault, "DEL")
    answer = node.call("DEL")
    assert_told(answer, fault.others, fault)
    after = node.state()
    left = [] if fault.others == OK else ["state/containers/c1@eth0.json"]
    assert after == before | {"files": left}
    assert recorded(node) == (["net2"] if left else [])
    assert node.calls_of_good.read_text().split() == ["ADD", "DEL"]

    node.misbehave("")
    assert node.call("DEL").status == 0
    assert node.state() == before
    assert_clean(node.log)


@most_faults
def test_an_add_and_its_undo_that_meet_it_leave_only_what_the_plugin_does_not_undo(fault: Fault, node: BadNode):
    before = node.state()
    node.meet(fault, "ADD", "DEL")
    answer = node.call("ADD")
    assert_told(answer, fault.add, fault)
    if fault.add == OK:
        assert_told(node.call("DEL"), fault.others, fault)
    left = [] if fault.others == OK else ["state/containers/c1@eth0.json"]
    assert node.state() == before | {"files": left}
    assert recorded(node) == (["net2"] if left else [])
    assert node.called() == ["ADD", "DEL"]


@most_faults
def test_a_check_a_status_and_a_garbage_collection_that_meet_it_change_nothing(fault: Fault, node: BadNode):
    assert node.call("ADD").status == 0
    node.meet(fault, "CHECK", "STATUS", "GC")
    alive = {"cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}]}
    before = node.state()
    assert_told(node.call("CHECK"), fault.others, fault)
    assert_told(node.call("STATUS", **node.of_every_pod()), fault.others, fault)
    assert_told(node.call("GC", **node.of_every_pod() | alive), fault.others, fault)
    assert node.state() == before
    assert sorted({*node.called()}) == ["ADD", "CHECK", "GC", "STATUS"]
    assert node.call("DEL").status == 0
    assert_clean(node.log)
