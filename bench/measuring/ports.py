"""(h) A bridge with host-local, as the bridge's ports grow."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from measuring.places import Places
from measuring.rounds import Pace, interleave
from measuring.samples import Sample
from measuring.sandboxes import ip, sandboxes
from measuring.single import contenders

COUNTS = (1, 100, 1000)
PACE = Pace(rounds=31, seconds=60)
QUICK = Pace(rounds=5, seconds=20)
BRIDGE, CROWD = "br-ports", "crowd"
SUBNETS = {"od": 1, "oa": 2, "rf": 3}


def grown(places: Places, *, quick: bool) -> list[Sample]:
    """Do (h)."""
    samples = []
    with contenders(places, "bridge", configuration) as found:
        names = [f"s{number}" for number in range(len(found))]
        for count in COUNTS:
            with _crowd(count - 1), sandboxes(*names):
                turns = {contender.name: contender.turn(name) for contender, name in zip(found, names, strict=True)}
                samples += interleave("h", str(count), turns, QUICK if quick else PACE)
    return samples


def configuration(key: str) -> Mapping[str, Any]:
    """A network on the bridge of all."""
    ipam = {"type": "host-local", "ranges": [[{"subnet": f"10.{SUBNETS[key]}.0.0/16"}]]}
    return {"cniVersion": "1.0.0", "name": f"net-{key}", "type": "bridge", "bridge": BRIDGE, "ipam": ipam}


@contextlib.contextmanager
def _crowd(count: int) -> Iterator[None]:
    """Have a bridge with so many ports, each the end of a sandbox's wire, for the block."""
    with sandboxes(CROWD):
        bridge = [f"link add {BRIDGE} type bridge", f"link set {BRIDGE} up"]
        wire = f"link add port{{0}} master {BRIDGE} up type veth peer name eth{{0}} netns {CROWD}"
        lines = [*bridge, *(wire.format(number) for number in range(count))]
        ip("-batch", "-", stdin="\n".join(lines) + "\n")
        inside = [f"link set eth{number} up" for number in range(count)]
        ip("-netns", CROWD, "-batch", "-", stdin="\n".join(inside) + "\n")
        yield
    ip("link", "delete", BRIDGE)
