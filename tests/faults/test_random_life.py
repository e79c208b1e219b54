"""Nodes, containers and accidents in any order: nothing is given twice or left, and nobody living is touched.

Three nodes with small networks, two of which have their leases in one place, as on NFS. Containers are added, checked
and deleted; calls are killed at any change that they make, or are refused it; sandboxes end without a DEL, ports are
deleted, definitions change, clocks jump, and machines lose their power. `--nightly` takes ten thousand steps by a seed
that it prints, and PLEXUS_TESTS_SEED gives again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import itertools
import json
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from installed import tools
from mortal_node import Doors, Node, identities
from several_nodes import BROKEN, COUNTED, DEFINITIONS, EXECUTED, HALF, LIVING, REFERENCE, Cluster, Container

NIGHTLY = os.environ.get("PLEXUS_TESTS_NIGHTLY") == "1"
LIVES, STEPS = (110, 100) if NIGHTLY else (6, 100)
"""How often all begins anew, and how many steps there are each time."""
MOST = 7
"""Containers on a node."""
FULL = "PLX-IPAM-FULL"
PLACES = st.integers(0, 999)
"""Chooses among what there is."""
SHAPES = [(), ("red",), ("blue",), ("red", "blue"), ("blue", "red"), (EXECUTED,), ("red", "blue", EXECUTED)]
if not (REFERENCE / "ptp").is_file():
    SHAPES = [shape for shape in SHAPES if EXECUTED not in shape]
SHAPE = st.sampled_from(SHAPES)
DOORS = st.builds(
    Doors,
    st.integers(0, 9999),
    st.sampled_from(["kill", "kill", "kill", "kernel", "file"]),
    lasting=st.booleans(),
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")


class RandomLife(RuleBasedStateMachine):
    """What may happen."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(dir=directory))
        self.cluster = Cluster(self.directory)
        self.steps = itertools.count(1)
        self.is_right = True
        """Whether the last step came to its end."""

        for place, shape in enumerate(SHAPES[:3]):
            self.cluster.add(self.cluster.new(self.node(place), shape))

    def node(self, place: int) -> Node:
        return self.cluster.nodes[place % len(self.cluster.nodes)]

    def one(self, place: int, *states: str) -> Container | None:
        """One of the containers, of those in such a state."""
        found = [one for one in self.cluster.containers if not states or (one.state in states and not one.dead)]
        return found[place % len(found)] if found else None

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Do one thing, and have all be as it must."""
        self.is_right = False
        yield
        number = next(self.steps)
        self.cluster.must_be_kept()
        self.cluster.must_be_in_place()
        if number % 10 == 0:
            self.cluster.must_pass()
        self.is_right = True

    def new(self, place: int, shape: tuple[str, ...]) -> Container:
        """One that is about to be added, where there is room for it; else another makes some."""
        node = self.node(place)
        here = [container for container in self.cluster.containers if container.node is node]
        if len(here) >= MOST:
            container = here[place % MOST]
            self._delete(container, container.space.path, told=True)
        return self.cluster.new(node, shape)

    # The runtime's calls

    def _come(self, place, shape):
        """A pod comes: it gets what it asks for, or nothing."""
        with self.step():
            container = self.new(place, shape)
            outcome = self.cluster.add(container)
            if not outcome.ok:
                self.cluster.must_have_been_impossible(container, outcome)
                assert not (left := self.cluster.traces(container)), left
                self._delete(container, container.space.path, told=False)

    def _come_with_an_accident(self, place, shape, doors):
        with self.step():
            container = self.new(place, shape)
            outcome = self.cluster.add(container, doors)
            if outcome.failure and not doors.lasting and outcome.id != FULL:
                assert not (left := self.cluster.traces(container)), (left, outcome)
                assert container.space.links() == set()

    # Most of the steps: without those who live there is nothing to break.
    come = rule(place=PLACES, shape=SHAPE)(_come)
    come_too = rule(place=PLACES, shape=SHAPE)(_come)
    come_with_an_accident = rule(place=PLACES, shape=SHAPE, doors=DOORS)(_come_with_an_accident)
    come_with_another = rule(place=PLACES, shape=SHAPE, doors=DOORS)(_come_with_an_accident)

    @rule(place=PLACES, why=st.sampled_from(["attached", "no namespace", "no definition"]))
    def come_in_vain(self, place, why):
        """What the specification forbids, or cannot be done."""
        with self.step():
            if why == "attached":
                self._add_again(place)
                return
            shape, told = ((), "failed to open netns") if why == "no namespace" else (("red", "nowhere"), "nowhere")
            container = self.new(place, shape)
            if why == "no namespace":
                container.space.end()
                container.dead = True
            assert told in self.cluster.add(container).failure
            self.cluster.forget(container)

    def _add_again(self, place):
        container = self.one(place, LIVING, BROKEN, HALF)
        if container and container.lives:
            before = dataclasses.replace(container)
            assert self.cluster.add(container).id in ("PLX-ADDED-TWICE", "PLX-NAD-MISSING")
            assert container == before
        elif container:
            self.cluster.add(container)

    @rule(place=PLACES, is_named=st.booleans(), told=st.booleans(), is_known=st.booleans())
    def delete(self, place, is_named, told, is_known):
        """A DEL, with and without the namespace, the result, and a pod that is there still; and once more."""
        with self.step():
            container = self.one(place)
            if container:
                if not is_known:
                    (container.node.manifests / f"{container.pod}.json").unlink(missing_ok=True)
                self._delete(container, container.space.path if is_named else "", told=told)

    def _delete(self, container, netns, *, told):
        assert self.cluster.delete(container, netns=netns, told=told).ok
        if container not in self.cluster.containers:
            assert self.cluster.delete_again(container, told=told).ok

    @rule(place=PLACES, doors=DOORS, is_named=st.booleans(), told=st.booleans())
    def delete_with_an_accident(self, place, doors, is_named, told):
        with self.step():
            container = self.one(place)
            if container:
                self.cluster.delete(container, doors, netns=container.space.path if is_named else "", told=told)

    @rule(place=PLACES)
    def check(self, place):
        with self.step():
            container = self.one(place, LIVING, BROKEN)
            if container:
                assert self.cluster.check(container).ok == (container.state == LIVING)

    @rule(place=PLACES)
    def collect(self, place):
        with self.step():
            assert self.cluster.collect(self.node(place)).ok

    @rule(place=PLACES, doors=DOORS)
    def collect_with_an_accident(self, place, doors):
        with self.step():
            self.cluster.collect(self.node(place), doors)

    @rule(place=PLACES)
    def ask_for_status(self, place):
        with self.step():
            self.cluster.status_must_be_true(self.node(place))

    # What cleans up without being asked

    @rule(place=PLACES)
    def reclaim(self, place):
        with self.step():
            assert self.cluster.reclaim(self.node(place)).ok

    @rule(place=PLACES, doors=DOORS)
    def reclaim_with_an_accident(self, place, doors):
        with self.step():
            self.cluster.reclaim(self.node(place), doors)

    # Accidents

    @rule(place=PLACES)
    def end_a_sandbox_without_a_delete(self, place):
        with self.step():
            container = self.one(place, LIVING, BROKEN, HALF)
            if container:
                COUNTED["sandbox ended"] += 1
                self.cluster.die(container)

    @rule(place=PLACES)
    def delete_a_port_behind_our_back(self, place):
        with self.step():
            container = self.one(place, LIVING)
            if container:
                COUNTED["port deleted"] += 1
                ports = sorted(container.ports.values())
                container.node.host.run("ip", "link", "del", ports[place % len(ports)])
                container.state = BROKEN

    @rule(place=PLACES, name=st.sampled_from(sorted(DEFINITIONS)), version=st.sampled_from([0, 0, 1, 1, None]))
    def change_a_definition(self, place, name, version):
        with self.step():
            COUNTED["definition changed"] += 1
            versions = DEFINITIONS[name]
            self.cluster.define(self.node(place), name, None if version is None else version % len(versions))

    @rule(place=PLACES, how_often=st.integers(0, 2))
    def lose_power(self, place, how_often):
        with self.step():
            if how_often == 0:
                COUNTED["power lost"] += 1
                self.cluster.lose_power(self.node(place))

    @rule(place=PLACES, seconds=st.sampled_from([-86400 * 365, -700, 0, 700, 86400 * 365]))
    def set_the_clock(self, place, seconds):
        with self.step():
            COUNTED["clock set"] += 1
            self.node(place).offset = float(seconds)

    def teardown(self):
        try:
            if self.is_right:
                self._end()
        finally:
            self.cluster.close()
            shutil.rmtree(self.directory)

    def _end(self):
        """Some are deleted, some die, and some survive: of those alone is anything left."""
        cluster = self.cluster
        for place, container in enumerate(list(cluster.containers)):
            if place % 3 == 0:
                self._delete(container, container.space.path, told=True)
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
            self._delete(container, container.space.path, told=True)
        cluster.nothing_else_must_be_left()


@pytest.fixture(autouse=True)
def _tools():
    tools("ip", "nft", "nsenter", "ping")


def test_whatever_happens_nothing_is_given_twice_nothing_is_left_and_nobody_living_is_touched(tmp_path):
    number = int(os.environ.get("PLEXUS_TESTS_SEED") or (random.randrange(10**9) if NIGHTLY else 1))
    print(f"PLEXUS_TESTS_SEED={number}")
    COUNTED.clear()

    @seed(number)
    def life() -> RandomLife:
        return RandomLife(tmp_path)

    with identities(tmp_path):
        run_state_machine_as_test(
            life,
            settings=settings(
                max_examples=LIVES,
                stateful_step_count=STEPS,
                deadline=None,
                database=None,
                report_multiple_bugs=False,
                phases=[Phase.explicit, Phase.generate],  # to find less of the same would take hours
                suppress_health_check=list(HealthCheck),
            ),
        )
    print(json.dumps(COUNTED, indent=1, sort_keys=True), sum(COUNTED.values()))
