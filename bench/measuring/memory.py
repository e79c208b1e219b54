"""(f) Many ADDs at once: what the daemons need of memory, and whether any request is lost."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from time import perf_counter

from measuring.burst import Crowd, crowd
from measuring.call import Attachment, Failed, call
from measuring.daemons import Daemon
from measuring.places import Places
from measuring.pods import NADS, contenders
from measuring.samples import Sample
from measuring.sandboxes import links, sandboxes

PODS, QUICK_PODS = 200, 50
WANTED = ["eth0", *(f"net{number}" for number in range(1, NADS + 1))]


def crowded(places: Places, *, quick: bool) -> list[Sample]:
    """Do (f): once, since a peak is a peak."""
    count = QUICK_PODS if quick else PODS
    samples = []
    with contenders(places) as found, sandboxes(*(f"s{number}" for number in range(count))):
        for contender in found:
            if contender.daemon:
                measured = _measure(crowd(places, contender, count), contender.daemon)
                samples += [Sample("f", str(count), contender.name, name, (value,)) for name, value in measured.items()]
    return samples


def _measure(crowd: Crowd, daemon: Daemon) -> dict[str, float]:
    idle = daemon.memory("VmRSS")
    attachments = [
        replace(attachment, container_id=f"{place:064x}") for place, attachment in enumerate(crowd.attachments)
    ]
    begin = perf_counter()
    lost = _lost(crowd, attachments, "ADD", lambda sandbox: links(sandbox) == WANTED)
    middle = perf_counter()
    lost += _lost(crowd, attachments, "DEL", lambda sandbox: not links(sandbox))
    return {
        "memory idle": idle,
        "memory peak": daemon.memory("VmHWM"),
        "lost": lost,
        "ADD wall": middle - begin,
        "DEL wall": perf_counter() - middle,
    }


def _lost(crowd: Crowd, attachments: list[Attachment], verb: str, done: Callable[[str], bool]) -> int:
    """Call for all at once; how many calls failed, or said that they had done what they had not."""

    def succeeds(attachment: Attachment) -> bool:
        try:
            call(crowd.contender.plugin, verb, attachment, crowd.contender.conf)
        except Failed:
            return False
        return True

    with ThreadPoolExecutor(len(attachments)) as pool:
        succeeded = list(pool.map(succeeds, attachments))
    return sum(not (good and done(attachment.sandbox)) for good, attachment in zip(succeeded, attachments, strict=True))
