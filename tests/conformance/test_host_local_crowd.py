"""host-local under many callers at once: threads in several processes, and the reference plugin among them."""

import fcntl
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from plugin_call import REFERENCE, ROOT, Answer, environment, in_process, reference

from ipam.directory import DirectoryStore

PROCESSES = 4
RESERVED = ("10.88.0.0", "10.88.0.1", "10.88.0.255")
"""The network, the gateway, the broadcast."""

needs_reference = pytest.mark.skipif(
    not (REFERENCE / "host-local").is_file(), reason=f"no reference plugin {REFERENCE}/host-local"
)


def configuration(folder: Path, **ipam: Any) -> str:
    ipam = {"type": "host-local", "subnet": "10.88.0.0/24", "dataDir": str(folder)} | ipam
    return json.dumps({"cniVersion": "1.0.0", "name": "crowd", "type": "bridge", "ipam": ipam})


def ours_in_many_processes(verb: str, conf: str, container_ids: list[str]) -> dict[str, tuple[int, str]]:
    script = str(ROOT / "tests/conformance/many_calls.py")
    command = [sys.executable, "-I", script, str(ROOT), verb, conf]
    processes = [
        subprocess.Popen(command + container_ids[start::PROCESSES], stdout=subprocess.PIPE, text=True)
        for start in range(PROCESSES)
    ]
    answers: dict[str, tuple[int, str]] = {}
    for process in processes:
        stdout, _ = process.communicate(timeout=120)
        answers |= json.loads(stdout)
    return answers


def theirs(verb: str, conf: str, container_ids: list[str]) -> dict[str, tuple[int, str]]:
    def call(container_id: str) -> tuple[int, str]:
        answer = reference("host-local", environment(verb, container_id), conf.encode())
        return answer.rc, answer.stdout

    with ThreadPoolExecutor(8) as threads:
        return dict(zip(container_ids, threads.map(call, container_ids), strict=True))


def addresses(answers: dict[str, tuple[int, str]]) -> dict[str, str]:
    """By container; every call succeeded."""
    assert {stdout for rc, stdout in answers.values() if rc} == set()
    results = {container_id: json.loads(stdout) for container_id, (_, stdout) in answers.items()}
    return {container_id: result["ips"][0]["address"].split("/")[0] for container_id, result in results.items()}


def leases(folder: Path) -> dict[str, str]:
    files = (folder / "crowd").iterdir()
    return {file.name: file.read_bytes().decode() for file in files if file.name not in ("lock", "last_reserved_ip.0")}


def assert_each_has_its_own(given: dict[str, str], folder: Path) -> None:
    assert len(set(given.values())) == len(given), "an address was given twice"
    assert all(address.startswith("10.88.0.") for address in given.values())
    assert not set(given.values()) & set(RESERVED)
    assert leases(folder) == {address: f"{container_id}\r\neth0" for container_id, address in given.items()}


def ids(count: int, prefix: str = "pod") -> list[str]:
    return [f"{prefix}-{number}" for number in range(count)]


def test_200_callers_at_once_get_200_addresses_and_give_them_all_back(tmp_path: Path):
    conf = configuration(tmp_path)

    given = addresses(ours_in_many_processes("ADD", conf, ids(200)))

    assert_each_has_its_own(given, tmp_path)
    released = ours_in_many_processes("DEL", conf, ids(200))
    assert set(map(tuple, released.values())) == {(0, "")}
    assert leases(tmp_path) == {}
    assert not [name for name in os.listdir(tmp_path / "crowd") if name.startswith(".")], "a temporary file is left"


def test_more_callers_than_addresses_get_every_address_and_then_the_error_that_says_so(tmp_path: Path):
    conf = configuration(tmp_path, subnet="10.88.0.0/26")

    answers = ours_in_many_processes("ADD", conf, ids(80))

    given = addresses({container_id: answer for container_id, answer in answers.items() if answer[0] == 0})
    refused = [json.loads(stdout) for rc, stdout in answers.values() if rc]
    assert len(given) == 61
    assert_each_has_its_own(given, tmp_path)
    assert len(refused) == 19
    assert {error["code"] for error in refused} == {11}
    assert {error["details"].split(" addresses")[0] for error in refused} == {"61 of 61"}


