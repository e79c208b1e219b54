"""Events are sent beside the calls that they are about, in their order, and never in anybody's way."""

import threading

import pytest

from cni.kube import announcer
from cni.kube.announcer import Announcer

PATIENCE = 30


def fail() -> None:
    raise RuntimeError("no light")


def test_what_is_announced_is_sent_in_its_order() -> None:
    sent: list[int] = []
    line = Announcer()
    for number in range(100):
        line.announce(lambda number=number: sent.append(number))
    line.finish(PATIENCE)
    assert sent == list(range(100))


def test_a_call_does_not_wait_for_its_event() -> None:
    line, told, sent = Announcer(), threading.Event(), threading.Event()
    line.announce(lambda: [told.wait(PATIENCE), sent.set()])
    assert not sent.is_set()
    told.set()
    assert sent.wait(PATIENCE)


def test_an_event_that_cannot_be_sent_costs_no_other() -> None:
    line, sent = Announcer(), threading.Event()
    line.announce(fail)
    line.announce(sent.set)
    assert sent.wait(PATIENCE)


def test_events_that_are_too_many_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcer, "MOST", 2)
    line, begun, told, sent = Announcer(), threading.Event(), threading.Event(), []
    line.announce(lambda: [begun.set(), told.wait(PATIENCE)])
    assert begun.wait(PATIENCE)
    for number in range(5):
        line.announce(lambda number=number: sent.append(number))
    told.set()
    line.finish(PATIENCE)
    assert sent == [0, 1]


def test_nothing_is_waited_for_where_nothing_was_announced() -> None:
    Announcer().finish(PATIENCE)


def test_the_end_does_not_wait_for_a_server_that_never_answers() -> None:
    line, told = Announcer(), threading.Event()
    line.announce(lambda: told.wait(PATIENCE))
    line.finish(0.01)
    assert not told.is_set()
    told.set()
