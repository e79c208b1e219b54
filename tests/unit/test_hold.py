"""Who is at work on a record and who cleans up after it keep out of each other's way."""

import contextlib
import os
from pathlib import Path

import pytest

from cni.plugin import hold
from cni.plugin.ledger import Ledger, Record
from cni.spec.errors import IOFailure, TryAgainLater

RECORD = Record(container_id="c1", ifname="eth0", netns="/n")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger(str(tmp_path / "containers"))
    ledger.write(RECORD)
    return ledger


def test_many_may_hold_a_record_and_nobody_claims_it_meanwhile(ledger):
    with ledger.held("c1", "eth0"), ledger.held("c1", "eth0"), ledger.claimed("c1", "eth0") as mine:
        assert not mine
    with ledger.claimed("c1", "eth0") as mine:
        assert mine


def test_who_would_hold_a_claimed_record_waits_and_is_told_to_come_later(ledger, monkeypatch):
    monkeypatch.setattr(hold, "PATIENCE", 0.0)
    with (
        ledger.claimed("c1", "eth0"),
        pytest.raises(TryAgainLater, match="could not use") as told,
        ledger.held("c1", "eth0"),
    ):
        pass
    assert told.value.id == "PLX-LEDGER-BUSY"


def test_a_record_that_is_not_there_is_not_claimed_and_stops_nobody(ledger):
    with ledger.held("c2", "eth0"), ledger.claimed("c2", "eth0") as mine:
        assert not mine


def test_a_second_claim_is_refused_and_the_first_ends_with_its_block_even_by_a_failure(ledger):
    with contextlib.suppress(ZeroDivisionError), ledger.claimed("c1", "eth0") as mine:
        assert mine
        with ledger.claimed("c1", "eth0") as second:
            assert not second
        _ = 1 // 0
    with ledger.claimed("c1", "eth0") as mine:
        assert mine


def test_a_record_that_was_removed_under_the_claim_is_free_for_its_name(ledger):
    with ledger.claimed("c1", "eth0") as mine:
        assert mine
        ledger.remove("c1", "eth0")
        ledger.write(RECORD)
        with ledger.held("c1", "eth0"):
            pass


def test_what_cannot_be_opened_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(IOFailure), Ledger(str(tmp_path / "file")).held("c1", "eth0"):
        pass


def test_no_descriptor_stays_open(ledger):
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        with ledger.held("c1", "eth0"), ledger.claimed("c1", "eth0"):
            pass
        with ledger.claimed("c1", "eth0"), ledger.claimed("c1", "eth0"):
            pass
    assert len(os.listdir("/proc/self/fd")) == len(before)
