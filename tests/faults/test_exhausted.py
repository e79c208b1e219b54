"""Disk, inodes, descriptors, memory, processes and time run out: an ADD fails closed, and a DEL finishes when it can.

Every case is a child of its own, with mounts and limits of its own. RLIMIT_NPROC does not bind root, so that processes
run out in a cgroup where there is one to be had; the machine's clock is never set, only what this process takes for it.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from living_node import CODES, Answer, Node

from cni.linux import thread

NIGHTLY = os.environ.get("PLEXUS_TESTS_NIGHTLY") == "1"
POD, SURVIVOR = "victim", "survivor"
CLONE_NEWNS = 0x00020000
PLACES = {
    "leases": ("leases",),
    "state": ("state",),
    "log": ("log",),
    "devices": ("devinfo",),
    "leases and state": ("leases", "state"),
}
DAY = 86_400

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    made = Node(tmp_path_factory.mktemp("exhausted") / "node")
    for name in (SURVIVOR, POD):
        made.pod(name)
    yield made
    made.close()


class Scene:
    """What there is before, and whether it is the same again; runs in a child."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.problems: list[str] = []
        answer = node.call("ADD", SURVIVOR)
        assert answer.status == 0, answer
        node.results[SURVIVOR] = json.loads(answer.out)
        self.before = self.look()
        self.survivor = node.addresses(SURVIVOR)

    def look(self) -> tuple[list[str], list[str], list[str]]:
        """What a pod can leave: files, links, addresses."""
        known = ("lock", ".index", "last_reserved_ip.0", "ballast", ".log")
        files = sorted(name for name in self.node.tree() if not name.endswith(known) and "ballast" not in name)
        return files, self.node.links(), self.node.addresses(POD)

    def call(self, verb: str) -> Answer:
        """One verb for the pod; what it answers is judged."""
        answer = self.node.collect(SURVIVOR, POD) if verb == "GC" else self.node.call(verb, POD)
        if "Traceback" in answer.err or (answer.status and answer.error["code"] not in CODES):
            self.problems.append(f"{verb}: {answer.out} {answer.err}")
        if verb == "ADD" and not answer.status:
            self.node.results[POD] = json.loads(answer.out)
        if self.node.addresses(SURVIVOR) != self.survivor:
            self.problems.append(f"{verb}: the survivor has {self.node.addresses(SURVIVOR)}")
        return answer

    def short(self, verb: str, of: str, call: Callable[[], Answer]) -> int:
        """The status of a call that lacks something, after which nothing is left but what the next DEL undoes."""
        if verb == "DEL":
            assert self.call("ADD").status == 0
        answer = call()
        where = f"{verb} with {of}"
        if answer.status and (answer.error["code"] not in CODES or "Traceback" in answer.err):
            self.problems.append(f"{where}: {answer.out} {answer.err}")
        if verb == "DEL" and not answer.status:
            self.compare(where)
        if answer.status or verb == "ADD":
            self.finish()
        return answer.status

    def compare(self, when: str) -> None:
        found = self.look()
        if found != self.before:
            self.problems.append(f"{when}: {found} instead of {self.before}")

    def end(self) -> list[str]:
        """When there is room: an ADD and a DEL succeed, and nothing is left; the survivor is as it was."""
        self.finish()
        for verb in ("ADD", "CHECK", "DEL"):
            answer = self.call(verb)
            if answer.status:
                self.problems.append(f"{verb} when there is room again: {answer.out}")
        self.compare("at the end")
        for verb in ("CHECK", "DEL"):
            answer = self.node.call(verb, SURVIVOR)
            if answer.status:
                self.problems.append(f"the survivor's {verb}: {answer.out}")
        return self.problems

    def finish(self) -> None:
        """The next DEL, and those who clean up, finish everything."""
        answer = self.call("DEL")
        if answer.status:
            self.problems.append(f"DEL when there is room again: {answer.out}")
        self.node.command("gc", "--grace", "0")
        self.compare("when there is room again")


