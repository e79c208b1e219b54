"""Which of a container's attachments are made, or undone, at the same time.

Executed plugins are waited for, so those of several networks run side by side. Built-in ones only take turns at the
interpreter and at the kernel's lock: they stay one after another.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from contextvars import copy_context

from cni.linux import thread
from cni.plugin import chain
from cni.plugin.chain import Host
from cni.spec import document, netconf
from cni.spec.errors import CNIError
from cni.spec.netconf import NetConfList

AT_ONCE = 4
"""Networks of one container whose plugins run at the same time."""
OF_OTHERS = ("linkInContainer", "linksInContainer")
"""Keys of plugins that work on other interfaces of the container."""
ON_OTHERS = ("bond", "passthru")
"""Types that do so without saying it; a chain that begins with the latter is for the container as a whole."""

Lane = list[int]
"""Places in the list of attachments, one after another."""
Stage = list[Lane]
"""Lanes, at the same time."""


def split(confs: Sequence[NetConfList | None], host: Host, *, parallel: bool) -> list[Stage]:
    """The stages, one after another: first the cluster network, then those besides it.

    What needs others' interfaces is a stage of its own, after all that is before it in the list; so is what cannot be
    read.
    """
    groups: list[Lane] = []
    apart = True
    for place, conf in enumerate(confs):
        apart_before, apart = apart, not parallel or conf is None or _needs_others(conf)
        if place < 2 or apart or apart_before:
            groups.append([])
        groups[-1].append(place)
    return [_lanes(group, confs, host) for group in groups]


def backwards(stages: Sequence[Stage], built_in: Collection[int]) -> list[Stage]:
    """The stages newest first, as they are undone; neighbours that consist of built-in plugins only are one."""
    undone: list[Stage] = []
    for stage in reversed(stages):
        newest_first = [lane[::-1] for lane in stage[::-1]]
        if undone and _are_all(built_in, (*undone[-1], *newest_first)):
            undone[-1] = [list(itertools.chain(*undone[-1], *newest_first))]
        else:
            undone.append(newest_first)
    return undone


def run(stage: Stage, work: Callable[[int], None], *, despite_failures: bool = False) -> dict[int, CNIError]:
    """Do `work` for every place, and wait for all of it; return what failed, in the order of places.

    After a failure nothing is begun any more, unless `despite_failures`.
    """
    failures: dict[int, CNIError] = {}
    stopped = threading.Event()

    def follow(lane: Lane) -> None:
        for place in lane:
            if stopped.is_set() and not despite_failures:
                return
            try:
                work(place)
            except CNIError as error:
                failures[place] = error
                stopped.set()
            except BaseException:
                stopped.set()
                raise

    _follow_all(stage, follow)
    return dict(sorted(failures.items()))


def _follow_all(stage: Stage, follow: Callable[[Lane], None]) -> None:
    """Follow all lanes, some in other threads; where no thread is to be had, all in this one."""
    lanes = deque(stage)
    failures: list[BaseException] = []

    def follow_some() -> None:
        try:
            while (lane := _take(lanes)) is not None:
                copy_context().run(follow, lane)
        except BaseException as error:  # noqa: BLE001 - raised below, when no thread runs any more
            failures.append(error)

    threads = [thread.begin(follow_some) for _ in stage[1:AT_ONCE]]
    follow_some()
    for wait in threads:
        wait()
    for failure in failures:
        raise failure


def _take(lanes: deque[Lane]) -> Lane | None:
    try:
        return lanes.popleft()
    except IndexError:
        return None


def _are_all(built_in: Collection[int], lanes: Iterable[Lane]) -> bool:
    return all(place in built_in for place in itertools.chain(*lanes))


def _lanes(group: Lane, confs: Sequence[NetConfList | None], host: Host) -> Stage:
    executed = [place for place in group if (conf := confs[place]) and not chain.is_built_in(conf, host)]
    built_in = [place for place in group if place not in executed]
    return sorted([*([place] for place in executed), *([built_in] if built_in else ())])


def _needs_others(conf: NetConfList) -> bool:
    if any(document.lookup(plugin, key) for plugin in conf.plugins for key in OF_OTHERS):
        return True
    return any(netconf.plugin_type(first) in ON_OTHERS for first in conf.plugins[:1])
