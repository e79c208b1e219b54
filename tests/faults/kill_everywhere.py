"""Be killed before every call that changes something, and see what the runtime's DEL and one `plexus gc` leave of it.

It is told by JSON `who` is killed over which `verb`, at which of its calls (`first`, and then every `step`), and what
`fates` follow in turns, and prints JSON: `points` (number, system call, of what), and what is wrong. It is the first
process of namespaces of its own: whoever is executed has no other parent than it when his own is killed.
"""

import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import killed_node
import traced
from killed_node import Called, Container, Node, run
from traced import Call, Traced

from cni.cli import collect, command  # noqa: F401 - loaded here, it need not be loaded by each that we fork
from cni.node import daemon

WATCHDOG = 60
"""Seconds for one point, of which none takes one."""
MEETING = 10.0
"""Seconds in which a DEL has ended, or waits."""
EVERY_NETWORK = ["cluster", "guarded", "cable", "routed"]
LOOK = 10
"""Points between two looks whether the living have what they need."""
PASSING = 11
"""The code of an answer that has the runtime try again."""


class Hung(Exception):
    """A point did not end in time."""


class Point:
    """One killing, and all that follows."""

    def __init__(self, node: Node, at: int, fate: str) -> None:
        self.node = node
        self.at = at
        self.fate = fate
        self.victim = Container(f"dies{at}", "dies", "dies")
        self.told: dict[str, Any] | None = None
        self.outcome = ""
        self.problems: list[str] = []

    def call(self, verb: str, container: Container, told: dict[str, Any] | None = None) -> dict[str, Any]:
        """What must succeed."""
        called = self.node.call(verb, container, told)
        return self.succeeds(called, f"{verb} of {container.name}")

    def succeeds(self, called: Called, what: str) -> dict[str, Any]:
        called.begin()
        called.end()
        return self.succeeded(called, what)

    def succeeded(self, called: Called, what: str) -> dict[str, Any]:
        answer = {} if called.status else called.answer
        if called.status:
            self.problems.append(f"{what} failed: {called.why}")
        called.close()
        return answer

    def finish(self) -> None:
        """Have done to the container what becomes of it."""
        if self.fate == "deleted meanwhile":
            return
        if self.fate == "again":
            self.another()
        if self.fate == "forgotten":
            self.forget()
        else:
            self.call("DEL", self.victim, self.told)
            everybody_else_has_ended()
            self.same("the sandbox", self.node.inside(self.victim), EMPTY)

    def another(self) -> None:
        """Have the pod in another container, while the first one is there as it was left."""
        before = self.node.addresses(self.victim) | self.node.addresses(SURVIVOR)
        other = Container(f"{self.victim.name}again", "dies", "again")
        result = self.call("ADD", other)
        twice = before & self.node.addresses(other)
        if twice:
            self.problems.append(f"given twice: {twice}")
        self.call("CHECK", other, result)
        self.call("DEL", other, result)

    def forget(self) -> None:
        """Have the sandbox go, with all that the kernel takes along by and by, and another in its place."""
        everybody_else_has_ended()
        if os.path.exists(self.victim.netns):
            run("ip", "netns", "del", self.victim.sandbox)
        self.node.add_sandbox(self.victim.sandbox)
        while not set(self.node.host_links()) <= HOST_LINKS:
            time.sleep(0.005)

    def same(self, what: str, found: Any, expected: Any) -> None:
        """Note every difference."""
        if isinstance(expected, dict):
            for key in sorted({*expected, *found}):
                self.same(f"{what}, {key}", found.get(key), expected.get(key))
        elif found != expected:
            more = [entry for entry in found or () if entry not in (expected or ())]
            less = [entry for entry in expected or () if entry not in (found or ())]
            told = f"{more} instead of {less}" if isinstance(expected, list) else f"{found!r} instead of {expected!r}"
            self.problems.append(f"{what}: {told}")


EMPTY: list[Any] = []
"""What there is in a sandbox without networks."""
HOST_LINKS: set[str] = set()
"""Those that are nobody's, or the survivor's."""
SURVIVOR = Container("stays1", "stays", "stays")


