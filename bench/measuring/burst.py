"""(e) A burst of pods with 3 NADs each, 16 at a time."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter, sleep

from measuring.call import Attachment, Cost, call
from measuring.places import Places
from measuring.pods import KEYS, NADS, Api, asking, contenders, pod_name, runtime_args
from measuring.rounds import Pace, interleave
from measuring.samples import Sample
from measuring.sandboxes import sandboxes
from measuring.single import ALONE, Contender

AT_ONCE = 16
PODS, QUICK_PODS = 64, 16
PACE = Pace(rounds=5, seconds=300)
QUICK = Pace(rounds=3, seconds=60)
SELDOM = 3
"""One round of so many is enough for whom it takes as long as all others together."""
SETTLE = 0.3
"""Seconds after which a daemon has done what it does later."""


def burst(places: Places, *, quick: bool) -> list[Sample]:
    """Do (e)."""
    count = QUICK_PODS if quick else PODS
    with contenders(places) as found, sandboxes(*(f"s{number}" for number in range(count))):
        crowds = {contender.name: crowd(places, contender, count) for contender in found}
        turns = {(str(count), name): _Turn(crowd) for name, crowd in crowds.items()}
        return interleave("e", turns, QUICK if quick else PACE)


@dataclass(frozen=True)
class Crowd:
    """A contender, and its pods that are attached together."""

    contender: Contender
    attachments: Sequence[Attachment]

    def all(self, verb: str, at_once: int) -> list[Cost]:
        """Call for all, so many at a time. Raises Failed."""
        contender = self.contender
        with ThreadPoolExecutor(at_once) as pool:
            return list(
                pool.map(lambda attachment: call(contender.plugin, verb, attachment, contender.conf), self.attachments)
            )


def crowd(places: Places, contender: Contender, count: int) -> Crowd:
    """Have so many pods of a contender in the API, each for a sandbox of its own."""
    key = KEYS[contender.name]
    uids = Api(places.kubeconfig).create_pods([asking(contender, NADS, number) for number in range(count)])
    attachments = []
    for number in range(count):
        name = pod_name(key, NADS, number)
        attachments.append(Attachment("", f"s{number}", runtime_args(name, uids[name])))
    return Crowd(contender, attachments)


@dataclass(frozen=True)
class _Turn:
    crowd: Crowd

    def __call__(self, number: int) -> dict[str, float]:
        if self.crowd.contender.name == ALONE and number % SELDOM != 1:
            return {}
        fresh = [attachment.of(f"{number:032x}{place:032x}") for place, attachment in enumerate(self.crowd.attachments)]
        crowd = Crowd(self.crowd.contender, fresh)
        daemon = crowd.contender.daemon
        before = daemon.processor() if daemon else 0.0
        begin = perf_counter()
        adds = crowd.all("ADD", AT_ONCE)
        middle = perf_counter()
        deletes = crowd.all("DEL", AT_ONCE)
        end = perf_counter()
        sleep(SETTLE)
        served = daemon.processor() - before if daemon else 0.0
        return {
            "ADD wall": middle - begin,
            "DEL wall": end - middle,
            "wall": end - begin,
            "processor": sum(cost.processor for cost in adds + deletes) + served,
            "slowest ADD": max(cost.seconds for cost in adds),
            "slowest DEL": max(cost.seconds for cost in deletes),
        }
