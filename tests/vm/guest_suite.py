"""The tests of guest/: which there are, one run of all of them where the kernel filters VLANs, and what came out."""

import ast
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import vm

GUEST = Path(__file__).parent / "guest"
ROOT = GUEST.parents[2]
REPORT, OUTPUT = "report.xml", "output"
TIMEOUT = 900.0
"""Seconds, of which the other tests take most of a busy machine."""
PROBE = "ip link add vlans type bridge vlan_filtering 1 && ip link add link vlans name vlan5 type vlan id 5"


@dataclass(frozen=True)
class Case:
    """The outcome of one test, or of one of its parameters."""

    name: str
    failure: str
    """Why it failed, or could not begin; "" if it did not."""

    skipped: str


def tests() -> list[str]:
    """Every test there is, as `file::function`."""
    return [f"{path.stem}::{name}" for path in sorted(GUEST.glob("test_*.py")) for name in _functions(path)]


def _functions(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text())
    return (node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"))


def run(directory: Path) -> None:
    """Run them all, and have `directory` hold the report and the output. Raises Unavailable, NoAnswer."""
    if can_filter_vlans():
        _run_here(directory)
    else:
        command = ["env", "PYTEST_DISABLE_PLUGIN_AUTOLOAD=1", *_pytest(vm.SHARE)]
        vm.run(command, timeout=TIMEOUT, cwd=ROOT, share=directory)


def can_filter_vlans() -> bool:
    """Whether this machine's own kernel will do. It is asked in a namespace that is gone with the question."""
    if os.geteuid() != 0:
        return False
    probe = ["unshare", "--net", "sh", "-c", PROBE]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def _run_here(directory: Path) -> None:
    environ = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    with directory.joinpath(OUTPUT).open("wb") as output:
        subprocess.run(
            _pytest(str(directory)), cwd=ROOT, env=environ, stdout=output, stderr=output, check=False, timeout=TIMEOUT
        )


def _pytest(directory: str) -> list[str]:
    # Without plugins and bytecode to write: what takes a second here takes ten in the machine.
    options = ["-o", "addopts=", "-p", "no:cacheprovider", "-ra", f"--junit-xml={directory}/{REPORT}"]
    return [sys.executable, "-B", "-m", "pytest", *options, str(GUEST)]


def read(directory: Path) -> dict[str, list[Case]]:
    """The outcomes of a run, by test."""
    found: dict[str, list[Case]] = {}
    report = directory / REPORT
    if report.exists():
        for element in ET.parse(report).iter("testcase"):
            module, name = element.get("classname", "").rpartition(".")[2], element.get("name", "")
            found.setdefault(f"{module}::{name.partition('[')[0]}", []).append(_case(name, element))
    return found


def output(directory: Path) -> str:
    """The end of what pytest said in the run."""
    path = directory / OUTPUT
    return path.read_text(errors="replace")[-4000:] if path.exists() else "it never began"


def _case(name: str, element: ET.Element) -> Case:
    failed = [child.text or child.get("message", "") for child in element if child.tag in ("failure", "error")]
    skipped = [child.get("message", "") for child in element if child.tag == "skipped"]
    return Case(name, "\n".join(failed), "\n".join(skipped))
