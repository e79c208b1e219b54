"""What plexus is to reach, and whether it did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from measuring.samples import Ratio, Results
from measuring.single import ALONE, REFERENCE, SERVED

THIN, THICK = "multus thin", "multus thick"
BACKENDS = (f"{REFERENCE}, iptables", f"{REFERENCE}, nftables")
Find = Callable[[Results], "Found | None"]


@dataclass(frozen=True)
class Found:
    """A figure, and the quartiles that it lies between, if it is a ratio."""

    value: float
    spread: tuple[float, float] | None = None


@dataclass(frozen=True)
class Goal:
    """A figure that is not to be larger than its limit."""

    text: str
    limit: float
    find: Find
    unit: str = ""

    def reached(self, results: Results) -> bool | None:
        """Whether it is; None where it was not measured."""
        found = self.find(results)
        return None if found is None else found.value <= self.limit


def against(workload: str, point: str, measure: str, *peers: str) -> Find:
    """The ratio of ours with the daemon to a peer; of several, to the one that does best."""

    def find(results: Results) -> Found | None:
        ours = results.find(workload, point, SERVED, measure)
        theirs = [results.find(workload, point, peer, measure) for peer in peers]
        ratios = [Ratio.of(ours, peer) for peer in theirs if ours and peer]
        worst = max(ratios, key=lambda ratio: ratio.median, default=None)
        return Found(worst.median, (worst.low, worst.high)) if worst else None

    return find


def growth(workload: str, begin: str, end: str, measure: str) -> Find:
    """How much longer ours takes at the end than at the beginning."""

    def find(results: Results) -> Found | None:
        less, more = (results.find(workload, point, SERVED, measure) for point in (begin, end))
        if not (less and more):
            return None
        ratio = Ratio.of(more, less)
        return Found(ratio.median, (ratio.low, ratio.high))

    return find


def value(workload: str, contender: str, measure: str, *points: str) -> Find:
    """What was measured, by itself, at the last of the points that there is."""

    def find(results: Results) -> Found | None:
        found = [sample for point in points if (sample := results.find(workload, point, contender, measure))]
        return Found(found[-1].median) if found else None

    return find


CROWD = ("50", "200")
GOALS = (
    Goal("pod + 3 NADs through the API, ADD, against multus thin", 0.5, against("c", "3", "ADD", THIN)),
    Goal("… against multus thick", 0.65, against("c", "3", "ADD", THICK)),
    Goal("the same, DEL, against multus thin", 0.4, against("c", "3", "DEL", THIN)),
    Goal("… against multus thick", 0.4, against("c", "3", "DEL", THICK)),
    Goal("burst of 64 pods with 3 NADs, wall, against multus thin", 0.5, against("e", "64", "wall", THIN)),
    Goal("… processor seconds", 0.5, against("e", "64", "processor", THIN)),
    Goal("bridge + host-local, ADD, against the reference", 1.8, against("a", "", "ADD", REFERENCE)),
    Goal("bridge with ipMasq, ADD, against the reference's faster backend", 0.5, against("b", "", "ADD", *BACKENDS)),
    Goal("… DEL", 0.5, against("b", "", "DEL", *BACKENDS)),
    Goal(
        "host-local ADD + DEL at 50 000 leases, against the reference",
        0.05,
        against("d", "50000", "ADD+DEL", REFERENCE),
    ),
    Goal("growth of ours from 0 to 50 000 leases, ADD + DEL", 1.5, growth("d", "0", "50000", "ADD+DEL")),
    Goal("growth of ours from 1 to 1000 ports, ADD", 1.5, growth("h", "1", "1000", "ADD")),
    Goal("without the daemon, pod + 3 NADs, ADD", 0.6, value("c", ALONE, "ADD", "3"), "s"),
    Goal("… processes", 1, value("c", ALONE, "processes", "3"), "process"),
    Goal("daemon: resident memory, idle", 80, value("f", SERVED, "memory idle", *CROWD), "MiB"),
    Goal("… its peak under 200 concurrent ADDs", 128, value("f", SERVED, "memory peak", "200"), "MiB"),
    Goal("… requests lost", 0, value("f", SERVED, "lost", "200"), "requests"),
)
