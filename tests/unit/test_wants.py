"""Which failures are for want of what each process has for itself."""

import errno

import pytest

from cni.node import wants
from cni.spec.errors import CNIError, DeleteIncomplete, Exhausted, IOFailure, KernelFailure


def caused(cause: BaseException) -> CNIError:
    """An error of ours, told at the door, and told again with its place."""
    try:
        try:
            raise cause
        except type(cause) as error:
            raise IOFailure("could not read", str(error), id="PLX-IO") from error
    except IOFailure as error:
        return error.within("pod")


@pytest.mark.parametrize(
    "cause",
    [
        MemoryError(),
        OSError(errno.EMFILE, "Too many open files"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("can't start new thread"),
        Exhausted("could not start a thread", "it did not begin"),
    ],
)
def test_what_came_from_such_a_want_is_one_wherever_it_was_told(cause: BaseException):
    assert wants.is_ours(cause)
    assert wants.is_ours(caused(cause))
    assert wants.is_ours(DeleteIncomplete("could not undo", failures=[KernelFailure("no"), caused(cause)]))


@pytest.mark.parametrize(
    "error", [OSError(errno.ENFILE, "the machine's"), OSError(errno.ENOSPC, "full"), RuntimeError("else"), ValueError()]
)
def test_what_a_launcher_would_meet_too_is_none(error: BaseException):
    assert not wants.is_ours(error)
    assert not wants.is_ours(caused(error))


def test_errors_that_led_to_each_other_come_to_an_end():
    one, other = ValueError(), ValueError()
    one.__context__, other.__context__ = other, one
    assert not wants.is_ours(one)
