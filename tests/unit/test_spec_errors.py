"""The error object of the specification."""

import pytest

from cni.spec import errors
from cni.spec.errors import CNIError, KernelFailure


@pytest.mark.parametrize(
    ("error", "text", "details"),
    [
        (CNIError("some message", "some details"), "some message; some details", "some details"),
        (CNIError("some message"), "some message", ""),
        (CNIError("some message", "why", id="PLX-X"), "some message; why [PLX-X]", "why [PLX-X]"),
        (CNIError("some message", id="PLX-X"), "some message; [PLX-X]", "[PLX-X]"),
    ],
)
def test_an_error_reads_as_message_reason_and_id(error: CNIError, text: str, details: str):
    assert (str(error), error.details) == (text, details)


def test_a_code_may_be_a_plugins_own():
    assert CNIError("x", code=1234).code == 1234
    assert CNIError("x").code == 999
    assert KernelFailure("x", errno=17).errno == 17


def test_the_codes_of_the_specification_are_each_one_classs():
    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, CNIError)]
    own = [kind.code for kind in classes if "code" in vars(kind)]
    assert len(own) == len(set(own))
    assert {1, 2, 3, 4, 5, 6, 7, 8, 11, 50, 51, 999} <= set(own)
    assert all(code < 52 or code >= 100 for code in own)
