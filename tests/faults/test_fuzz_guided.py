"""The tests of `test_fuzz` with inputs that are changed towards code of ours that no input has reached yet.

With `--nightly` only, and where atheris can be installed.
"""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("atheris", reason="no atheris for this Python, see tests/run.sh")

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RUNS = int(os.environ.get("PLEXUS_TESTS_RUNS", "100000"))
SEEDS, LONGEST = 64, 4096
"""Inputs to begin with, and bytes of one: what hypothesis makes its choices by."""
SLOWEST = 30
"""Seconds of one input, after which atheris calls it hung; `test_fuzz` itself counts processor time."""


@pytest.mark.parametrize(
    "name",
    [
        "test_an_annotation_is_read_or_refused",
        "test_a_definition_is_read_or_refused",
        "test_the_configuration_of_a_built_in_plugin_is_read_or_refused",
        "test_the_nodes_configuration_is_read_or_refused",
        "test_a_call_is_answered_in_the_protocols_form",
        "test_what_comes_to_the_daemons_socket_is_a_request_or_declined",
    ],
)
def test_no_input_that_reaches_more_of_our_code_breaks_it(name: str, tmp_path: Path):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    chance = random.Random(name)
    for number in range(SEEDS):
        (corpus / f"{number}").write_bytes(chance.randbytes(chance.randrange(64, LONGEST)))
    options = [f"-runs={RUNS}", "-seed=1", f"-max_len={LONGEST}", "-len_control=0", f"-timeout={SLOWEST}"]
    done = subprocess.run(
        [sys.executable, str(HERE / "guided.py"), name, *options, f"-artifact_prefix={tmp_path}/", str(corpus)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=3600,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    assert f"#{RUNS}" in done.stderr
    print(next(line for line in done.stderr.splitlines() if "DONE" in line))
