"""What static prints, byte for byte: order of keys, indent, escaping, and every version of the specification."""

import json
from typing import Any

import pytest
from plugin_call import Call, as_process, environment, in_process
from vectors import cases, differences

CASES = cases.by_id("raw_output")
SAMPLE = ("R-static-full-0.1.0", "R-static-full-1.1.0", "R-static-env-badgw")
"""Cases that are also run through the door a runtime comes in by."""


@pytest.mark.parametrize("case_id", CASES)
def test_the_bytes_are_the_references_or_a_listed_difference(case_id: str):
    run(in_process, CASES[case_id])


@pytest.mark.parametrize("case_id", SAMPLE)
def test_a_process_prints_the_same(case_id: str):
    run(as_process, CASES[case_id])


def run(call: Call, case: dict[str, Any]) -> None:
    difference = differences.RAW_OUTPUT.get(case["id"])
    assert difference is None or difference.ours != case["stdout"], f"differs no longer: {difference.reason}"

    answer = call(case["plugin"], environment("ADD", **args(case)), json.dumps(case["conf"]).encode())

    assert answer.rc == case["rc"]
    assert answer.stdout == (difference.ours if difference else case["stdout"])


def args(case: dict[str, Any]) -> dict[str, str]:
    return {"args": case.get("env", {}).get("CNI_ARGS", "")}


def test_every_listed_difference_is_of_a_case_there_is():
    assert differences.RAW_OUTPUT.keys() <= CASES.keys()
