"""Versions of the specification."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cni.spec import versions
from cni.spec.errors import DecodingFailure

numbers = st.integers(0, 10**6)


@pytest.mark.parametrize(
    ("text", "parts"),
    [("1.2.3", (1, 2, 3)), ("", (0, 1, 0)), ("1", (1, 0, 0)), ("1.1", (1, 1, 0)), ("0.0.0", (0, 0, 0))],
)
def test_a_version_is_three_numbers_of_which_missing_ones_are_zero(text: str, parts: tuple[int, int, int]):
    assert versions.parse(text) == parts


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("asdf", 'major version part "asdf"'),
        (".", 'major version part ""'),
        (".asdfas", 'major version part ""'),
        ("0.", 'minor version part ""'),
        ("1.-1", 'minor version part "-1"'),
        ("1.0.f", 'micro version part "f"'),
        ("1.0.²", 'micro version part "²"'),
        ("1.0. 1", 'micro version part " 1"'),
        ("1.0.1_0", 'micro version part "1_0"'),
        ("1.2.3.4.5", "too many parts"),
    ],
)
def test_the_part_that_is_no_number_is_named(text: str, part: str):
    with pytest.raises(DecodingFailure) as caught:
        versions.parse(text)
    assert part in caught.value.msg


def test_the_versions_we_speak_are_in_order():
    assert list(versions.SUPPORTED) == sorted(versions.SUPPORTED, key=versions.parse)
    assert versions.CURRENT == "1.1.0"


@settings(derandomize=True, deadline=None)
@given(st.tuples(numbers, numbers, numbers), st.tuples(numbers, numbers, numbers))
def test_versions_compare_as_their_numbers_do(one: tuple[int, int, int], other: tuple[int, int, int]):
    assert versions.at_least("{}.{}.{}".format(*one), "{}.{}.{}".format(*other)) is (one >= other)
