"""What the daemon counts, where the operator wants it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from cni.node.waiting import Waiting
from ipam.directory import LAST_RESERVED

MOST_NETWORKS = 500
OTHERS = "(others)"
"""Networks that are counted by name, and what the rest is called."""
BUCKETS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
"""Seconds."""


class Counter(Protocol):
    """Who is told of what the daemon does."""

    def served(self, command: str, plugin: str, outcome: str, *, waited: float, took: float) -> None:
        """Count a request; the outcome is "ok", an error's code, or "abandoned" where the launcher was gone."""
        ...

    def declined(self) -> None:
        """Count a launcher that was left to itself."""
        ...

    def refused(self) -> None:
        """Count a launcher for which there was no room in line."""
        ...

    def cleaned(self, what: str, outcome: str) -> None:
        """Count who was found dead, or something unfinished, and what became of it: "removed", "kept" or "failed"."""
        ...

    def unfinished(self, number: int) -> None:
        """Note how many containers have something that could not be undone yet."""
        ...


class Nobody:
    """Counts nothing."""

    def served(self, command: str, plugin: str, outcome: str, *, waited: float, took: float) -> None:
        """Forget it."""

    def declined(self) -> None:
        """Forget it."""

    def refused(self) -> None:
        """Forget it."""

    def cleaned(self, what: str, outcome: str) -> None:
        """Forget it."""

    def unfinished(self, number: int) -> None:
        """Forget it."""


NOBODY = Nobody()


class Pools:
    """The networks whose leases are in directories of this machine, counted when somebody asks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, tuple[str, Mapping[int, int]]] = {}

    def know(self, network: str, directory: str, capacity: Mapping[int, int]) -> None:
        """Count the leases in `directory` from now on, unless there are too many such already."""
        with self._lock:
            if directory in self._known or len(self._known) < MOST_NETWORKS:
                self._known[directory] = network, capacity

    def describe(self) -> Iterator[Any]:
        """Nothing before there are any."""
        return iter(())

    def collect(self) -> Iterator[Any]:
        """What Prometheus reads."""
        from prometheus_client.core import GaugeMetricFamily

        labels = ("network", "directory", "ip_version", "state")
        family = GaugeMetricFamily("plexus_pool_addresses", "Addresses of host-local's networks.", labels=labels)
        with self._lock:
            known = list(self._known.items())
        for directory, (network, capacity) in known:
            for version, room in capacity.items():
                used = _leases(directory, version)
                for state, number in (("used", used), ("free", max(0, room - used))):
                    family.add_metric((network, directory, str(version), state), number)
        yield family


def _leases(directory: str, version: int) -> int:
    """How many files there are whose names are addresses of this IP version."""
    try:
        names = os.listdir(directory)
    except OSError:
        return 0
    mark = "." if version == 4 else ":"
    return sum(1 for name in names if mark in name and not name.startswith((".", LAST_RESERVED)))


class Metrics:
    """Counts, for Prometheus; an Observer of calls, too."""

    def __init__(self, waiting: Waiting, slots: int) -> None:
        import prometheus_client as client

        self.registry = client.CollectorRegistry()
        own: dict[str, Any] = {"registry": self.registry, "namespace": "plexus"}
        labels = ("command", "plugin")
        self._requests = client.Counter("requests", "Requests served.", (*labels, "outcome"), **own)
        self._seconds = client.Histogram("request_seconds", "Time to serve.", labels, buckets=BUCKETS, **own)
        self._waited = client.Histogram("waited_seconds", "Time in line for a slot.", buckets=BUCKETS, **own)
        self._declined = client.Counter("declined", "Launchers left to themselves: of another version or place.", **own)
        self._refused = client.Counter("refused", "Launchers told to come later: the line was full.", **own)
        self._cleaned = client.Counter("cleaned", "What nobody alive needs.", ("what", "outcome"), **own)
        self._unfinished = client.Gauge("unfinished", "Containers of which DEL has left something.", **own)
        client.Gauge("slots", "Requests that can be served at a time.", **own).set(slots)
        client.Gauge("waiting", "Launchers in line for a slot.", **own).set_function(lambda: waiting.length)
        client.Gauge("in_flight", "Requests that are being served.", **own).set_function(lambda: waiting.served)
        self._phases = client.Histogram("phase_seconds", "Time of a call's parts.", ("phase",), buckets=BUCKETS, **own)
        self._networks = client.Counter(
            "networks", "What was done for a network.", ("phase", "network", "outcome"), **own
        )
        self._named: set[str] = set()
        self._pools = Pools()
        self.registry.register(self._pools)
        client.ProcessCollector(registry=self.registry)

    def served(self, command: str, plugin: str, outcome: str, *, waited: float, took: float) -> None:
        """Count a request."""
        self._requests.labels(command, plugin, outcome).inc()
        self._seconds.labels(command, plugin).observe(took)
        self._waited.observe(waited)

    def declined(self) -> None:
        """Count a launcher that was left to itself."""
        self._declined.inc()

    def refused(self) -> None:
        """Count a launcher for which there was no room in line."""
        self._refused.inc()

    def cleaned(self, what: str, outcome: str) -> None:
        """Count what became of something that nobody alive needs."""
        self._cleaned.labels(what, outcome).inc()

    def unfinished(self, number: int) -> None:
        """Note how many containers have something that could not be undone yet."""
        self._unfinished.set(number)

    def step(self, phase: str, network: str, outcome: str, seconds: float) -> None:
        """Count a part of a call."""
        self._phases.labels(phase).observe(seconds)
        if network:
            self._networks.labels(phase, self._bounded(network), outcome).inc()

    def pool(self, network: str, directory: str, capacity: Mapping[int, int]) -> None:
        """Count a network's leases, whenever somebody asks."""
        self._pools.know(network, directory, capacity)

    def _bounded(self, network: str) -> str:
        """Its name, as long as there are not too many: tenants choose them, and each costs memory for ever."""
        if network in self._named or len(self._named) < MOST_NETWORKS:
            self._named.add(network)
            return network
        return OTHERS
