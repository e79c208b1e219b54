"""host-local killed at any moment, with others at work in the same directory: nothing is lost, nothing is left."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from plugin_call import REFERENCE, ROOT, Call, environment, in_process, reference
from test_host_local_crowd import addresses, configuration, ids, leases

from ipam.directory import DirectoryStore
from ipam.index import Index
from ipam.store import Owner

LIVES = 12
"""How often ours is killed, each time some calls later than the last."""


def killed_after(calls: int, conf: str, container_ids: list[str]) -> None:
    """Have a process come and go, and kill it in the middle of the call after so many."""
    script = str(ROOT / "tests/conformance/come_and_go.py")
    command = [sys.executable, "-I", script, str(ROOT), conf, *container_ids]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for _ in range(calls):
            assert process.stdout.readline(), "it ended by itself"
        process.kill()


def assert_the_index_is_right(folder: Path, container_ids: list[str]) -> None:
    """It names every lease, or vouches for nothing."""
    store, index = DirectoryStore(str(folder / "crowd")), Index(str(folder / "crowd"))
    with store.locked():
        found = leases(folder)
        with index.opened():
            for container_id in container_ids if index.vouches else []:
                held = [name for name, content in found.items() if content == f"{container_id}\r\neth0"]
                assert sorted(map(str, store.held_by(Owner(container_id, "eth0")))) == sorted(held)
                assert set(held) <= set(map(str, index.find(f"{container_id}\r\neth0") or []))


def stay(call: Call, conf: str, container_ids: list[str]) -> dict[str, str]:
    """Have these containers come and go, and stay at last; their addresses."""
    answers = {}
    for verb in ("ADD", "DEL", "ADD"):
        for container_id in container_ids:
            answer = call("host-local", environment(verb, container_id), conf.encode())
            answers[container_id] = (answer.rc, answer.stdout)
            assert answer.rc == 0, answer.stdout
    return addresses(answers)


@pytest.mark.parametrize("other", [in_process, reference])
def test_what_the_killed_leave_is_freed_by_del_and_nobody_elses(other: Call, tmp_path: Path):
    if other is reference and not (REFERENCE / "host-local").is_file():
        pytest.skip(f"no reference plugin {REFERENCE}/host-local")
    conf = configuration(tmp_path)
    mortals, others = ids(3, "mortal"), ids(5, "other")

    for life in range(LIVES):
        with ThreadPoolExecutor(1) as thread:
            staying = thread.submit(stay, other, conf, others)
            killed_after(3 * life, conf, mortals)
            given = staying.result()
        assert_the_index_is_right(tmp_path, mortals + others)
        for container_id in mortals:
            assert in_process("host-local", environment("DEL", container_id), conf.encode()).rc == 0
        assert leases(tmp_path) == {address: f"{container_id}\r\neth0" for container_id, address in given.items()}
        for container_id in others:
            assert in_process("host-local", environment("DEL", container_id), conf.encode()).rc == 0

    assert leases(tmp_path) == {}
