"""JSON objects that we pass on."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cni.spec import document
from cni.spec.errors import DecodingFailure

deterministic = settings(derandomize=True, deadline=None)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "it is empty"),
        ("   \n", "it is empty"),
        ('{"a": "b', "line 1, column 7: Unterminated string starting at, near `"),
        ('{"a": {"b": 1}', "it ends too early, at line 1, column 15: "),
        ('{\n "a": 1,\n "b" 2}', "line 3, column 6: Expecting ':' delimiter, near `"),
        ("[1]", "it must be a JSON object, not a list"),
        ("5", "it must be a JSON object, not a number"),
        ('"x"', "it must be a JSON object, not a string"),
        ("true", "it must be a JSON object, not a boolean"),
        ('{"a": NaN}', "NaN is not JSON"),
        (b'{"a": "\xc3\x28"}', "byte 7 is not UTF-8"),
        ('{"a":' * 50_000, "it is nested too deeply"),
    ],
)
def test_what_is_broken_is_told_with_the_place(text: str | bytes, where: str):
    with pytest.raises(DecodingFailure) as caught:
        document.decode(text, "the thing")
    assert caught.value.msg == "could not decode the thing"
    assert caught.value.details.startswith(where)


def test_null_is_the_empty_object_and_the_last_of_equal_keys_counts():
    assert document.decode("null", "") == {}
    assert document.decode('{"a":1,"a":2}', "") == {"a": 2}


@pytest.mark.parametrize(
    ("data", "found"),
    [
        ({"dataDir": 1}, 1),
        ({"DATADIR": 1}, 1),
        ({"datadir": 1, "dataDir": 2}, 2),
        ({"dataDir": 1, "datadir": 2}, 2),
        ({"dataDir": None, "datadir": 2}, 2),
        ({"dataDir": 1, "datadir": None}, 1),
        ({"dataDir": 0}, 0),
        ({"dataDir": None}, None),
        ({"dataDirs": 1}, None),
        ({}, None),
    ],
)
def test_a_key_is_found_in_any_case_and_the_last_that_is_not_null_counts(data: dict[str, Any], found: Any):
    assert document.lookup(data, "dataDir") == found


def test_deriving_changes_the_copy_only_and_leaves_out_what_is_none():
    original = {"Name": "a", "MTU": 1500, "x": {"y": 1}}
    assert document.derive(original, name="b", mtu=None, z=[]) == {"x": {"y": 1}, "name": "b", "z": []}
    assert original == {"Name": "a", "MTU": 1500, "x": {"y": 1}}


def test_a_document_is_written_on_one_line_with_sorted_keys_as_libcni_does():
    assert document.encode({"b": "é<", "a": {"d": [1], "c": None}}) == '{"a":{"c":null,"d":[1]},"b":"é<"}'.encode()


def test_half_a_surrogate_pair_can_be_written():
    assert document.encode(document.decode(b'{"a":"\\ud800"}', "")) == b'{"a":"?"}'


KEYS = st.text(st.sampled_from("aAbB"), min_size=1, max_size=3)


@deterministic
@given(st.dictionaries(KEYS, st.none() | st.integers()), KEYS)
def test_looking_up_is_the_same_whichever_case_one_asks_in(data: dict[str, int | None], key: str):
    assert document.lookup(data, key.lower()) == document.lookup(data, key.upper()) == document.lookup(data, key)


@deterministic
@given(st.dictionaries(KEYS, st.integers()), KEYS, st.integers())
def test_what_was_derived_is_found(data: dict[str, int], key: str, value: int):
    derived = document.derive(data, **{key: value})
    assert document.lookup(derived, key) == value
    assert document.lookup(document.derive(derived, **{key.swapcase(): None}), key) is None


def test_keys_fold_as_gos_decoder_folds_them_the_long_s_and_kelvin_too():
    conf = {"prevRe\u017fult": 1, "\u212aey": 2, "stra\u00dfe": 3}
    assert (document.lookup(conf, "prevResult"), document.lookup(conf, "key")) == (1, 2)
    assert document.lookup(conf, "strasse") is None
    assert document.derive(conf, prevResult=None, key=5) == {"stra\u00dfe": 3, "key": 5}
