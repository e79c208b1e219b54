"""(h) A bridge with host-local, as the bridge's ports grow."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from measuring import daemons
from measuring.places import Places
from measuring.rounds import Pace, interleave
from measuring.samples import Sample
from measuring.sandboxes import ip, sandboxes
from measuring.single import contenders

COUNTS = (1, 100, 1000)
PACE = Pace(rounds=31, seconds=180)
QUICK = Pace(rounds=5, seconds=60)
SUBNETS = {"od": 1, "oa": 2, "rf": 3}


def grown(places: Places, *, quick: bool) -> list[Sample]:
    """Do (h)."""
    turns = {}
    with daemons.ours(Path(places.served)) as daemon, contextlib.ExitStack() as stack:
        stack.enter_context(sandboxes(*SUBNETS))
        for count in COUNTS:
            stack.enter_context(_crowd(f"br-{count}", count - 1))
            conf = functools.partial(configuration, f"br-{count}")
            for contender, sandbox in zip(contenders(places, "bridge", daemon, conf), SUBNETS, strict=True):
                turns[str(count), contender.name] = contender.turn(sandbox)
        return interleave("h", turns, QUICK if quick else PACE)


def configuration(bridge: str, key: str) -> Mapping[str, Any]:
    """A network on a bridge that all share."""
    ipam = {"type": "host-local", "ranges": [[{"subnet": f"10.{SUBNETS[key]}.0.0/16"}]]}
    return {"cniVersion": "1.0.0", "name": f"{bridge}-{key}", "type": "bridge", "bridge": bridge, "ipam": ipam}


@contextlib.contextmanager
def _crowd(bridge: str, count: int) -> Iterator[None]:
    """Have a bridge with so many ports for the block; at each one's other end is a sandbox, as is a pod's.

    In one sandbox for all, each frame that is flooded would be looked up among the routes of all its interfaces.
    """
    names = [f"{bridge}-{number}" for number in range(count)]
    _batch("netns add {}", names)
    try:
        ip("link", "add", bridge, "up", "type", "bridge")
        _batch("link add eth0 netns {0} up type veth peer name {0}", names)
        _batch(f"link set {{}} master {bridge} up", names)
        yield
        ip("link", "delete", bridge)
    finally:
        _batch("netns delete {}", names)


def _batch(command: str, names: list[str]) -> None:
    """Run ip once, with a command for each of the names."""
    ip("-batch", "-", stdin="".join(f"{command.format(name)}\n" for name in names))
