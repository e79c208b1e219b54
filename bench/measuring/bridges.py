"""(a) A bridge with host-local, and (b) the same with ipMasq."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from measuring import daemons
from measuring.places import Places
from measuring.rounds import Pace, interleave
from measuring.samples import Sample
from measuring.sandboxes import sandboxes
from measuring.single import REFERENCE, Contender, contenders

PACE = Pace(rounds=51, seconds=90)
QUICK = Pace(rounds=7, seconds=20)
SUBNETS = {"od": 1, "oa": 2, "rf": 3, "rn": 4}


def plain(places: Places, *, quick: bool) -> list[Sample]:
    """Do (a)."""
    with daemons.ours(Path(places.served)) as daemon:
        return _measure("a", contenders(places, "bridge", daemon, configuration), quick=quick)


def masqueraded(places: Places, *, quick: bool) -> list[Sample]:
    """Do (b); the reference twice, since it has two backends."""

    def conf(key: str) -> Mapping[str, Any]:
        # Ours chooses nftables by itself, and is spared nothing: both are measured for the reference.
        backend = {"rf": {"ipMasqBackend": "iptables"}, "rn": {"ipMasqBackend": "nftables"}}
        return configuration(key, ipMasq=True, isGateway=True, **backend.get(key, {}))

    nftables = Contender(f"{REFERENCE}, nftables", Path(places.reference, "bridge"), conf("rn"))
    with daemons.ours(Path(places.served)) as daemon:
        found = contenders(places, "bridge", daemon, conf)
        iptables = Contender(f"{REFERENCE}, iptables", found[-1].plugin, found[-1].conf)
        return _measure("b", [*found[:-1], iptables, nftables], quick=quick)


def configuration(key: str, **keys: Any) -> Mapping[str, Any]:
    """A network of a bridge of its own."""
    ipam = {"type": "host-local", "ranges": [[{"subnet": f"10.{SUBNETS[key]}.0.0/16"}]]}
    return {"cniVersion": "1.0.0", "name": f"net-{key}", "type": "bridge", "bridge": f"br-{key}", "ipam": ipam} | keys


def _measure(workload: str, found: list[Contender], *, quick: bool) -> list[Sample]:
    names = [f"s{number}" for number in range(len(found))]
    with sandboxes(*names):
        turns = {("", contender.name): contender.turn(name) for contender, name in zip(found, names, strict=True)}
        return interleave(workload, turns, QUICK if quick else PACE)
