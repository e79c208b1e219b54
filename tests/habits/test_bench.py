"""The benchmarks can be started: their command explains itself, and every workload is there."""

import subprocess
import sys

from tracked import ROOT

RUN = ROOT / "bench" / "run"
LOAD = """
import contextlib, runpy, sys
with contextlib.suppress(SystemExit):
    sys.argv = [sys.argv[1], "--help"]
    runpy.run_path(sys.argv[0])
from measuring.catalogue import WORKLOADS
print(*(letter for letter, workload in WORKLOADS.items() if callable(workload.load())), file=sys.stderr)
"""


def python(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, *words], cwd="/", capture_output=True, text=True, check=False, timeout=120)


def test_the_command_tells_what_it_can_do():
    told = python(str(RUN), "--help")
    assert told.returncode == 0, told.stderr
    assert all(f"\n  {letter}  " in told.stdout for letter in "abcdefgh")


def test_the_command_knows_no_other_workload():
    refused = python(str(RUN), "z")
    assert refused.returncode != 0
    assert "there is no workload z" in refused.stderr or "needs root" in refused.stderr


def test_every_workload_is_there():
    assert python("-c", LOAD, str(RUN)).stderr.split() == list("abcdefgh")
