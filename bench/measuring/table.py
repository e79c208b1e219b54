"""The samples of a workload as a table of plain Markdown: medians, and the ratio of ours to each peer."""

from __future__ import annotations

from collections.abc import Sequence

from measuring.catalogue import WORKLOADS
from measuring.samples import Ratio, Results, Sample
from measuring.single import ALONE, SERVED

OURS = (SERVED, ALONE)
UNITS = {"memory idle": "MiB", "memory peak": "MiB", "lost": "", "processes": ""}
"""Measures that are no time."""


def of(results: Results, workload: str) -> list[str]:
    """Its lines: first who took how long, then ours by theirs."""
    samples = results.of(workload)
    points = list(dict.fromkeys(sample.point for sample in samples))
    lines = [f"**({workload}) {WORKLOADS[workload].title}**", "", *_medians(samples, points, workload), ""]
    ratios = [_ratios(samples, point, peer, workload) for point in points for peer in _peers(samples, point)]
    if ratios:
        measures = _measures(samples)
        lines += [f"| {SERVED} / | {' | '.join(measures)} |", "|---" * (len(measures) + 1) + "|", *ratios, ""]
    return lines


def _measures(samples: Sequence[Sample]) -> list[str]:
    return list(dict.fromkeys(sample.measure for sample in samples if sample.measure != "processes"))


def _peers(samples: Sequence[Sample], point: str) -> list[str]:
    return list(dict.fromkeys(s.contender for s in samples if s.point == point and s.contender not in OURS))


def _medians(samples: Sequence[Sample], points: Sequence[str], workload: str) -> list[str]:
    measures = list(dict.fromkeys(sample.measure for sample in samples))
    values = {(sample.point, sample.contender, sample.measure): shown(sample) for sample in samples}
    lines = [f"| median | {' | '.join(measures)} |", "|---" * (len(measures) + 1) + "|"]
    for point in points:
        for name in dict.fromkeys(sample.contender for sample in samples if sample.point == point):
            cells = [values.get((point, name, measure), "-") for measure in measures]
            lines.append(f"| {name}{at(workload, point)} | {' | '.join(cells)} |")
    return lines


def _ratios(samples: Sequence[Sample], point: str, peer: str, workload: str) -> str:
    """Ours with the daemon by a peer, as median and quartiles."""
    here = {(sample.contender, sample.measure): sample for sample in samples if sample.point == point}
    cells = []
    for measure in _measures(samples):
        ours, theirs = here.get((SERVED, measure)), here.get((peer, measure))
        cells.append(_ratio(Ratio.of(ours, theirs)) if ours and theirs and any(theirs.values) else "-")
    return f"| {peer}{at(workload, point)} | {' | '.join(cells)} |"


def _ratio(ratio: Ratio) -> str:
    return f"**{figure(ratio.median)}** ({figure(ratio.low)} to {figure(ratio.high)})"


def at(workload: str, point: str) -> str:
    """How a point is told."""
    return ", " + f"{int(point):,} ".replace(",", " ") + WORKLOADS[workload].of if point else ""


def shown(sample: Sample) -> str:
    """A median with its unit."""
    if sample.measure in UNITS:
        return f"{sample.median:.0f} {UNITS[sample.measure]}".strip()
    return time(sample.median)


def time(seconds: float) -> str:
    """Milliseconds, or seconds where these are many."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"


def figure(ratio: float) -> str:
    """A ratio, as precise as it is useful."""
    return f"{ratio:.3f}" if ratio < 0.1 else f"{ratio:.2f}"
