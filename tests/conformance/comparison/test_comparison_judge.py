"""The judge overlooks nothing: what is not as the table says is told, and so is what the table says without need."""

from dataclasses import replace
from typing import Any

import pytest

from . import judge
from .columns import OURS
from .reference import NEW, OLD
from .table import Case, Difference, Step

AS_EXPECTED = {"ADD": {"rc": 0, "code": None, "host": {"names": ["br0", "lo"]}, "result": {"a": 1, "b": 2}}}


def case(expect: dict[str, Any] | None = None, *differences: Difference) -> Case:
    step = Step(label="ADD", do="ADD", what={}, expect={"rc": 0} if expect is None else expect)
    return Case(id="X01", group="bridge", title="", plugin="bridge", steps=(step,), differences=differences)


def listed(who: str, **found: Any) -> Difference:
    paths = {path.replace("__", "."): value for path, value in found.items()}
    return Difference(who=(who,), why="because", defect=False, found=paths)


def seen(**changes: Any) -> dict[str, Any]:
    return {"ADD": AS_EXPECTED["ADD"] | changes}


def test_what_is_as_expected_and_as_in_the_reference_is_nothing_to_tell():
    assert judge.complaints(case(), {OURS: AS_EXPECTED, OLD: AS_EXPECTED, NEW: AS_EXPECTED}) == []


@pytest.mark.parametrize("who", [OURS, OLD, NEW])
def test_a_value_that_is_not_expected_is_told_with_who_and_where(who: str):
    found = {OURS: AS_EXPECTED, OLD: AS_EXPECTED, NEW: AS_EXPECTED} | {who: seen(rc=1)}
    assert f"{who}: ADD.rc: expected 0, found 1" in judge.complaints(case(), found)


def test_a_value_that_nobody_expected_is_told_where_ours_is_not_as_the_newest_reference():
    found = {OURS: seen(host={"names": ["lo"]}), OLD: seen(host={}), NEW: AS_EXPECTED}
    assert judge.complaints(case(), found) == ['ours: ADD.host.names: expected ["br0", "lo"], found ["lo"]']


def test_what_only_one_of_the_two_has_is_told_too():
    more = seen(host={"names": ["br0", "lo"], "iptables": ["-A"]})
    assert len(judge.complaints(case(), {OURS: more, NEW: AS_EXPECTED})) == 1
    assert len(judge.complaints(case(), {OURS: AS_EXPECTED, NEW: more})) == 1


def test_without_the_newest_reference_only_what_is_expected_is_compared():
    assert judge.complaints(case(), {OURS: seen(host={}), OLD: AS_EXPECTED}) == []


def test_the_order_of_a_results_keys_is_compared():
    turned = seen(result={"b": 2, "a": 1})
    assert "ADD.result.(order of keys)" in judge.complaints(case(), {OURS: turned, NEW: AS_EXPECTED})[0]


@pytest.mark.parametrize("who", [OURS, NEW])
def test_a_difference_that_is_listed_for_one_of_the_two_is_nothing_to_tell(who: str):
    values = {OURS: ["lo"], NEW: ["br0", "lo"]}
    entry = listed(who, ADD__host__names=values[who])
    assert judge.complaints(case(None, entry), {OURS: seen(host={"names": ["lo"]}), NEW: AS_EXPECTED}) == []


def test_a_listed_place_covers_what_is_below_it_and_nothing_beside_it():
    found = {OURS: seen(host={"names": [], "nft": 1}, files={}), NEW: seen(host={"names": ["x"]}, files={"f": ""})}
    told = judge.complaints(case(None, listed(OURS, ADD__host="^")), found)
    assert told == ['ours: ADD.files.f: expected "", found null']


def test_a_listed_difference_of_another_value_is_told():
    found = {OURS: seen(rc=2), NEW: AS_EXPECTED}
    assert judge.complaints(case(None, listed(OURS, ADD__rc=1)), found) == ["ours: ADD.rc: 1 is listed, found 2"]


@pytest.mark.parametrize("who", [OURS, OLD, NEW])
def test_a_listed_difference_that_is_none_is_told(who: str):
    found = {OURS: AS_EXPECTED, OLD: AS_EXPECTED, NEW: AS_EXPECTED}
    told = judge.complaints(case(None, listed(who, ADD__rc=0)), found)
    assert told == [f"{who}: ADD.rc: is listed, and is no difference (any more)"]


def test_a_listed_difference_by_chance_may_be_none():
    entry = replace(listed(NEW, ADD__rc="^"), by_chance=True)
    for theirs in (AS_EXPECTED, seen(rc=1)):
        assert judge.complaints(case(None, entry), {OURS: AS_EXPECTED, NEW: theirs}) == []


def test_a_general_difference_covers_its_own_value_only():
    refused = {OURS: seen(code=7), NEW: seen(code=999)}
    assert judge.complaints(case({"code": 7}), refused) == []
    assert judge.general_in(case({"code": 7}), refused) == {"codes"}
    assert judge.complaints(case({"code": 7}), {OURS: seen(code=7), NEW: seen(code=998)}) != []
    assert judge.complaints(case({"code": 7}), {OURS: seen(code=999), NEW: seen(code=7)}) != []


@pytest.mark.parametrize(
    ("expected", "found", "fits"),
    [
        ("^a.c", "abc", True),
        ("^a.c", "abcd", False),
        ("^a.c", None, False),
        ("^", "anything", True),
        ("^", None, False),
        ([{"x": 1}], [{"x": 1, "y": 2}], True),
        ([{"x": 1}], [{"x": 1}, {"x": 1}], False),
        ({"x": None}, {}, True),
        ({"x": None}, None, True),
        ({"x": 1}, None, False),
        (None, {}, False),
    ],
)
def test_an_expectation_is_a_pattern(expected: Any, found: Any, fits: bool):
    assert (judge.complaints(case({"msg": expected}), {OURS: seen(msg=found)}) == []) is fits


def test_two_that_must_be_alike_are_compared_in_everything():
    assert judge.same(AS_EXPECTED, AS_EXPECTED) == []
    assert judge.same(AS_EXPECTED, seen(details="x")) == ["ADD.details: None is not 'x'"]


def test_a_path_leads_through_keys_with_dots_and_through_lists():
    found = {"files": {"net/10.0.0.2": "c1"}, "list": [{"a.b": 1}], "a": {"b": 2}, "a.b": 3}
    assert judge.value_at(found, "files.net/10.0.0.2") == "c1"
    assert judge.value_at(found, "list.0.a.b") == 1
    assert judge.value_at(found, "a.b") == 3
    assert judge.value_at(found, "list.1") is None
    assert judge.value_at(found, "files.net/10.0.0.3.x") is None
