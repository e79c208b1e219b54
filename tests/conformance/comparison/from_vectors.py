"""The vectors of tests/vectors as cases of the table, so that nothing is written twice.

Their expectations are what the reference answers; where tests/vectors/differences.py says that ours differs on purpose,
ours is what is expected here, and the file of the same group in cases/ says why the reference does otherwise.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from vectors import cases, differences, differences_libcni

Data = dict[str, Any]
LEASES, CONFIGURATIONS = "networks", "net.d"


def completed(group: str, written: list[Data]) -> Iterator[Data]:
    """The cases of a group: those of the vectors, with what is written about them, and the others that are written."""
    about = {data["id"]: data for data in written}
    for case in CONVERTERS[group]() if group in CONVERTERS else ():
        yield _merged(case, about.pop(case["id"], {}))
    yield from about.values()


def _merged(case: Data, about: Data) -> Data:
    """The vector's case; `expect` overrides what is expected of its steps, by their number from 1."""
    rest = dict(about)
    for number, expected in rest.pop("expect", {}).items():
        case["steps"][number - 1]["expect"] = expected
    rest["differences"] = case.get("differences", []) + rest.get("differences", [])
    return case | rest


def _host_local() -> Iterator[Data]:
    for case in cases.load("host_local"):
        listed = differences.HOST_LOCAL.get(case["id"], {})
        steps = [
            step
            for number, vector in enumerate(case["steps"])
            for step in _host_local_steps(vector, listed.get(number, {}))
        ]
        conf = json.loads(json.dumps(case["conf"]).replace("@DIR@", f"@DIR@/{LEASES}"))
        title = _title(case["id"], steps)
        yield {"id": case["id"], "title": title, "plugin": "host-local", "conf": conf, "steps": steps}


def _host_local_steps(vector: Data, listed: Mapping[str, differences.Difference]) -> Iterator[Data]:
    if "pre" in vector:
        yield {"write": {f"{LEASES}/{name}": content for name, content in vector["pre"].items()}}
    yield {
        "do": vector["cmd"],
        "container": vector["cid"],
        "ifname": vector["ifname"],
        "args": vector["args"],
        "expect": _expected(vector) | _ours(listed),
    }


def _expected(vector: Data) -> Data:
    expected: Data = {}
    if "err" in vector or "errprefix" in vector:
        msg = vector.get("err") or f"^{re.escape(vector['errprefix'])}.*"
        expected |= {"rc": 1, "code": 999, "msg": msg}
    elif vector["cmd"] == "ADD":
        expected["result"] = _result(vector)
    files = vector.get("files", {}) | dict.fromkeys(vector.get("absent", ()))
    return expected | ({"files": files} if files else {})


def _result(vector: Data) -> Data:
    ips = [{"address": address} for address in vector["ips"]]
    for ip, gateway in zip(ips, vector.get("gw", ()), strict=False):
        ip["gateway"] = gateway
    return {"ips": ips} | {key: vector[key] for key in ("routes", "dns") if key in vector}


def _ours(listed: Mapping[str, differences.Difference]) -> Data:
    """What is expected instead, because ours differs on purpose."""
    fields = {field: difference.ours for field, difference in listed.items()}
    ips = fields.pop("ips", None)
    return fields | ({"result": {"ips": [{"address": address} for address in ips]}} if ips else {})


def _libcni() -> Iterator[Data]:
    for case in cases.load("libcni_load"):
        yield {
            "id": case["id"],
            "title": _title(case["id"], []),
            "files": {f"{CONFIGURATIONS}/{name}": text for name, text in (case["files"] or {}).items()},
            "steps": [loading(case["network"], case["err"], absent=case["files"] is None)],
            "differences": _differences_of_loading(case["id"]),
        }


def loading(network: str, error: str | None, *, absent: bool = False) -> Data:
    """Have the runtime load a network, and then not find its plugin."""
    directory = "@DIR@/absent" if absent else f"@DIR@/{CONFIGURATIONS}"
    msg = (error or "").replace("@DIR@", directory).replace("@PATH@", "@FAKES@")
    return {
        "do": "status",
        "network": network,
        "netns": "/x",
        "environ": {"CNI_PATH": "@FAKES@", "NETCONFPATH": directory},
        "expect": {"msg": msg} if error else {},
    }


def _differences_of_loading(case_id: str) -> list[Data]:
    difference = differences_libcni.LOAD.get(case_id)
    if difference is None:
        return []
    return [{"who": "ours", "why": difference.reason, "found": {"status.msg": difference.ours}}]


def _static() -> Iterator[Data]:
    for case in cases.load("raw_output"):
        ours = differences.RAW_OUTPUT.get(case["id"])
        answer = json.loads(ours.ours) if ours else {}
        expected = {key: answer[key] for key in ("code", "msg")} if ours else {"stdout": case["stdout"]}
        yield {
            "id": case["id"],
            "title": _title(case["id"].removeprefix("R-static-"), []),
            "plugin": case["plugin"],
            "conf": {"cniVersion": None} | case["conf"],
            "since": case["conf"].get("cniVersion", ""),
            "steps": [{"do": "ADD", "args": case.get("env", {}).get("CNI_ARGS", ""), "expect": expected}],
        }


def _title(case_id: str, steps: list[Data]) -> str:
    """The words of an id; where it has none, what comes of the last step."""
    words = re.sub(r"^[A-Z]+\d+[a-z]?-?", "", case_id).replace("-", " ")
    return words or str(steps[-1]["expect"].get("msg", ""))


CONVERTERS: dict[str, Callable[[], Iterator[Data]]] = {
    "host_local": _host_local,
    "libcni": _libcni,
    "static": _static,
}
"""By the name of the file in cases/ that completes them."""
