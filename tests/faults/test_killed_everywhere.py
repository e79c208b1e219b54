"""Killed before every system call that changes something: DEL and one `plexus gc` leave nothing, and the living stay.

`kill_everywhere.py` does it, on a machine of its own for each test. `--nightly` takes every point three times; the
normal mode takes those of ADD and DEL in process, of DEL in the daemon, and of the rest as many as there is time for.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from installed import OLD, reference_plugins, tools

ROOT = Path(__file__).resolve().parents[2]
NIGHTLY = os.environ.get("PLEXUS_TESTS_NIGHTLY") == "1"
SECOND_HALF = [("daemon", "ADD", 2, 2, 70)] if NIGHTLY else []
FATES = (
    [["deleted"], ["forgotten"], ["again"]] if NIGHTLY else [["deleted", "deleted", "forgotten", "deleted", "again"]]
)
"""What becomes of the containers after the killing, in turns: DEL; their namespace goes, and no DEL comes; the kubelet
has another made for the pod, and then the DEL comes."""
FOLDERS = [str(ROOT), str(Path(__file__).parent)]
SCRIPT = """
import json, sys
told = json.loads(sys.argv[1])
sys.path[:0] = told.pop("path")
import kill_everywhere
kill_everywhere.main(told)
"""
ALONE = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
BOUND = 1800
"""Seconds for a test; each of its points has a watchdog of its own."""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")


@pytest.mark.parametrize("fates", FATES, ids=lambda fates: fates[0])
@pytest.mark.parametrize(
    ("who", "verb", "first", "step", "fewest"),
    [
        ("process", "ADD", 1, 2, 70),
        ("process", "ADD", 2, 2, 70),
        ("process", "DEL", 1, 1, 60),
        ("process", "GC", 1, 1 if NIGHTLY else 2, 45),
        ("daemon", "ADD", 1, 2 if NIGHTLY else 3, 45),
        *SECOND_HALF,
        ("daemon", "DEL", 1, 1, 65),
        ("launcher", "ADD", 1, 1, 4),
        ("launcher", "DEL", 1, 1, 3),
        ("waiting", "ADD", 1, 1 if NIGHTLY else 6, 22),
        ("waiting", "DEL", 1, 1 if NIGHTLY else 4, 15),
        ("runtime", "ADD", 1, 1 if NIGHTLY else 5, 28),
        ("first", "ADD", 1, 1 if NIGHTLY else 6, 25),
    ],
)
def test_whoever_is_killed_anywhere_leaves_nothing_that_delete_and_gc_do_not_undo(
    who: str, verb: str, first: int, step: int, fewest: int, fates: list[str]
):
    tools("ip", "nft", "nsenter", "ping", "unshare")
    directory = reference_plugins(OLD, "ptp", "host-local")
    told = json.dumps({"path": FOLDERS, "who": who, "verb": verb, "first": first, "step": step, "fates": fates})
    done = subprocess.run(
        [*ALONE, sys.executable, "-I", "-c", SCRIPT, told],
        env={"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "CNI_REFERENCE_DIR": str(directory)},
        capture_output=True,
        text=True,
        check=False,
        timeout=BOUND,
    )
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    if "refused" in report:
        pytest.skip(report["refused"])
    kinds = Counter(name for _, name, _ in report["points"])
    print(f"{who} {verb}: {len(report['points'])} points, {dict(kinds.most_common())}, {report['counted']}")
    assert report["problems"] == [], done.stderr
    assert len({tuple(point) for point in report["points"]}) >= fewest
