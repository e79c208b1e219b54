"""One call at a time works on a container, and who cleans up leaves those alone on whom somebody works."""

import contextlib
import threading
from pathlib import Path

import pytest

from cni.plugin import hold, underway
from cni.plugin.ledger import Ledger
from cni.spec.errors import TryAgainLater


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger(str(tmp_path / "containers"))
    ledger.make()
    return ledger


@pytest.mark.parametrize("which", ["attached", "unfinished"])
def test_a_second_call_waits_and_is_told_to_come_later_and_who_cleans_up_is_refused(ledger, which, monkeypatch):
    monkeypatch.setattr(hold, "PATIENCE", 0.0)
    other = ledger if which == "attached" else ledger.unfinished
    with ledger.held("c1", "eth0"):
        with pytest.raises(TryAgainLater, match="could not begin") as told, other.held("c1", "eth0"):
            pass
        with other.claimed("c1", "eth0") as mine:
            assert not mine
    assert told.value.id == "PLX-LEDGER-BUSY"


def test_who_goes_on_despite_others_waits_for_them_first(ledger, monkeypatch):
    monkeypatch.setattr(hold, "PATIENCE", 60.0)
    with ledger.claimed("c1", "eth0"), contextlib.ExitStack() as first:
        first.enter_context(ledger.held("c2", "eth0"))
        ending = threading.Timer(0.05, first.pop_all().close)
        ending.start()
        with ledger.held("c2", "eth0", despite_others=True), ledger.claimed("c2", "eth0") as mine:
            assert not mine
        ending.join()
        monkeypatch.setattr(hold, "PATIENCE", 0.0)
        with ledger.held("c1", "eth0", despite_others=True):
            pass


@pytest.mark.parametrize("other", [("c2", "eth0"), ("c1", "eth1")])
def test_other_containers_and_interfaces_are_not_waited_for(ledger, other):
    with ledger.held("c1", "eth0"), ledger.held(*other):
        pass


def test_a_claim_keeps_calls_out_and_ends_with_its_block_even_by_a_failure(ledger, monkeypatch):
    monkeypatch.setattr(hold, "PATIENCE", 0.0)
    with contextlib.suppress(ZeroDivisionError), ledger.claimed("c1", "eth0") as mine:
        assert mine
        with pytest.raises(TryAgainLater), ledger.unfinished.held("c1", "eth0"):
            pass
        _ = 1 // 0
    with ledger.held("c1", "eth0"):
        pass


def test_plugins_that_outlive_a_call_are_not_taken_for_it(ledger, tmp_path):
    """They are told as such, and undone without them when they never end."""
    with underway.alone(str(tmp_path), "c1", "eth0"), ledger.held("c1", "eth0"):
        pass
