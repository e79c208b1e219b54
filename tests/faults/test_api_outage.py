"""An API server that fails in every way that servers do: no pod begins without its networks, and those that run can go.

ADD fails within its own patience, with a right code, and leaves nothing; DEL, CHECK, GC and `plexus gc` need no server.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from installed import tools
from pieces import ALL, NONE, Daemons, Node
from throwaway import Host, throwaway_host
from unruly_api import BEHAVIOURS, GOOD, MUTE, STRANGER

NIGHTLY = os.environ.get("PLEXUS_TESTS_NIGHTLY") == "1"
EVERY = (MUTE, STRANGER, *BEHAVIOURS)
REFUSED = "says 403"
"""The one way that somebody must do something about: it is told at once, and is an error of the configuration."""
ALONE = EVERY if NIGHTLY else ("says {}", "does not end")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")


@pytest.fixture
def host() -> Iterator[Host]:
    tools("ip", "openssl", "unshare", "nsenter")
    with throwaway_host() as host:
        yield host


@pytest.fixture
def node(host: Host, tmp_path: Path) -> Iterator[Node]:
    made = Node(host, tmp_path)
    made.put_all({})
    yield made
    made.api.stop()


@pytest.fixture
def daemon(node: Node, tmp_path: Path) -> Iterator[None]:
    made = Daemons(node, tmp_path / "daemons")
    made.have("live")
    yield
    made.close()


def suffer(node: Node, how: str) -> None:
    """Have the server fail so while one container lives and another one comes."""
    node.api.behave(GOOD)
    added = node.call("ADD", "living")
    assert added.code == 0, f"before it {how}: {added.data}"
    assert node.sandbox.links() == ALL

    node.api.behave(how)
    refused = node.call("ADD", "coming")
    assert refused.code == (7 if how == REFUSED else 11), f"when it {how}: {refused.data}"
    assert "PLX-API-" in refused.data["details"], refused.data
    status = node.call("STATUS")
    assert status.code == 50 or how in SERVING, f"when it {how}: {status.data}"
    for verb in ("CHECK", "GC", "DEL"):
        valid = [{"containerID": "living", "ifname": "eth0"}]
        answer = node.call(verb, "living", **{"cni.dev/valid-attachments": valid})
        assert answer.code == 0, f"{verb} when it {how}: {answer.data}"
        assert node.sandbox.links() == (NONE if verb == "DEL" else ALL)
    assert node.left() == []


SERVING = {"says {}", "says another object", "says a status with 200"}
"""What is an object, as the answer to the question for the version is."""


def test_no_failure_of_the_server_is_taken_for_a_pod_without_networks(node: Node, daemon: None):
    for how in EVERY:
        suffer(node, how)
    node.api.behave(GOOD)
    node.expect({})


@pytest.mark.parametrize("how", ALONE)
def test_so_it_is_without_a_daemon(how: str, node: Node):
    suffer(node, how)
    node.api.behave(GOOD)
    node.expect({})


def test_a_token_that_is_replaced_is_read_as_soon_as_it_is_there(node: Node, daemon: None):
    node.expect({})
    node.api.token = "second"
    node.api.behave(GOOD)
    refused = node.call("ADD")
    assert (refused.code, node.left()) == (11, [])
    assert "PLX-API-UNAUTHORIZED" in refused.data["details"]
    whole = node.api.kubeconfig(node.authority)
    for length in range(0, len(whole), len(whole) if NIGHTLY else len(whole) // 4):
        node.kubeconfig.write_bytes(whole[:length])
        assert node.call("ADD").code in (7, 11)
    assert node.left() == []
    node.kubeconfig.write_bytes(whole)
    node.expect({})


def test_what_the_dead_leave_is_cleaned_up_while_no_server_answers(node: Node, tmp_path: Path):
    assert node.call("ADD").code == 0
    node.host.run("ip", "netns", "del", "sandbox")
    node.api.behave(MUTE)
    runtimes = tmp_path / "runtime.d"
    runtimes.mkdir()
    entry = {"cniVersion": "1.1.0", "name": "plexus", "plugins": [node.conf]}
    (runtimes / "00-plexus.conflist").write_text(json.dumps(entry))
    environ = {"NETCONFPATH": str(runtimes), "CNI_PATH": str(node.plugins)}
    done = node.host.call(str(node.bin_dir / "plexus"), "gc", "--grace", "0", "-o", "json", environ=environ)
    assert [(found["container"], found["removed"]) for found in json.loads(done.stdout)] == [("c1", True)], done.stderr
    node.host.namespace("sandbox")
    assert node.left() == []