def everybody_else_has_ended() -> None:
    """Wait for all who were executed and have lost their parent."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def ended_or_waits(pid: int) -> None:
    """Wait until a child has ended, or sleeps until somebody else is done; kernels that do not tell take it longer."""
    end = time.monotonic() + MEETING
    while not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        if "nanosleep" in Path(f"/proc/{pid}/wchan").read_text() or time.monotonic() > end:
            return
        time.sleep(0.005)


class Killing:
    """Points, one after the other, each on a node that is as the one before must have left it."""

    def __init__(self, node: Node, who: str, verb: str) -> None:
        self.node = node
        self.who = who
        self.verb = verb
        self.points: list[tuple[int, str, str]] = []
        self.problems: list[str] = []
        self.counted: Counter[str] = Counter()
        self.base: dict[str, Any] = {}

    def every(self, first: int, step: int, fates: list[str]) -> None:
        """All points, up to two in a row that there are not: how many there are differs a little each time."""
        missed = 0
        for turn, at in enumerate(itertools.count(first, step)):
            point = Point(self.node, at, fates[turn % len(fates)])
            signal.alarm(WATCHDOG)
            call = self.one(point)
            signal.alarm(0)
            where = f"{call.number}, {call.name} {call.what}" if call else "none"
            told = f"{self.who} {self.verb} killed before {where}, then {point.fate}"
            self.problems += [f"{told}: {problem}" for problem in point.problems]
            missed = 0 if call else missed + 1
            if missed == 2 or len(self.problems) > 20:
                return
            if call:
                self.points.append((call.number, call.name, call.what))
                self.counted.update([point.fate, *([point.outcome] if point.outcome else [])])

    def one(self, point: Point) -> Call | None:
        if self.verb != "ADD":
            point.told = point.call("ADD", point.victim)
        if self.verb == "GC":
            point.forget()
            point.fate = "forgotten"
        call = getattr(self, f"kill_{self.who}")(point)
        point.finish()
        point.succeeds(self.node.clean_up(), "GC")
        everybody_else_has_ended()
        state = self.node.state()
        point.same("after all", state, self.base)
        self.base = state  # what was left once need not be told again
        if len(self.points) % LOOK == 0:
            self.survives(point)
        return call

    def kill_process(self, point: Point) -> Call | None:
        """In process: there is no daemon."""
        gc = self.verb == "GC"
        called = self.node.clean_up() if gc else self.node.call(self.verb, point.victim, point.told)
        followed = Traced(called.pid, point.at)
        followed.attach()
        called.begin()
        followed.follow()
        called.close()
        return followed.killed

    def kill_daemon(self, point: Point) -> Call | None:
        """The daemon, at work for a launcher, which then goes on alone."""
        serving = begin_daemon(self.node)
        called = self.node.call(self.verb, point.victim, point.told)
        followed = Traced(serving, point.at)
        followed.attach()
        called.begin()
        followed.follow(lambda: called.pid in followed.others)
        if followed.status is None:
            followed.kill()
        called.status = followed.others[called.pid] if called.pid in followed.others else called.end().status
        self.ended(point, called)
        return followed.killed

    def kill_launcher(self, point: Point) -> Call | None:
        """The launcher, while the daemon goes on, and serves the DEL too."""
        serving = begin_daemon(self.node)
        called = self.node.call(self.verb, point.victim, point.told)
        followed = Traced(called.pid, point.at)
        followed.attach()
        called.begin()
        followed.follow()
        called.close()
        if point.fate != "forgotten":
            point.call("DEL", point.victim, point.told)
        os.kill(serving, signal.SIGTERM)
        os.waitpid(serving, 0)
        return followed.killed

    def kill_waiting(self, point: Point) -> Call | None:
        """The launcher, at each call of the daemon that serves it; its DEL comes while the daemon is at work still."""
        serving = begin_daemon(self.node)
        called = self.node.call(self.verb, point.victim, point.told)
        followed = Traced(serving, point.at, instead=called.pid)
        followed.attach()
        called.begin()
        followed.follow(lambda: called.pid in followed.others)
        followed.at = 0
        called.close()
        if point.fate != "forgotten":
            deleting = self.node.call("DEL", point.victim, point.told)
            deleting.begin()
            followed.follow(lambda: deleting.pid in followed.others)
            deleting.status = followed.others[deleting.pid]
            point.succeeded(deleting, "DEL by the daemon")
        os.kill(serving, signal.SIGTERM)
        followed.follow()
        return followed.killed

    def kill_runtime(self, point: Point) -> Call | None:
        """The runtime, whose ADD goes on, and is at that call when the DEL of the next runtime comes.

        That one takes the sandbox away as soon as its DEL has succeeded. The ADD cannot always tell that its runtime is
        gone: its output may go to a file.
        """
        point.fate = "deleted meanwhile"
        adding = self.node.call("ADD", point.victim, by_pipe=point.at % 2 == 1)
        waiting: list[Called] = []

        def meet() -> None:
            adding.hang_up()
            deleting = self.node.call("DEL", point.victim)
            deleting.begin()
            ended_or_waits(deleting.pid)
            if os.waitid(os.P_PID, deleting.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                point.succeeded(deleting.end(), "DEL that did not wait")
                run("ip", "netns", "del", point.victim.sandbox)
            else:
                waiting.append(deleting)

        followed = Traced(adding.pid, point.at, meanwhile=meet)
        followed.attach()
        adding.begin()
        followed.follow()
        adding.close()
        for deleting in waiting:
            deleting.status = followed.others.get(deleting.pid)
            point.succeeded(deleting if deleting.status is not None else deleting.end(), "DEL that waited")
            point.same("the sandbox", self.node.inside(point.victim), EMPTY)
        if not followed.killed:
            point.call("DEL", point.victim)
        point.forget()
        point.same("when both have ended", self.node.state(), self.base)
        return followed.killed

    def ended(self, point: Point, called: Called) -> None:
        """How the launcher ended without the daemon."""
        code = called.answer.get("code") if called.status else 0
        point.outcome = f"answered {code}"
        if code == PASSING:
            called.close()
        else:
            point.told = point.succeeded(called, f"{self.verb} whose daemon was killed") or point.told
        if self.verb == "ADD" and not code:
            point.call("CHECK", point.victim, point.told)

    def survives(self, point: Point) -> None:
        point.call("CHECK", SURVIVOR, self.survivors)
        point.problems += [f"the survivor does not reach {address}" for address in self.node.pings(SURVIVOR)]

    def prepare(self) -> None:
        """Have the one who lives, and one who has come and gone."""
        begun = Point(self.node, 0, "deleted")
        self.survivors = begun.call("ADD", SURVIVOR)
        EMPTY.extend(self.node.inside(begun.victim))
        begun.told = begun.call("ADD", begun.victim)
        begun.finish()
        self.base = self.node.state()
        HOST_LINKS.update(self.node.host_links())
        assert not begun.problems, begun.problems


class First(Killing):
    """The container is the first of the node, and one that comes after it finds what was left of it."""

    def one(self, point: Point) -> Call | None:
        self.reset()
        call = self.kill_process(point)
        point.fate = "deleted"
        point.finish()
        point.succeeds(self.node.clean_up(), "GC")
        everybody_else_has_ended()
        point.same("files, after all", list(self.node.files()), [])
        result = self.come(point)
        point.same("the next one's node", self.seen(), self.base)
        if len(self.points) % LOOK == 0:
            point.problems += [f"the next one does not reach {address}" for address in self.node.pings(SURVIVOR)]
        point.call("DEL", SURVIVOR, result)
        return call

    def come(self, point: Point) -> dict[str, Any]:
        for path in (self.node.directory / "leases").rglob("last_reserved_ip.*"):
            path.unlink()
        result = point.call("ADD", SURVIVOR)
        point.call("CHECK", SURVIVOR, result)
        return result

    def seen(self) -> dict[str, Any]:
        """All but the content of files, in which there are MACs."""
        state = self.node.state()
        return state | {"files": sorted(state["files"])}

    def reset(self) -> None:
        for link in json.loads(run("ip", "-json", "link")):
            if link["ifname"] != "lo":
                run("ip", "link", "del", link["ifname"])
        run("nft", "flush", "ruleset")
        for name in ("state", "leases"):
            shutil.rmtree(self.node.directory / name, ignore_errors=True)

    def prepare(self) -> None:
        begun = Point(self.node, 0, "deleted")
        EMPTY.extend(self.node.inside(begun.victim))
        result = self.come(begun)
        self.base = self.seen()
        begun.call("DEL", SURVIVOR, result)
        assert not begun.problems, begun.problems


def begin_daemon(node: Node) -> int:
    """Have one that is ready."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        address = f"{node.directory}/notify"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(address)
        heard.bind(address)
        pid = os.fork()
        if not pid:
            heard.close()
            _be_daemon(node, address)
        assert heard.recv(100) == b"READY=1"
    return pid


