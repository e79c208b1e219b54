"""Rounds: in each, every contender has its turn, so that whatever else the machine does slows all of them."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from measuring.samples import Sample

DIGITS = 6
"""Of what is measured: a microsecond is little."""

Turn = Callable[[int], dict[str, float]]
"""Does the work in the round of a number, and tells what each measure was; nothing where it sat the round out."""


@dataclass(frozen=True)
class Pace:
    """How many rounds there are, and the seconds after which no further one begins, unless there are too few."""

    rounds: int
    seconds: float
    least: int = 3


def interleave(workload: str, turns: Mapping[tuple[str, str], Turn], pace: Pace) -> list[Sample]:
    """Have all take turns, by point and name; each round begins with another, and the first, of warming up, is none."""
    measured: dict[tuple[str, str], dict[str, list[float]]] = {who: defaultdict(list) for who in turns}
    order = list(turns)
    for who in order:
        turns[who](0)
    begin = time.monotonic()
    done = 0
    for number in range(1, pace.rounds + 1):
        if done >= pace.least and time.monotonic() - begin > pace.seconds:
            break
        first = number % len(order)
        for who in order[first:] + order[:first]:
            for measure, value in turns[who](number).items():
                measured[who][measure].append(round(value, DIGITS))
        done = number
    print(f"  {done} rounds, {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)  # noqa: T201
    return [
        Sample(workload, point, name, measure, tuple(values))
        for (point, name), measures in measured.items()
        for measure, values in measures.items()
    ]
