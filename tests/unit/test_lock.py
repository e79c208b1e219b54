"""A name's lock is one open file's, of all who have it, and of nobody any more when they have ended."""

import contextlib
import fcntl
import os
import threading

from cni.plugin import lock


def test_a_name_is_one_takers_and_other_names_are_free(tmp_path):
    directory = str(tmp_path)
    with lock.of(directory, "one") as first, lock.of(directory, "one") as second, lock.of(directory, "two") as other:
        assert (first.take(), first.take()) == (True, True)
        assert not second.take()
        assert other.take()
        first.release()
        assert second.take()


def test_it_is_given_back_at_the_end_of_the_block_whatever_that_is(tmp_path):
    with contextlib.suppress(ZeroDivisionError), lock.of(str(tmp_path), "one") as failing:
        failing.take()
        _ = 1 // 0
    with lock.of(str(tmp_path), "one") as next_one:
        assert next_one.take()


def test_who_has_the_descriptor_has_it_until_the_last_of_them_ends_or_one_gives_it_back(tmp_path):
    with lock.of(str(tmp_path), "one") as other:
        descriptor = os.open(tmp_path / lock.NAME, os.O_RDWR)
        assert lock.Lock(descriptor, "one").take()
        inherited = os.dup(descriptor)
        os.close(descriptor)
        assert not other.take()
        lock.Lock(inherited, "one").release()
        assert other.take()
        os.close(inherited)


def test_it_is_waited_for_as_long_as_is_said(tmp_path):
    with lock.of(str(tmp_path), "one") as first, lock.of(str(tmp_path), "one") as second:
        first.take()
        assert not second.wait(0)
        ending = threading.Timer(0.05, first.release)
        ending.start()
        assert second.wait(60)
        ending.join()


def test_where_nothing_can_be_locked_everybody_has_it(tmp_path, monkeypatch):
    missing = str(tmp_path / "missing")
    with lock.of(missing, "one") as first, lock.of(missing, "one") as second:
        assert (first.take(), second.take()) == (True, True)
        first.release()
        assert not os.path.exists(missing)

    def refuse(*args):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    with lock.of(str(tmp_path), "one") as first, lock.of(str(tmp_path), "one") as second:
        assert (first.take(), second.take()) == (True, True)


def test_the_file_stays_empty_and_no_descriptor_open(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    with lock.of(str(tmp_path), "one") as ours:
        ours.take()
    assert (tmp_path / lock.NAME).stat().st_size == 0
    assert len(os.listdir("/proc/self/fd")) == before
