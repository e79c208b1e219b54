"""host-local, case by case against what the reference plugin answers and leaves on disk."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from plugin_call import Answer, Call, as_process, environment, in_process, reference
from vectors import cases, differences

CASES = cases.by_id("host_local")
SAMPLE = (
    "H01-first-is-.2",
    "H04-exhaust-/29",
    "H19-same-cid-other-if",
    "H38-routes-passthrough",
    "H39-resolvConf",
    "H50-multi-ip-0.2.0",
    "HE14",
)
"""Cases that are also run through the door a runtime comes in by."""
LISTS = ("ips", "gw", "routes", "dns")


WHO = [in_process, reference] if "CNI_REFERENCE_DIR" in os.environ else [in_process]
"""The cases themselves are checked too, where we are pointed at plugins of the version they were seen with."""


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("case_id", CASES)
def test_every_step_answers_as_the_reference_or_as_listed(case_id: str, who: Call, tmp_path: Path):
    run(case_id, who, tmp_path, {} if who is reference else differences.HOST_LOCAL.get(case_id, {}))


@pytest.mark.parametrize("case_id", [case_id for case_id in CASES if case_id in SAMPLE])
def test_a_process_answers_the_same(case_id: str, tmp_path: Path):
    run(case_id, as_process, tmp_path, differences.HOST_LOCAL.get(case_id, {}))


def run(case_id: str, call: Call, folder: Path, listed: dict[int, dict[str, differences.Difference]]) -> None:
    case = CASES[case_id]
    conf = json.dumps(case["conf"]).replace("@DIR@", str(folder)).encode()
    for number, step in enumerate(case["steps"]):
        write(folder, step.get("pre", {}))
        answer = call("host-local", environment(step["cmd"], step["cid"], step["ifname"], step["args"]), conf)
        check_answer(answer, step, listed.get(number, {}))
        check_files(folder, step)


def check_answer(answer: Answer, step: dict[str, Any], listed: dict[str, differences.Difference]) -> None:
    failed = "err" in step or "errprefix" in step
    expected = {"rc": int(failed), "code": 999 if failed else None, "msg": step.get("err")}
    expected |= {field: step[field] for field in LISTS if field in step}
    for field, difference in listed.items():
        assert difference.ours != expected.get(field), f"differs no longer: {difference.reason}"
        expected[field] = difference.ours
    told = fields_of(answer, step)
    if "errprefix" in step:
        assert told["msg"].startswith(step["errprefix"])
        expected["msg"] = told["msg"]
    assert {field: told[field] for field in expected} == expected


def fields_of(answer: Answer, step: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {"rc": answer.rc, "code": None, "msg": None}
    if answer.rc:
        return told | {"code": answer.result["code"], "msg": answer.result["msg"]}
    if step["cmd"] != "ADD":
        assert answer.stdout == ""
        return told
    result = answer.result
    assert list(result) == ["cniVersion", *sorted(result.keys() - {"cniVersion"})]
    ips = result["ips"]
    return told | {
        "ips": [ip["address"] for ip in ips],
        "gw": [ip["gateway"] for ip in ips],
        "routes": result.get("routes"),
        "dns": result.get("dns"),
    }


def write(folder: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content.encode())


def check_files(folder: Path, step: dict[str, Any]) -> None:
    for name, content in step.get("files", {}).items():
        assert (folder / name).read_bytes() == content.encode()
    for name in step.get("absent", ()):
        assert not (folder / name).exists()


def test_every_listed_difference_is_of_a_step_there_is():
    for case_id, steps in differences.HOST_LOCAL.items():
        assert max(steps) < len(CASES[case_id]["steps"])


def test_the_sampled_cases_exist():
    assert set(SAMPLE) <= CASES.keys()
