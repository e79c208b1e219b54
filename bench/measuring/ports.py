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
    """Have a bridge with so many ports, each the end of a sandbox's wire, for the block."""
    crowd = f"crowd-{bridge}"
    with sandboxes(crowd):
        made = [f"link add {bridge} type bridge", f"link set {bridge} up"]
        wire = f"link add {bridge}-{{0}} master {bridge} up type veth peer name eth{{0}} netns {crowd}"
        lines = [*made, *(wire.format(number) for number in range(count))]
        ip("-batch", "-", stdin="\n".join(lines) + "\n")
        inside = [f"link set eth{number} up" for number in range(count)]
        ip("-netns", crowd, "-batch", "-", stdin="\n".join(inside) + "\n")
        yield
    ip("link", "delete", bridge)
