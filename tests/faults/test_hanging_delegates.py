"""What hangs holds up nobody: not the other networks, not the call, not who cleans up, and not the daemon's others."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import node_daemon
import pytest
from bad_delegates import FAULTS, HUNG, OK, RESULT, SECRET, Answer, BadNode, namespaces
from installed import launchers, tools
from throwaway import Host, throwaway_host

from cni.linux import disk, netns, process, program
from cni.meta import reclaim, strays
from cni.meta.reclaim import Reclaimer
from cni.plugin import deadline
from cni.plugin.ledger import Entry, Ledger, Record
from cni.spec.request import Request

SOON = 100.0
"""Seconds within which everything here ends, on the busiest of machines; what hangs would hang for a thousand."""
FOREVER = "sleep 1000"
PROC = Path("/proc")
ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[BadNode]:
    tools("ip", "nft", "nsenter")
    with namespaces("host", "sandbox") as (host, sandbox):
        made = BadNode(host, sandbox, tmp_path)
        yield made
        made.kill_children()


@pytest.fixture
def _calls_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "GRACE", 0.1)
    monkeypatch.setattr(deadline, "LEAST", 0.2)
    monkeypatch.setattr(deadline, "OTHERS", 6.0)
    for name in ("TO_ADD", "TO_UNDO"):
        monkeypatch.setattr(deadline, name, 3.0)
    monkeypatch.setattr(deadline, "CALLS", {"ADD": 6.0})


@contextlib.contextmanager
def ending_soon() -> Iterator[None]:
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < SOON


def until_dead(pids: list[str]) -> None:
    """Wait until none of the processes is at work; a zombie is not."""

    def works(pid: str) -> bool:
        try:
            return (PROC / pid / "stat").read_text().rpartition(") ")[2][:1] not in "ZX"
        except OSError:
            return False

    end = time.monotonic() + SOON
    while any(map(works, pids)):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_plugin_that_is_ended_takes_its_children_along(node: BadNode):
    family = "echo $$ >>{pids}; for child in 1 2; do (trap '' TERM; sleep 1000) & echo $! >>{pids}; done; wait"
    node.misbehave(family, "ADD", hangs=True)
    assert node.call("ADD").verdict == HUNG
    pids = node.pids.read_text().split()
    assert len(pids) == 3
    until_dead(pids)


@pytest.mark.usefixtures("_calls_are_short")
@pytest.mark.parametrize("parallel", [True, False])
def test_many_that_hang_in_their_delete_keep_no_other_from_being_undone(parallel: bool, node: BadNode):
    many = [f"bad{number}" for number in range(5)]
    for name in many:
        node.define(name, {"cniVersion": "1.0.0", "name": name, "type": "bad"})
    node.conf["parallel"] = parallel
    node.run(",".join(["first", *many, "good", "last"]))
    before = node.state()
    assert node.call("ADD").status == 0
    node.misbehave(FOREVER, "DEL", hangs=True)
    node.conf["pluginTimeout"] = 3  # half of the call's
    with ending_soon():
        answer = node.call("DEL")
    assert answer.verdict[0] == 103
    assert answer.text.count("PLX-PLUGIN-HUNG") == len(many)
    assert node.state() == before | {"files": ["state/containers/c1@eth0.json"]}
    assert node.calls_of_good.read_text().split() == ["ADD", "DEL"]
    assert "what was left for it of the call" in answer.text
    node.misbehave("")
    assert node.call("DEL").status == 0
    assert node.state() == before


@pytest.mark.usefixtures("_calls_are_short")
def test_an_add_that_hangs_everywhere_ends_in_time(node: BadNode):
    node.misbehave(FOREVER, "ADD", "DEL")  # and may take longer than the call
    before = node.state()
    with ending_soon():
        assert node.call("ADD").verdict == HUNG
    assert node.state() == before | {"files": ["state/containers/c1@eth0.json"]}


def test_an_address_plugin_that_hangs_leaves_no_interface_of_the_bridge(node: BadNode):
    ipam = {"cniVersion": "1.0.0", "name": "bad", "type": "bridge", "bridge": "multus3", "ipam": {"type": "bad"}}
    node.define("bad", ipam)
    before = node.state()
    node.misbehave(FOREVER, "ADD", hangs=True)
    answer = node.call("ADD")
    assert answer.verdict == HUNG
    assert 'plugin "bad" did not end' in answer.data["msg"]
    assert node.state() == before
    node.misbehave("")
    assert node.call("ADD").status == 0
    node.misbehave(FOREVER, "DEL", hangs=True)
    assert node.call("DEL").verdict == HUNG
    assert node.state() == before | {"files": ["state/containers/c1@eth0.json"]}


def test_a_configuration_that_nobody_reads_holds_nobody_up(node: BadNode):
    large = {"cniVersion": "1.0.0", "name": "bad", "type": "bad", "filling": "x" * 10_000_000}
    node.run("")
    for script, expected in ((FOREVER, HUNG), (f"exec <&-; echo '{RESULT}'", OK), (f"echo '{RESULT}'", OK)):
        node.misbehave(script, "ADD", hangs=script == FOREVER)
        with ending_soon():
            assert node.call("ADD", delegates=[large]).verdict == expected
        assert node.call("DEL").status == 0


def test_all_of_a_large_configuration_comes_to_who_reads_it(tmp_path: Path):
    text = b"x" * 700_000
    ended = process.run(["/bin/cat"], text, {}, SOON)
    assert (ended.stdout, ended.returncode, ended.fault) == (text, 0, "")


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo a; exit 3", (3, b"a\n", "")),
        ("sleep 1000 & echo $! >&2; echo a", (0, b"a\n", "")),
        ("exec >&- 2>&-; sleep 0.1; exit 4", (4, b"", "")),
        ("cat >/dev/null; kill -9 $$", (-9, b"", "")),
    ],
)
@pytest.mark.parametrize("kernel_is_old", [True, False], ids=["the kernel is old", "Python is"])
def test_where_the_kernel_does_not_tell_of_an_end_it_is_looked_for(
    kernel_is_old: bool, script: str, expected: Any, monkeypatch: pytest.MonkeyPatch
):
    def refuse(pid: int, flags: int = 0) -> int:
        raise OSError(38, "Function not implemented")

    if kernel_is_old:
        monkeypatch.setattr(os, "pidfd_open", refuse)
    else:
        monkeypatch.delattr(os, "pidfd_open")
    with ending_soon():
        ended = process.run(["/bin/sh", "-c", script], b"x", {"PATH": "/usr/bin:/bin"}, SOON)
    for left in ended.stderr.split():
        os.kill(int(left), signal.SIGKILL)
    assert (ended.returncode, ended.stdout, ended.fault) == expected
    assert process.run(["/bin/sh", "-c", FOREVER], b"", {"PATH": "/usr/bin:/bin"}, 0.1).fault == process.HUNG


def test_a_program_of_the_system_that_hangs_or_leaves_a_child_holds_nobody_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(program, "TIMEOUT", 0.3)
    monkeypatch.setattr(program, "MOST", 3_000_000)
    with ending_soon():
        assert program.run(["/bin/sh", "-c", "sleep 1000 & sleep 1000"])[1].startswith("sh did not end within")
        assert "printed more than" in program.run(["/bin/sh", "-c", "yes"])[1]
        monkeypatch.setattr(program, "TIMEOUT", SOON)
        assert program.run(["/bin/sh", "-c", "cat; (sleep 3) & exit 0"], b"x" * 2_000_000) == (b"x" * 2_000_000, "")
        assert program.run(["/bin/sh", "-c", "echo no >&2; exit 1"]) == (b"", "no")


def test_whoever_is_interrupted_ends_the_plugin_too(tmp_path: Path):
    pid = tmp_path / "pid"
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom cni.linux import process\n"
    code += f"process.run(['/bin/sh', '-c', 'echo $$ >{pid}.new; mv {pid}.new {pid}; sleep 1000'], b'', {{}}, 900)"
    command = [sys.executable, "-I", "-c", code]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env={"PATH": "/usr/bin:/bin"}) as running:
        end = time.monotonic() + SOON
        while not pid.exists():
            assert time.monotonic() < end
            time.sleep(0.02)
        running.send_signal(signal.SIGINT)
        assert running.wait(SOON) == -signal.SIGINT
    until_dead(pid.read_text().split())


def test_who_cleans_up_is_held_up_by_no_plugin(node: BadNode, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(disk, "kind", lambda _: "ext4")
    monkeypatch.setattr(strays, "find", list)
    monkeypatch.setattr(reclaim, "LONGEST", 10.0)
    records = Ledger(str(node.directory / "state" / "containers"))
    for ledger, container, kind in (
        (records, "a", "bad"),
        (records, "b", "good"),
        (records.unfinished, "c", "bad"),
        (records.unfinished, "d", "good"),
    ):
        conf = json.dumps({"cniVersion": "1.0.0", "name": kind, "type": kind})
        entry = Entry(network=kind, conf=conf, ifname="eth0")
        record = Record(container_id=container, ifname="eth0", netns="/n", boot_id="an-earlier-one", entries=(entry,))
        ledger.write(record)
    node.misbehave(FOREVER, "DEL", hangs=True)
    request = Request(command="GC", path=(str(node.bin),), environ=node.environ("GC")).with_conf(node.conf)

    with ending_soon():
        outcomes = netns.run_inside(node.host.path, lambda: reclaim.collect(Reclaimer.of(request), 0.0, lambda _: None))

    told = {outcome.finding.container: (outcome.removed, outcome.failure) for outcome in outcomes}
    assert [name for name, (removed, _) in told.items() if removed] == ["b", "d"]
    assert all("PLX-PLUGIN-HUNG" in told[name][1] for name in "ac")
    assert [record.container_id for record in records.records()] == ["a"]
    assert [record.container_id for record in records.unfinished.records()] == ["c"]


CASES = (
    "hangs-and-ignores-that-it-is-told-to-end",
    "prints-a-hundred-megabytes",
    "leaves-a-child-with-its-output",
    "writes-strange-letters-to-stderr",
    "nests-deeply",
    "dies",
)


class Installed(BadNode):
    """The same on a host of its own, called by the installed launcher."""

    def __init__(self, host: Host, directory: Path) -> None:
        self.launchers = launchers(directory / "installed")
        super().__init__(host, host.namespace("sandbox"), directory)

    def call(self, verb: str, *, environ: dict[str, str] | None = None, **keys: Any) -> Answer:
        told = self.environ(verb) | (environ or {})
        done = self.host.call(str(self.launchers / "plexus"), stdin=json.dumps(self.conf | keys), environ=told)
        return Answer(done.returncode, done.stdout, done.stderr)

    def left(self) -> list[Any]:
        """What there is of the pod."""
        links = [name for name in self.host.links() if name.startswith("veth")]
        files = [str(path.relative_to(self.directory)) for path in self.state_files()]
        return [links, self.sandbox.links(), files]


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[Installed]:
    tools("ip", "nft", "unshare", "nsenter")
    (tmp_path / "installed").mkdir()
    with throwaway_host() as host:
        yield Installed(host, tmp_path)


def come_and_go_badly(node: Installed, cases: Sequence[str]) -> None:
    """Each case in ADD, and in DEL, and again without it."""
    for case in cases:
        fault = FAULTS[case]
        node.meet(fault, "ADD")
        added = node.call("ADD")
        assert added.verdict == fault.add, added.text
        if fault.add != OK:
            assert node.left() == [[], ["lo"], []]
            node.misbehave("")
            assert node.call("ADD").status == 0
        node.meet(fault, "DEL")
        deleted = node.call("DEL")
        assert deleted.verdict == fault.others, deleted.text
        left = [] if fault.others == OK else ["state/containers/c1@eth0.json"]
        assert node.left() == [[], ["lo"], left]
        node.misbehave("")
        assert node.call("DEL").text == ""
        assert node.left() == [[], ["lo"], []]
        assert SECRET not in added.text + added.stderr + deleted.text + deleted.stderr


def test_the_installed_launcher_answers_whatever_a_plugin_does(installed: Installed):
    come_and_go_badly(installed, CASES[:4])


def test_the_daemon_answers_whatever_plugins_do_and_serves_others_meanwhile(installed: Installed):
    bad = installed
    with node_daemon.running(bad.launchers, "--slots", "2", before=bad.host.command()) as daemon:
        come_and_go_badly(bad, CASES)
        assert daemon.begun("ADD") >= len(CASES)
        bad.misbehave("trap '' TERM; while :; do sleep 9; done", "ADD", "DEL", hangs=True)
        bystander = bad.host.namespace("bystander")
        told = {"CNI_NETNS": bystander.path, "CNI_ARGS": ""}
        with ThreadPoolExecutor(2) as threads, ending_soon():
            hanging = threads.submit(bad.call, "ADD")
            for number in range(3):
                environ = told | {"CNI_CONTAINERID": f"other{number}"}
                assert bad.call("ADD", environ=environ).status == 0
                assert bad.call("DEL", environ=environ).status == 0
            assert hanging.result().verdict == HUNG
        assert daemon.memory() < 128
        assert "stuck" not in daemon.said()
    assert bad.left() == [[], ["lo"], ["state/containers/c1@eth0.json"]]
