"""Nodes, containers and accidents in any order: nothing is given twice or left, and nobody living is touched.

Three nodes with small networks, two of which have their leases in one place, as on NFS. Containers are added, checked
and deleted; calls are killed at any change that they make, or are refused it; sandboxes end without a DEL, ports are
deleted, definitions change, clocks jump, and machines lose their power. `--nightly` takes ten thousand steps by a seed
that it prints, and PLEXUS_TESTS_SEED gives again.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import os
import random
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from installed import tools
from mortal_node import Doors, Node, identities
from several_nodes import BROKEN, COUNTED, DEFINITIONS, EXECUTED, HALF, LIVING, REFERENCE, Cluster, Container

NIGHTLY = os.environ.get("PLEXUS_TESTS_NIGHTLY") == "1"
PARTS = (1, 2)
"""Halves of the test, which may run at the same time."""
LIVES, STEPS = (55, 100) if NIGHTLY else (3, 80)
"""How often all begins anew in each, and how many steps there are each time."""
MOST = 7
"""Containers on a node."""
FULL = "PLX-IPAM-FULL"
SHAPES = [(), ("red",), ("blue",), ("red", "blue"), ("blue", "red"), (EXECUTED,), ("red", "blue", EXECUTED)]
if not (REFERENCE / "ptp").is_file():
    SHAPES = [shape for shape in SHAPES if EXECUTED not in shape]
CLOCKS = (-86400.0 * 365, -700.0, 0.0, 700.0, 86400.0 * 365)
"""Seconds by which a clock may be wrong."""
OFTEN = {
    "come": 5,
    "come_with_an_accident": 6,
    "come_in_vain": 1,
    "delete": 2,
    "delete_with_an_accident": 4,
    "check": 1,
    "collect": 1,
    "collect_with_an_accident": 2,
    "ask_for_status": 1,
    "reclaim": 1,
    "reclaim_with_an_accident": 2,
    "end_a_sandbox_without_a_delete": 2,
    "delete_a_port_behind_our_back": 1,
    "change_a_definition": 1,
    "lose_power": 1,
    "set_the_clock": 1,
}
"""What may happen, and how often."""
WITHOUT = st.sets(st.sampled_from(sorted(set(OFTEN) - {"come"})), max_size=5)
"""What does not happen in one of the lives, so that something else comes to an end in it: a network is full, say."""


@dataclasses.dataclass(frozen=True)
class Turn:
    """All that is chosen for a step."""

    place: int
    """Chooses among what there is."""

    other: int
    shape: tuple[str, ...]
    doors: Doors
    is_named: bool
    """Whether a DEL names the namespace."""

    is_told: bool
    """Whether it tells the result."""


TURNS = st.builds(
    Turn,
    st.integers(0, 999),
    st.integers(0, 999),
    st.sampled_from(SHAPES),
    st.builds(
        Doors,
        st.integers(0, 9999),
        st.sampled_from(["kill", "kill", "kill", "kernel", "file"]),
        lasting=st.booleans(),
    ),
    st.booleans(),
    st.booleans(),
)

AT_RANDOM = settings(
    max_examples=LIVES,
    stateful_step_count=STEPS,
    deadline=None,
    database=None,
    report_multiple_bugs=False,
    phases=[Phase.generate],  # to look for less that goes wrong as well would take hours
    suppress_health_check=list(HealthCheck),
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")


class RandomLife(RuleBasedStateMachine):
    """What may happen."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(dir=directory))
        self.cluster = Cluster(self.directory)
        self.may_happen: list[str] = []
        self.steps = 0
        self.is_right = True
        """Whether the last step came to its end."""

        for place, shape in enumerate(SHAPES[:3]):
            self.cluster.add(self.cluster.new(self.node(place), shape))

    @initialize(without=WITHOUT)
    def begin(self, without: set[str]) -> None:
        self.may_happen = [what for what, times in OFTEN.items() if what not in without for _ in range(times)]

    @rule(what=st.integers(0, 9999), turn=TURNS)
    def step(self, what: int, turn: Turn) -> None:
        """Do one thing, and have all be as it must."""
        self.is_right = False
        name = self.may_happen[what % len(self.may_happen)]
        self.cluster.happened.append(f"{name} {turn}")
        getattr(self, name)(turn)
        self.cluster.must_be_kept()
        self.cluster.must_be_in_place()
        self.steps += 1
        if self.steps % 10 == 0:
            self.cluster.must_pass()
        COUNTED["steps"] += 1
        self.is_right = True

    def node(self, place: int) -> Node:
        return self.cluster.nodes[place % len(self.cluster.nodes)]

    def one(self, place: int, *states: str) -> Container | None:
        """One of the containers, of those in such a state."""
        found = [one for one in self.cluster.containers if not states or (one.state in states and not one.dead)]
        return found[place % len(found)] if found else None

    def new(self, place: int, shape: tuple[str, ...]) -> Container:
        """One that is about to be added, where there is room for it; else another makes some."""
        node = self.node(place)
        here = [container for container in self.cluster.containers if container.node is node]
        if len(here) >= MOST:
            container = here[place % MOST]
            self._delete(container, self._named(container), told=True)
        return self.cluster.new(node, shape)

    # The runtime's calls

    def come(self, turn: Turn) -> None:
        """A pod comes: it gets what it asks for, or nothing."""
        container = self.new(turn.place, turn.shape)
        outcome = self.cluster.add(container)
        if not outcome.ok:
            self.cluster.must_have_been_impossible(container, outcome)
            assert not (left := self.cluster.traces(container)), left
            self._delete(container, self._named(container), told=False)

    def come_with_an_accident(self, turn: Turn) -> None:
        container = self.new(turn.place, turn.shape)
        outcome = self.cluster.add(container, turn.doors)
        if outcome.failure and not turn.doors.lasting and outcome.id != FULL:
            assert not (left := self.cluster.traces(container)), (left, outcome)
            assert container.space.links() == set()

    def come_in_vain(self, turn: Turn) -> None:
        """What the specification forbids, or cannot be done."""
        if turn.other % 3 == 0:
            self._add_again(turn.place)
            return
        is_nowhere = turn.other % 3 == 1
        container = self.new(turn.place, () if is_nowhere else ("red", "nowhere"))
        if is_nowhere:
            container.space.end()
            container.dead = True
        outcome = self.cluster.add(container)
        assert outcome.id == ("PLX-NETNS" if is_nowhere else "PLX-NAD-MISSING"), outcome
        self.cluster.forget(container)

    def _add_again(self, place: int) -> None:
        container = self.one(place, LIVING, BROKEN, HALF)
        if container and container.lives:
            before = dataclasses.replace(container)
            assert self.cluster.add(container).id in ("PLX-ADDED-TWICE", "PLX-NAD-MISSING")
            assert container == before
        elif container:
            self.cluster.add(container)

    def delete(self, turn: Turn) -> None:
        """A DEL, with and without the namespace, the result, and a pod that is there still; and once more."""
        container = self.one(turn.place)
        if container:
            if turn.other % 2:
                (container.node.manifests / f"{container.pod}.json").unlink(missing_ok=True)
            self._delete(container, self._named(container) if turn.is_named else "", told=turn.is_told)

    def _named(self, container: Container) -> str:
        """The namespace that a runtime names: of one that is gone none, where another has its path and no marks.

        What the reference's plugins have made is found by the name of the interface only, theirs or ours.
        """
        others = [
            one for one in self.cluster.containers if one is not container and one.space.path == container.space.path
        ]
        return "" if any(one.executed or container.executed for one in others) else container.space.path

    def _delete(self, container: Container, netns: str, *, told: bool) -> None:
        outcome = self.cluster.delete(container, netns=netns, told=told)
        assert outcome.ok, outcome
        if container not in self.cluster.containers:
            assert self.cluster.delete_again(container, told=told).ok

    def delete_with_an_accident(self, turn: Turn) -> None:
        container = self.one(turn.place)
        if container:
            netns = self._named(container) if turn.is_named else ""
            self.cluster.delete(container, turn.doors, netns=netns, told=turn.is_told)

    def check(self, turn: Turn) -> None:
        container = self.one(turn.place, LIVING, BROKEN)
        if container:
            outcome = self.cluster.check(container)
            assert outcome.ok == (container.state == LIVING), outcome

    def collect(self, turn: Turn) -> None:
        outcome = self.cluster.collect(self.node(turn.place))
        assert outcome.ok, outcome

    def collect_with_an_accident(self, turn: Turn) -> None:
        self.cluster.collect(self.node(turn.place), turn.doors)

    def ask_for_status(self, turn: Turn) -> None:
        self.cluster.status_must_be_true(self.node(turn.place))

    # What cleans up without being asked

    def reclaim(self, turn: Turn) -> None:
        outcome = self.cluster.reclaim(self.node(turn.place), by_daemon=turn.is_told)
        assert outcome.ok, outcome

    def reclaim_with_an_accident(self, turn: Turn) -> None:
        self.cluster.reclaim(self.node(turn.place), turn.doors, by_daemon=turn.is_told)

    # Accidents

    def end_a_sandbox_without_a_delete(self, turn: Turn) -> None:
        container = self.one(turn.place, LIVING, BROKEN, HALF)
        if container:
            COUNTED["sandbox ended"] += 1
            self.cluster.die(container)

    def delete_a_port_behind_our_back(self, turn: Turn) -> None:
        container = self.one(turn.place, LIVING)
        if container:
            COUNTED["port deleted"] += 1
            ports = sorted(container.ports.values())
            container.node.host.run("ip", "link", "del", ports[turn.other % len(ports)])
            container.state = BROKEN

    def change_a_definition(self, turn: Turn) -> None:
        """To what it may say besides, or to none; and back."""
        COUNTED["definition changed"] += 1
        name = sorted(DEFINITIONS)[turn.other % len(DEFINITIONS)]
        versions = [*range(len(DEFINITIONS[name])), 0, None]
        self.cluster.define(self.node(turn.place), name, versions[turn.doors.place % len(versions)])

    def lose_power(self, turn: Turn) -> None:
        COUNTED["power lost"] += 1
        self.cluster.lose_power(self.node(turn.place))

    def set_the_clock(self, turn: Turn) -> None:
        COUNTED["clock set"] += 1
        self.node(turn.place).offset = CLOCKS[turn.other % len(CLOCKS)]

    def teardown(self):
        try:
            if self.is_right:
                self.is_right = False
                self._end()
                self.is_right = True
        finally:
            if not self.is_right:
                print("", *self.cluster.happened, sep="\n")
            self.cluster.close()
            shutil.rmtree(self.directory)

    def _end(self):
        """Some are deleted, some die, and some survive: of those alone is anything left."""
        cluster = self.cluster
        for place, container in enumerate(list(cluster.containers)):
            if place % 3 == 0:
                self._delete(container, self._named(container), told=True)
            elif not container.dead and (place % 3 == 1 or container.state != LIVING):
                cluster.die(container)
        for node in cluster.nodes:
            assert cluster.reclaim(node).ok
        assert all(container.lives for container in cluster.containers)
        cluster.must_be_kept()
        cluster.must_be_in_place()
        cluster.must_pass()
        cluster.nothing_else_must_be_left()
        for container in list(cluster.containers):
            gateway = next(ipaddress.ip_interface(address) for name, address in container.leases if name == "cluster")
            assert container.space.pings(str(gateway.network[1]))
            COUNTED["survivor pinged"] += 1
            self._delete(container, self._named(container), told=True)
        cluster.nothing_else_must_be_left()


@pytest.fixture(autouse=True)
def _tools():
    tools("ip", "nft", "nsenter", "ping")


@pytest.mark.parametrize("part", PARTS)
def test_whatever_happens_nothing_is_given_twice_nothing_is_left_and_nobody_living_is_touched(part, tmp_path):
    number = int(os.environ.get("PLEXUS_TESTS_SEED") or (random.randrange(10**9) if NIGHTLY else part))
    print(f"PLEXUS_TESTS_SEED={number}")
    COUNTED.clear()

    @seed(number)
    def life() -> RandomLife:
        return RandomLife(tmp_path)

    with identities(tmp_path):
        run_state_machine_as_test(life, settings=AT_RANDOM)
    print(json.dumps(COUNTED, indent=1, sort_keys=True))
