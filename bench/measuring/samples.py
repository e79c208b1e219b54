"""What was measured, and what of it is told: medians, and ratios with their spread."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Sample:
    """What one contender took for one measure at one point of a workload, round by round."""

    workload: str
    point: str
    contender: str
    measure: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle."""
        return statistics.median(self.values)


@dataclass(frozen=True)
class Ratio:
    """Ours by another's, round by round: the middle, the quartiles and the extremes."""

    median: float
    low: float
    high: float
    least: float
    most: float

    @classmethod
    def of(cls, ours: Sample, peer: Sample) -> Ratio:
        """Compare what was measured in the same rounds."""
        pairs = zip(ours.values, peer.values, strict=False)
        ratios = [mine / theirs for mine, theirs in pairs if theirs]
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
        return cls(middle, low, high, min(ratios), max(ratios))


@dataclass(frozen=True)
class Results:
    """All samples of a run, and what is to be known of it."""

    about: dict[str, Any]
    samples: tuple[Sample, ...] = field(default=())

    def find(self, workload: str, point: str, contender: str, measure: str) -> Sample | None:
        """A sample, if it was taken."""
        wanted = (workload, point, contender, measure)
        found = (s for s in self.samples if (s.workload, s.point, s.contender, s.measure) == wanted)
        return next(found, None)

    def of(self, workload: str) -> list[Sample]:
        """The samples of a workload, in the order in which they were taken."""
        return [sample for sample in self.samples if sample.workload == workload]

    def to_json(self) -> str:
        """All of it, one sample to a line."""
        samples = ",\n".join(json.dumps(asdict(sample)) for sample in self.samples)
        return f'{{"about": {json.dumps(self.about, indent=1)},\n"samples": [\n{samples}\n]}}\n'

    @classmethod
    def from_json(cls, text: str) -> Results:
        """The opposite."""
        data = json.loads(text)
        return cls(data["about"], read(data["samples"]))

    def replaced_by(self, newer: Results) -> Results:
        """These results, with the workloads of newer ones in place of the same here."""
        again = {sample.workload for sample in newer.samples}
        kept = [sample for sample in self.samples if sample.workload not in again]
        done = {"workloads": dict(sorted((self.about["workloads"] | newer.about["workloads"]).items()))}
        samples = sorted([*kept, *newer.samples], key=lambda sample: sample.workload)
        return Results(newer.about | done, tuple(samples))


def read(samples: Iterable[dict[str, Any]]) -> tuple[Sample, ...]:
    """Samples as they are in JSON."""
    return tuple(Sample(**(sample | {"values": tuple(sample["values"])})) for sample in samples)