@needs_reference
def test_ours_and_the_reference_share_a_directory_at_the_same_time(tmp_path: Path):
    conf = configuration(tmp_path)

    with ThreadPoolExecutor(2) as both:
        our_calls = both.submit(ours_in_many_processes, "ADD", conf, ids(100, "ours"))
        their_calls = both.submit(theirs, "ADD", conf, ids(100, "theirs"))
        given = addresses(our_calls.result() | their_calls.result())

    assert len(given) == 200
    assert_each_has_its_own(given, tmp_path)
    # each deletes what the other made
    with ThreadPoolExecutor(2) as both:
        our_calls = both.submit(ours_in_many_processes, "DEL", conf, ids(100, "theirs"))
        their_calls = both.submit(theirs, "DEL", conf, ids(100, "ours"))
        assert set(map(tuple, (our_calls.result() | their_calls.result()).values())) == {(0, "")}
    assert leases(tmp_path) == {}


@needs_reference
@pytest.mark.parametrize("subnet", ["10.88.0.0/24", "2001:db8::/64"])
def test_the_reference_checks_and_continues_what_ours_began_and_the_other_way_round(subnet: str, tmp_path: Path):
    conf = configuration(tmp_path, subnet=subnet).encode()
    both = (in_process, reference)

    given = [both[number % 2]("host-local", environment("ADD", f"c{number}"), conf) for number in range(4)]

    hosts = [answer.result["ips"][0]["address"].split("/")[0][-1] for answer in given]
    assert hosts == ["2", "3", "4", "5"], "they continue each other's round"
    for number in range(4):
        for call in both:
            assert call("host-local", environment("CHECK", f"c{number}"), conf) == Answer(0, "", "")


@needs_reference
def test_the_reference_leaves_the_same_files(tmp_path: Path):
    seen = []
    for call in (in_process, reference):
        folder = tmp_path / call.__name__
        conf = configuration(folder, ranges=[[{"subnet": "2001:db8:1::/64"}]]).encode()
        assert call("host-local", environment("ADD"), conf).rc == 0
        files = {path.name: path.read_bytes() for path in (folder / "crowd").iterdir()}
        seen.append((files, [oct(path.stat().st_mode) for path in (folder, folder / "crowd", folder / "crowd/lock")]))
    assert seen[0] == seen[1]
    assert seen[0][0].keys() == {"10.88.0.2", "2001:db8:1::2", "last_reserved_ip.0", "last_reserved_ip.1", "lock"}


@needs_reference
def test_the_reference_waits_while_ours_holds_the_lock(tmp_path: Path):
    store = DirectoryStore(str(tmp_path / "crowd"))
    with ThreadPoolExecutor(1) as thread:
        with store.locked():
            call = thread.submit(reference, "host-local", environment("ADD"), configuration(tmp_path).encode())
            time.sleep(0.5)
            assert leases(tmp_path) == {}
        assert call.result().rc == 0
    assert list(leases(tmp_path)) == ["10.88.0.2"]


def test_ours_waits_while_another_process_holds_the_lock_and_leaves_the_file_there(tmp_path: Path):
    lock = tmp_path / "crowd/lock"
    lock.parent.mkdir()
    lock.touch(mode=0o640)
    before = lock.stat()

    with lock.open() as file, ThreadPoolExecutor(1) as thread:
        fcntl.flock(file, fcntl.LOCK_EX)
        call = thread.submit(in_process, "host-local", environment("ADD"), configuration(tmp_path).encode())
        time.sleep(0.3)
        assert not call.done()
        assert leases(tmp_path) == {}
        fcntl.flock(file, fcntl.LOCK_UN)
        assert call.result(timeout=10).rc == 0

    after = lock.stat()
    assert (after.st_ino, after.st_mode, after.st_size) == (before.st_ino, before.st_mode, 0)
