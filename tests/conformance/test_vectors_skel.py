"""The entry point of every plugin, case by case against what the reference plugins answer."""

import json
from pathlib import Path
from typing import Any

import pytest
from plugin_call import Answer, Call, as_process, in_process
from vectors import cases, differences

import cni
from cni.plugin import invoke

CASES = cases.by_id("skel")
OURS = {case_id: case for case_id, case in CASES.items() if case["plugin"] not in differences.ABSENT_PLUGINS}
FIELDS = ("rc", "code", "msg", "details", "stdout", "stderr")


@pytest.mark.parametrize("call", [in_process, as_process])
@pytest.mark.parametrize("case_id", OURS)
def test_an_answer_is_the_references_or_a_listed_difference(case_id: str, call: Call, tmp_path: Path):
    case = OURS[case_id]
    stdin = case["stdin"].replace("@DIR@", str(tmp_path)).encode()

    answer = call(case["plugin"], case["env"], stdin)

    expected = {field: case[field] for field in FIELDS}
    for field, difference in differences.SKEL.get(case_id, {}).items():
        assert difference.ours != expected[field], f"{field} of {case_id} differs no longer: {difference.reason}"
        expected[field] = difference.ours
    told = fields_of(answer)
    for field in ("stdout", "stderr"):
        if expected[field] is None:
            assert field == "stderr" or answer.rc != 0 or not answer.stdout
            del expected[field], told[field]
    assert told == expected
    assert list(tmp_path.iterdir()) == [], "a refused call left something behind"


def fields_of(answer: Answer) -> dict[str, Any]:
    error = answer.result if answer.rc else {}
    if error:
        assert answer.stdout == json.dumps(error, indent=4, ensure_ascii=False), "not as the reference prints errors"
        assert list(error) == [key for key in ("cniVersion", "code", "msg", "details") if key in error]
    return {
        "rc": answer.rc,
        "code": error.get("code"),
        "msg": error.get("msg"),
        "details": error.get("details"),
        "stdout": answer.stdout,
        "stderr": answer.stderr.replace(f"v{cni.__version__}", "v@VERSION@"),
    }


def test_every_listed_difference_is_of_a_case_we_run():
    assert differences.SKEL.keys() <= OURS.keys()


def test_the_plugins_whose_cases_are_left_out_are_not_built_in():
    assert not differences.ABSENT_PLUGINS.keys() & invoke.BUILT_IN.keys()
