"""What is told of a pod's life while it passes: phases, networks, and pools of addresses."""

from __future__ import annotations

import pytest
from plexus_node import Node

from cni.plugin import observed
from cni.spec.errors import CNIError


class Listener:
    """Notes what it is told."""

    def __init__(self):
        self.steps = []
        self.pools = {}

    def step(self, phase, network, outcome, seconds):
        assert seconds >= 0
        self.steps.append((phase, network, outcome))

    def pool(self, network, directory, capacity):
        self.pools[network] = directory, capacity


@pytest.fixture
def node(host, sandbox, tmp_path):
    made = Node(host, sandbox, tmp_path)
    made.run("multus-br")
    return made


@pytest.fixture
def listener(monkeypatch):
    made = Listener()
    monkeypatch.setattr(observed, "observer", made)
    return made


def test_each_phase_and_each_network_is_told(node, listener):
    node.add()
    node.check()
    node.delete()

    assert [step for step in listener.steps if step[1]] == [
        (phase, network, "ok")
        for phase in ("validate", "attach", "check", "detach")
        for network in (("default/multus-br", "cluster") if phase == "detach" else ("cluster", "default/multus-br"))
    ]
    phases = [phase for phase, network, _ in listener.steps if not network]
    assert phases.count("ipam") == 2 * len(("ADD", "CHECK", "DEL"))
    assert {"look up pod", "look up networks", "publish status", "remember", "unplug"} <= set(phases)
    assert listener.pools == {
        "cluster": (str(node.directory / "leases" / "cluster"), {4: 253}),
        "multus-br": (str(node.directory / "leases" / "multus-br"), {4: 253}),
    }


def test_a_network_that_fails_is_told_with_its_code(node, listener):
    node.define("multus-br", node.bridge("multus-br", "lo", "192.168.100.0/24"))

    with pytest.raises(CNIError) as caught:
        node.add()

    assert ("attach", "default/multus-br", str(caught.value.code)) in listener.steps
    assert ("attach", "cluster", "ok") in listener.steps
