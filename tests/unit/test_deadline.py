"""How long plugins get in a call: less when there is less left of it, half of it where others come, never nothing."""

from __future__ import annotations

import contextvars
from types import SimpleNamespace

import pytest

from cni.meta import garbage
from cni.meta.networks import Network
from cni.plugin import deadline
from cni.plugin.chain import Host
from cni.spec import netconf
from cni.spec.errors import CNIError
from cni.spec.request import Request


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(deadline, "time", SimpleNamespace(monotonic=made.monotonic))
    return made


def test_where_nobody_is_called_a_plugin_gets_what_is_configured(clock):
    assert deadline.for_plugin("ADD", 60.0) == 60.0
    assert not deadline.is_over()


def test_an_add_keeps_time_to_undo_what_it_made_even_where_that_hangs_too(clock):
    with deadline.of_call("ADD"):
        assert deadline.for_plugin("ADD", 60.0) == 60.0
        clock.now += 100
        assert deadline.for_plugin("ADD", 60.0) == pytest.approx(20)
        clock.now += 20
        ended = []
        for _ in range(6):  # all of them hang
            seconds = deadline.for_plugin("DEL", 60.0)
            clock.now += seconds
            ended.append(clock.now - 1000)
        assert ended[0] == pytest.approx(150)
        assert ended[-1] < 180


def test_a_delete_leaves_half_of_its_time_to_those_who_come_next(clock):
    with deadline.of_call("DEL"):
        given = []
        for _ in range(3):
            given.append(deadline.for_plugin("DEL", 60.0))
            clock.now += given[-1]
    assert given == pytest.approx([25, 12.5, 6.25])


def test_a_plugin_gets_a_second_although_the_time_is_over(clock):
    with deadline.of_call("DEL"):
        clock.now += 500
        assert deadline.for_plugin("DEL", 60.0) == 1.0
        assert deadline.is_over()
    assert not deadline.is_over()


def test_a_call_within_a_call_has_its_time(clock):
    with deadline.of_call("DEL"):
        clock.now += 49
        with deadline.of_call("ADD"):
            assert deadline.for_plugin("ADD", 60.0) == 1.0


def test_a_part_of_a_call_has_no_more_than_the_call_and_leaves_what_is_to_undo(clock):
    with deadline.of_call("ADD"):
        clock.now += 110
        with deadline.within(30):
            assert deadline.for_plugin("DEL", 60.0) == pytest.approx(5)
            clock.now += 11
            assert deadline.is_over()
        assert not deadline.is_over()
    with deadline.within(30):
        assert deadline.for_plugin("DEL", 60.0) == pytest.approx(15)


def test_threads_of_a_call_have_its_time(clock):
    with deadline.of_call("DEL"):
        context = contextvars.copy_context()
    clock.now += 100
    assert context.run(deadline.is_over)


def test_a_garbage_collection_that_takes_too_long_begins_nothing_any_more_and_says_so(clock):
    conf = netconf.parse('{"name": "net", "type": "x", "cniVersion": "1.1.0"}', "it")
    called = []

    def call(kind: str, request: Request) -> None:
        called.append(kind)

    host = Host(path=(), environ={}, call=call)
    networks = [Network("net", conf)]
    with deadline.of_call("GC"):
        garbage.collect(every_pods=networks, known=[], valid=set(), host=host, undo=called.append)
        assert called == ["x"]
        clock.now += 91
        with pytest.raises(CNIError) as told:
            garbage.collect(every_pods=networks, known=[], valid=set(), host=host, undo=called.append)
    assert (called, told.value.id, told.value.code) == (["x"], "PLX-GC-LATE", 11)
