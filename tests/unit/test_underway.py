"""Plugins that are executed for an attachment keep others from it, as long as they or their caller run."""

import os
import threading

import pytest

from cni.linux import inherited
from cni.plugin import lock, underway
from cni.spec.errors import TryAgainLater


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(underway, "PATIENCE", 0)


def test_an_attachment_is_one_callers(tmp_path):
    with underway.alone(str(tmp_path), "c1", "net1"):
        with pytest.raises(TryAgainLater) as caught, underway.alone(str(tmp_path), "c1", "net1"):
            pass
        assert caught.value.id == "PLX-PLUGIN-RUNNING"
    with underway.alone(str(tmp_path), "c1", "net1"):
        pass


@pytest.mark.parametrize("other", [("c1", "net2"), ("c2", "net1")])
def test_other_attachments_are_not_waited_for(other, tmp_path):
    with underway.alone(str(tmp_path), "c1", "net1"), underway.alone(str(tmp_path), *other):
        pass


def outlived(directory: str) -> int:
    """The descriptor that a plugin has whose caller was killed."""
    kept = os.open(f"{directory}/{lock.NAME}", os.O_RDWR | os.O_CREAT)
    assert lock.Lock(kept, "c1@net1").take()
    return kept


def test_a_plugin_that_outlives_its_caller_is_waited_for(tmp_path, monkeypatch):
    kept = outlived(str(tmp_path))
    with pytest.raises(TryAgainLater), underway.alone(str(tmp_path), "c1", "net1"):
        pass

    monkeypatch.setattr(underway, "PATIENCE", 60)
    ending = threading.Timer(0.05, os.close, [kept])
    ending.start()
    with underway.alone(str(tmp_path), "c1", "net1"):
        pass
    ending.join()


def test_what_a_plugin_leaves_running_when_it_has_answered_is_not_waited_for(tmp_path):
    with underway.alone(str(tmp_path), "c1", "net1"):
        kept = os.dup(*inherited.descriptors.get())
    with underway.alone(str(tmp_path), "c1", "net1"):
        pass
    os.close(kept)


def test_a_failure_is_an_end_too(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyError), underway.alone(str(tmp_path), "c1", "net1"):
            raise KeyError
    assert inherited.descriptors.get() == ()


def test_where_nothing_can_be_locked_nobody_is_kept_out(tmp_path):
    missing = str(tmp_path / "missing")
    with underway.alone(missing, "c1", "net1"), underway.alone(missing, "c1", "net1"):
        assert inherited.descriptors.get() == ()
