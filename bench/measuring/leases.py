"""(d) host-local alone, as leases grow."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import host_local

from measuring import daemons
from measuring.places import Places
from measuring.rounds import Pace, interleave
from measuring.samples import Sample
from measuring.single import contenders

COUNTS = (0, 1_000, 10_000, 50_000)
PACE = Pace(rounds=31, seconds=240)
QUICK = Pace(rounds=5, seconds=60)
FIRST = 1 << 40
"""The first container that is none of those whose leases are there."""


def grown(places: Places, *, quick: bool) -> list[Sample]:
    """Do (d)."""
    turns = {}
    with daemons.ours(Path(places.served)) as daemon:
        for count in COUNTS:
            conf = functools.partial(configuration, Path(places.directory, f"leases-{count}"), count)
            for contender in contenders(places, "host-local", daemon, conf):
                turns[str(count), contender.name] = contender.turn("none", FIRST)
        return interleave("d", turns, QUICK if quick else PACE)


def configuration(directory: Path, count: int, key: str) -> Mapping[str, Any]:
    """A network that has so many leases in a directory of its own; they are made here."""
    host_local.fill(directory / key / "net", count)
    ipam = {"type": "host-local", "dataDir": str(directory / key), "subnet": "10.0.0.0/8"}
    return {"cniVersion": "1.0.0", "name": "net", "type": "bench", "ipam": ipam}