def own_mounts() -> None:
    """Have mounts that nobody else sees."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(CLONE_NEWNS) == 0, os.strerror(ctypes.get_errno())
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)


class Disk:
    """Small file systems in some places of the node."""

    def __init__(self, node: Node, places: tuple[str, ...], options: str) -> None:
        self.paths = [node.directory / place for place in places]
        own_mounts()
        for path in self.paths:
            path.mkdir(exist_ok=True)
            subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], check=True)

    def fill(self, room: int = 0) -> None:
        """Leave room for so many pages."""
        for path in self.paths:
            with open(path / "ballast", "wb", buffering=0) as file:
                for _ in range(10_000):
                    try:
                        file.write(b"x" * 4096)
                    except OSError:
                        break
                file.truncate(max(0, file.seek(0, os.SEEK_END) // 4096 - room) * 4096)

    def use_inodes(self, room: int = 0) -> None:
        """Leave room for so many files."""
        for path in self.paths:
            made = []
            while len(made) < 10_000:
                try:
                    (path / f"ballast{len(made)}").touch(exist_ok=False)
                except OSError:
                    break
                made.append(path / f"ballast{len(made)}")
            for ballast in made[len(made) - room :] if room else ():
                ballast.unlink()

    def protect(self, _: int = 0) -> None:
        for path in self.paths:
            subprocess.run(["mount", "-o", "remount,ro", str(path)], check=True)

    def free(self) -> None:
        for path in self.paths:
            subprocess.run(["mount", "-o", "remount,rw", str(path)], check=True)
            for ballast in path.glob("ballast*"):
                ballast.unlink()


SHORTAGES: dict[str, tuple[str, Callable[[Disk, int], None], str, range]] = {
    "full": ("size=256k,mode=755", Disk.fill, "No space left on device", range(12)),
    "without inodes": ("nr_inodes=60,size=4m,mode=755", Disk.use_inodes, "No space left on device", range(16)),
    "read-only": ("size=1m,mode=755", Disk.protect, "Read-only file system", range(1)),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("shortage", SHORTAGES)
def test_an_add_without_a_place_to_write_to_fails_closed_and_a_del_finishes_when_there_is_one(
    shortage: str, place: str, node: Node
):
    options, exhaust, reason, rooms = SHORTAGES[shortage]

    def play(room: int) -> list[str]:
        disk = Disk(node, PLACES[place], options)
        scene = Scene(node)
        exhaust(disk, room)
        answer = scene.call("ADD")
        if answer.status:
            scene.compare("after the ADD that failed")
        if room == 0 and place == "log" and answer.status:
            scene.problems.append(f"a log failed an ADD: {answer.out}")
        if room == 0 and place not in ("log", "devices"):
            scene.problems += complaints(answer, reason, disk)
        for verb in ("CHECK", "GC", "STATUS", "DEL"):
            scene.call(verb)
        disk.free()
        return scene.end()

    chosen = rooms if NIGHTLY else rooms[:1] if place in ("log", "devices") else rooms[::3]
    problems = [f"room for {room}: {told}" for room in chosen for told in node.run(lambda room=room: play(room))]
    assert not problems, "\n".join(problems)


def complaints(answer: Answer, reason: str, disk: Disk) -> list[str]:
    """What is wrong with how an ADD tells that it has no room."""
    if not answer.status:
        return [f"ADD succeeded: {answer.out}"]
    told = answer.error["msg"] + answer.error.get("details", "")
    wrong = [] if answer.error["code"] == 5 else [f"it is code {answer.error['code']}"]
    wrong += [] if any(str(path) in told for path in disk.paths) else ["it does not say where"]
    wrong += [] if reason in told else [f"it does not say: {reason}"]
    wrong += [] if f"{reason}: " in told and "what was begun is finished" in told else ["it does not say what to do"]
    return [f"{problem}: {answer.out}" for problem in wrong]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("shortage", SHORTAGES)
def test_a_del_without_a_place_to_write_to_undoes_what_it_can(shortage: str, place: str, node: Node):
    options, exhaust, _, _ = SHORTAGES[shortage]

    def play() -> list[str]:
        disk = Disk(node, PLACES[place], options)
        scene = Scene(node)
        assert scene.call("ADD").status == 0
        exhaust(disk, 0)
        answer = scene.call("DEL")
        _, links, addresses = scene.look()
        if (links, addresses) != scene.before[1:]:
            scene.problems.append(f"DEL left {links} and {addresses}: {answer.out}")
        if shortage != "read-only" and answer.status:
            scene.problems.append(f"to delete takes no room: {answer.out}")
        if shortage == "read-only" and place not in ("log", "devices") and not answer.status:
            scene.problems.append("DEL succeeded without being able to")
        disk.free()
        return scene.end()

    problems = node.run(play)
    assert not problems, "\n".join(problems)


def without_gaps() -> int:
    """Have all numbers of descriptors in use up to one, which is returned."""
    highest = max(map(int, os.listdir("/proc/self/fd")))
    while (number := os.open("/dev/null", os.O_RDONLY)) < highest:
        pass
    return number + 1


def limited(what: int, value: int, work: Callable[[], Answer]) -> Answer:
    soft, hard = resource.getrlimit(what)
    resource.setrlimit(what, (value, hard))
    try:
        return work()
    finally:
        resource.setrlimit(what, (soft, hard))


@pytest.mark.parametrize("verb", ["ADD", "DEL"])
def test_a_call_with_few_descriptors_is_done_or_fails_and_leaves_nothing_to_the_next(verb: str, node: Node):
    def call(more: int) -> Answer:
        # Anew each time: before 3.11.4 Python keeps pipes of a process that could not be started.
        return limited(resource.RLIMIT_NOFILE, without_gaps() + more, lambda: node.call(verb, POD))

    def play() -> list[str]:
        scene = Scene(node)
        amounts = range(0, 41, 1 if NIGHTLY else 4)
        results = [scene.short(verb, f"{more} descriptors", partial(call, more)) for more in amounts]
        if not results[0] or results[-1]:
            scene.problems.append(f"the limits are not about the limit: {results}")
        return scene.end()

    problems = node.run(play, longest=200)
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("verb", ["ADD", "DEL"])
def test_a_call_with_little_memory_is_done_or_fails_and_leaves_nothing_to_the_next(verb: str, node: Node):
    def call(more: int) -> Answer:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        return limited(resource.RLIMIT_AS, used + more, lambda: node.call(verb, POD))

    def play() -> list[str]:
        thread.PATIENCE = 0.5
        scene = Scene(node)
        amounts = (0, 1 << 16, 1 << 18, 1 << 20, 1 << 22, 1 << 24, 1 << 28)
        results = [scene.short(verb, f"{more} bytes", partial(call, more)) for more in amounts]
        if results[-1]:
            scene.problems.append(f"there never was enough: {results}")
        return scene.end()

    problems = node.run(play, longest=200)
    assert not problems, "\n".join(problems)


CLOCKS = {
    "1970": lambda now: now % DAY,
    "2100": lambda now: now + 75 * 365 * DAY,
    "an hour ago": lambda now: now - 3600,
}


@pytest.mark.parametrize("before", CLOCKS)
@pytest.mark.parametrize("after", CLOCKS)
def test_a_clock_that_jumps_between_add_and_del_changes_nothing(before: str, after: str, node: Node):
    def play() -> list[str]:
        true = time.time
        scene = Scene(node)
        for which, verbs in ((before, ("ADD", "CHECK", "STATUS", "GC")), (after, ("CHECK", "GC"))):
            time.time = lambda which=which: CLOCKS[which](true())
            time.time_ns = lambda: int(time.time() * 10**9)
            for verb in verbs:
                answer = scene.call(verb)
                if answer.status:
                    scene.problems.append(f"{verb} in {which}: {answer.out}")
            for words in (("gc", "--grace", "0"), ("status",)):
                told = node.command(*words)
                if told.status:
                    scene.problems.append(f"{words} in {which}: {told.err}")
        return scene.end()

    problems = node.run(play)
    assert not problems, "\n".join(problems)


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A cgroup that counts processes and threads, and in which there is nobody."""
    for root in (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup")):
        made = root / f"plexus-{os.getpid()}"
        try:
            made.mkdir()
        except OSError:
            continue
        if (made / "pids.max").exists():
            yield made
            made.rmdir()
            return
        made.rmdir()
    pytest.skip("this kernel lets nobody have a cgroup that counts processes here")


@pytest.mark.parametrize("verb", ["ADD", "DEL"])
def test_a_call_with_few_processes_is_done_or_fails_and_leaves_nothing_to_the_next(verb: str, node: Node, cgroup: Path):
    def call(more: int) -> Answer:
        (cgroup / "pids.max").write_text(str(1 + more))
        try:
            return node.call(verb, POD)
        finally:
            (cgroup / "pids.max").write_text("max")

    def play() -> list[str]:
        thread.PATIENCE = 0.5
        scene = Scene(node)
        (cgroup / "cgroup.procs").write_text(str(os.getpid()))
        results = [scene.short(verb, f"{more} processes", partial(call, more)) for more in (0, 1, 2, 8)]
        if not results[0] or results[-1]:
            scene.problems.append(f"the limits are not about the limit: {results}")
        return scene.end()

    problems = node.run(play, longest=100)
    assert not problems, "\n".join(problems)
