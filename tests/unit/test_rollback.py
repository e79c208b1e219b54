"""Undo beside do, and tear-down that tries everything."""

from collections.abc import Callable
from functools import partial

import pytest

from cni.plugin.rollback import Rollback, Teardown
from cni.spec.errors import CheckFailed, CNIError, DeleteIncomplete, IOFailure


class Broken(Exception):
    """What goes wrong in the block."""


def fail_after(*undos: Callable[[], object], failure: BaseException) -> None:
    with Rollback() as rollback:
        for undo in undos:
            rollback.on_failure(undo)
        raise failure


@pytest.mark.parametrize("failure", [Broken(), CNIError("no"), KeyboardInterrupt()])
def test_a_failure_undoes_the_steps_newest_first(failure: BaseException):
    undone: list[str] = []
    with pytest.raises(type(failure)):
        fail_after(partial(undone.append, "first"), partial(undone.append, "second"), failure=failure)
    assert undone == ["second", "first"]


def test_a_commit_undoes_nothing_then_or_later():
    undone: list[str] = []
    with Rollback() as rollback:
        rollback.on_failure(undone.append, "first")
        rollback.commit()
    assert undone == []


def test_leaving_without_a_commit_is_a_failure():
    undone: list[str] = []
    with Rollback() as rollback:
        rollback.on_failure(undone.append, "first")
    assert undone == ["first"]


@pytest.mark.parametrize("failure", [CNIError("no"), ZeroDivisionError("no")])
def test_an_undo_that_fails_hides_neither_the_first_failure_nor_the_other_undos(
    failure: Exception, caplog: pytest.LogCaptureFixture
):
    undone: list[str] = []

    def fail() -> None:
        raise failure

    with pytest.raises(Broken):
        fail_after(partial(undone.append, "first"), fail, partial(undone.append, "third"), failure=Broken())
    assert undone == ["third", "first"]
    assert "could not undo a step" in caplog.text


def test_every_step_of_a_teardown_is_tried():
    teardown = Teardown()
    tried = []
    for name in ("one", "two", "three"):
        with teardown.step():
            tried.append(name)
            raise IOFailure(f"could not remove {name}", "busy")
    assert tried == ["one", "two", "three"]
    with pytest.raises(DeleteIncomplete) as caught:
        teardown.finish("could not detach")
    assert caught.value.msg == "could not detach"
    assert (
        caught.value.reason == "could not remove one; busy / could not remove two; busy / could not remove three; busy"
    )


def test_a_single_failure_of_a_teardown_keeps_its_code():
    teardown = Teardown()
    with teardown.step():
        pass
    with teardown.step():
        raise CheckFailed("not as it was")
    with pytest.raises(CheckFailed, match="not as it was"):
        teardown.finish("could not detach")


def test_a_teardown_without_failures_finishes():
    teardown = Teardown()
    with teardown.step():
        pass
    teardown.finish("could not detach")


def test_a_defect_of_ours_is_not_taken_for_a_failed_step():
    teardown = Teardown()
    with pytest.raises(ZeroDivisionError), teardown.step():
        raise ZeroDivisionError
