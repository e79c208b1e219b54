"""A node that boots, in whatever order its pieces come: a pod gets all of its networks, or an error and nothing.

`--nightly` has every state of every piece with every daemon, and many more orders.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from installed import tools
from pieces import BY, HOW, PIECES, WHOLE, Daemons, Node
from throwaway import Host, throwaway_host

from cni.plugin import confdir, skel
from cni.spec.errors import CNIError

NIGHTLY = os.environ.get("PLEXUS_TESTS_NIGHTLY") == "1"
ORDERS = 60 if NIGHTLY else 3
STEP = 1 if NIGHTLY else 3
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
    states = products() if NIGHTLY else [{"primary": "cut"}, {"plugin": "absent", "api": "down"}, {}]
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


def called(environ: dict[str, str], stdin: bytes) -> str:
    stdout = io.StringIO()
    assert skel.run("plexus", environ, io.BytesIO(stdin), stdout, io.StringIO()) == 1
    return stdout.getvalue()
