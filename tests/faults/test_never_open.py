"""A node that boots, in whatever order its pieces come: a pod gets all of its networks, or an error and nothing.

`--nightly` has every state of every piece with every daemon, and many more orders.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from installed import tools
from pieces import BY, HOW, PIECES, WHOLE, Daemons, Node
from throwaway import Host, throwaway_host

from cni.kube.manifests import Manifests
from cni.node.agent import Agent
from cni.node.entry import Settings
from cni.node.host import Host as AgentsHost
from cni.node.plan import Plan
from cni.node.prefix import Prefix
from cni.plugin import confdir, skel
from cni.spec.errors import CNIError

NIGHTLY = os.environ.get("PLEXUS_TESTS_NIGHTLY") == "1"
ORDERS = 60 if NIGHTLY else 2
CHANGES = 2000 if NIGHTLY else 100
STEP = 1 if NIGHTLY else 7
"""Bytes between the places where files are cut."""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")


@pytest.fixture
def host() -> Iterator[Host]:
    tools("ip", "openssl", "unshare", "nsenter")
    with throwaway_host() as host:
        yield host


@pytest.fixture
def node(host: Host, tmp_path: Path) -> Iterator[Node]:
    made = Node(host, tmp_path)
    made.api.start()
    yield made
    made.api.stop()


@pytest.fixture
def daemons(node: Node, tmp_path: Path) -> Iterator[Daemons]:
    made = Daemons(node, tmp_path / "daemons")
    yield made
    made.close()


def singles() -> list[dict[str, str]]:
    """Each piece in each state that is not whole, all others whole."""
    return [{piece: variant} for piece, variants in PIECES.items() for variant in variants if variant != WHOLE]


def subsets() -> list[dict[str, str]]:
    """Every set of two and more pieces that are not whole, in states that change from one to the next."""
    broken = {
        piece: itertools.cycle([name for name in variants if name != WHOLE]) for piece, variants in PIECES.items()
    }
    sets = (names for size in range(2, len(PIECES) + 1) for names in itertools.combinations(PIECES, size))
    return [{name: next(broken[name]) for name in names} for names in sets]


def products() -> list[dict[str, str]]:
    every = itertools.product(*([(piece, variant) for variant in variants] for piece, variants in PIECES.items()))
    return [{piece: variant for piece, variant in state if variant != WHOLE} for state in every]


def test_whatever_is_missing_half_written_or_late_an_add_attaches_all_or_nothing(node: Node, daemons: Daemons):
    states = products() if NIGHTLY else [*singles(), {}, *subsets(), {}]
    daemons.have("live")
    for number, broken in enumerate(states):
        node.by = BY[number % len(BY)]
        node.put_all(broken)
        node.expect(broken)


@pytest.mark.parametrize("how", HOW)
def test_so_it_is_whatever_daemon_the_launchers_find(how: str, node: Node, daemons: Daemons):
    daemons.have(how)
    states = products() if NIGHTLY else [{"primary": "cut", "api": "down"}, {}]
    for number, broken in enumerate(states):
        node.by = BY[number % len(BY)]
        node.put_all(broken)
        node.expect(broken)


@pytest.mark.parametrize("number", range(ORDERS))
def test_in_whatever_order_a_node_boots_the_same_add_succeeds_when_the_last_piece_is_there(
    number: int, node: Node, daemons: Daemons
):
    chance = random.Random(number)
    node.by = BY[number % len(BY)]
    missing = {piece: chance.choice([name for name in PIECES[piece] if name != WHOLE]) for piece in PIECES}
    node.put_all(missing)
    order = [*PIECES, "daemon"]
    chance.shuffle(order)
    print(f"order {number}: {order}, by {node.by}, before {missing}")
    for piece in order:
        if piece == "daemon":
            daemons.have("live")
            continue
        node.expect(missing)
        del missing[piece]
        node.put(piece)
    node.expect({})


FAILING = """#!/bin/sh
[ "$CNI_COMMAND" != ADD ] || { echo '{"cniVersion": "1.0.0", "code": 11, "msg": "not now"}'; exit 1; }
"""


@pytest.mark.parametrize("how", ["none", "live"])
def test_a_runtime_that_ignores_how_its_children_end_is_told_of_a_plugin_that_fails(
    how: str, node: Node, daemons: Daemons
):
    node.put_all({})
    node.wire.write_text(FAILING)
    launcher = node.bin_dir / "ignoring"
    launcher.mkdir()
    (launcher / "plexus").write_text(f"#!/bin/sh\ntrap '' CHLD\nexec {node.bin_dir}/plexus\n")
    (launcher / "plexus").chmod(0o755)
    daemons.have(how)
    added = node.call("ADD", bin_dir=launcher)
    assert (added.code, added.data["msg"].rpartition(": ")[2]) == (11, "not now")
    assert node.left() == []


CONFLIST = {
    "cniVersion": "1.0.0",
    "name": "primary",
    "plugins": [{"type": "bridge", "bridge": "br0", "ipam": {"type": "static", "addresses": []}}, {"type": "wire"}],
}


@pytest.mark.parametrize("ending", ["conflist", "conf"])
def test_a_configuration_that_is_cut_off_anywhere_is_an_error_and_never_a_shorter_network(ending: str, tmp_path: Path):
    text = json.dumps(
        CONFLIST if ending == "conflist" else {"cniVersion": "1.0.0", "name": "n", "type": "wire"}, indent=1
    )
    path = tmp_path / f"10-primary.{ending}"
    for length in range(0, len(text), STEP):
        path.write_text(text[:length])
        with pytest.raises(CNIError) as caught:
            confdir.load_file(str(path))
        assert caught.value.code == 6, text[:length]
        assert str(path) in str(caught.value)


def test_a_runtime_that_hands_over_a_part_of_the_configuration_is_told_so(tmp_path: Path):
    text = json.dumps({"cniVersion": "1.0.0", "name": "n", "type": "plexus", "delegates": [CONFLIST]}).encode()
    environ = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c1", "CNI_NETNS": "/nowhere", "CNI_IFNAME": "eth0"}
    for length in range(0, len(text), STEP):
        answer = json.loads(called(environ | {"CNI_PATH": str(tmp_path)}, text[:length]))
        assert answer["code"] == 6, text[:length]


def test_a_manifest_of_json_that_is_cut_off_anywhere_is_no_pod_without_networks(tmp_path: Path):
    annotations = {"k8s.v1.cni.cncf.io/networks": "red,blue"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod", "annotations": annotations}}
    text = json.dumps(pod, indent=1)
    for length in range(0, len(text), STEP):
        (tmp_path / "pod.json").write_text(text[:length])
        with pytest.raises(CNIError) as caught:
            Manifests(str(tmp_path), str(tmp_path / "status")).get_pod("default", "pod")
        assert caught.value.code in (6, 7, 11), text[:length]


def test_whatever_becomes_of_the_primarys_file_the_agents_entry_is_always_whole(tmp_path: Path):
    for path in ("opt/plexus", "etc/cni/net.d"):
        (tmp_path / path).mkdir(parents=True)
    host = AgentsHost(str(tmp_path))
    agent = Agent(Plan(host=host, prefix=Prefix(host, "/opt/plexus"), conf_dir="/etc/cni/net.d", settings=Settings()))
    primary, written = tmp_path / "etc/cni/net.d/10-net.conflist", tmp_path / "etc/cni/net.d/00-plexus.conflist"
    texts = [json.dumps(CONFLIST | {"x": str(number) * 5000}) for number in range(10)]
    primary.write_text(texts[0])
    assert not agent.step() or written.exists()
    enough = threading.Event()

    def write_by_halves() -> None:
        for text in itertools.cycle(texts):
            if enough.is_set():
                return
            for part in (text[:0], text[: len(text) // 2], text):
                primary.write_text(part)

    def read() -> list[dict[str, Any]]:
        seen = []
        while not enough.is_set():
            seen.append(json.loads(written.read_text())["plugins"][0]["delegates"][0])
        return seen

    with ThreadPoolExecutor(2) as threads:
        threads.submit(write_by_halves)
        reading = threads.submit(read)
        try:
            for _ in range(CHANGES):
                agent.step()
        finally:
            enough.set()
    whole = [json.loads(text) for text in texts]
    assert all(delegate in whole for delegate in reading.result())
    assert reading.result()


def called(environ: dict[str, str], stdin: bytes) -> str:
    stdout = io.StringIO()
    assert skel.run("plexus", environ, io.BytesIO(stdin), stdout, io.StringIO()) == 1
    return stdout.getvalue()