def _be_daemon(node: Node, notified: str) -> None:
    try:
        log = os.open(f"{node.directory}/daemon.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for number in (1, 2):
            os.dup2(log, number)
        os.environ["PATH"] = killed_node.PATH
        daemon.run(daemon.Settings(socket=node.socket, slots=2), {"NOTIFY_SOCKET": notified})
    finally:
        os._exit(0)


def processes() -> Iterator[str]:
    """Who is there, and what they wait in."""
    for task in Path("/proc").glob("[0-9]*/task/*"):
        with contextlib.suppress(OSError):
            told = [(task / name).read_text().strip() for name in ("comm", "syscall", "wchan")]
            yield f"{task.relative_to('/proc')}: {' '.join(told)}"


def _hung(number: int, frame: Any) -> None:
    raise Hung("; ".join(processes()))


def main(told: dict[str, Any]) -> None:
    """Do it."""
    if why := traced.refusal():
        print(json.dumps({"refused": why}))
        return
    signal.signal(signal.SIGALRM, _hung)
    run("mount", "-t", "tmpfs", "tmpfs", "/run")
    run("mount", "-t", "tmpfs", "tmpfs", "/var/lib")
    run("ip", "link", "set", "lo", "up")
    os.umask(0o022)
    daemon.load()
    is_first = told["who"] == "first"
    # Names of links that the executed plugin makes are random, and could not be compared.
    node = Node(Path("/run/node"), EVERY_NETWORK[:3] if is_first else EVERY_NETWORK)
    for name in ("stays", "dies", "again"):
        node.add_sandbox(name)
    killing = (First if is_first else Killing)(node, told["who"], told["verb"])
    killing.prepare()
    try:
        killing.every(told["first"], told["step"], told["fates"])
    except BaseException as error:
        killing.problems.append(f"{type(error).__name__}: {error}")
        raise
    finally:
        print(json.dumps({"points": killing.points, "problems": killing.problems, "counted": killing.counted}))
