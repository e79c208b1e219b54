"""(g) Pods on a real node, from `kubectl apply` until they run, and until they are gone."""

from __future__ import annotations

import contextlib
import json
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cluster as clusters
from cluster import Cluster, Service
from workloads import pod

from measuring import pods, stages
from measuring.call import ENVIRON, Failed
from measuring.places import Places
from measuring.pods import KEYS, NADS, THICK, THIN
from measuring.rounds import Pace, interleave
from measuring.samples import Sample
from measuring.single import ALONE, SERVED

PODS, QUICK_PODS = 30, 8
PACE = Pace(rounds=3, seconds=420)
QUICK = Pace(rounds=1, seconds=120)
PATIENCE = 240
LOADED = 2.0
"""Seconds in which containerd has read a configuration that is new."""
READY = 'jsonpath={.metadata.name} {.status.conditions[?(@.type=="Ready")].status}{"\\n"}'
TYPES = {SERVED: "plexus-served", ALONE: "plexus-alone", THIN: "multus", THICK: "multus-shim"}
"""What each plugin is called on the node."""


def deployed(places: Places, *, quick: bool) -> list[Sample]:
    """Do (g)."""
    count = QUICK_PODS if quick else PODS
    with tempfile.TemporaryDirectory(prefix="plexus-bench") as directory:
        found = stages.kubernetes()
        with clusters.running(Path(directory), found) as cluster:
            reaching = stages.reaching(places, cluster.node.credentials)
            _install(cluster, reaching)
            with _daemons(cluster, reaching, Path(directory)):
                cluster.wait_for_node()
                configurations = _configurations(reaching).items()
                turns = {(str(count), name): _Turn(cluster, conf, count) for name, conf in configurations}
                return interleave("g", turns, QUICK if quick else PACE)


def _install(cluster: Cluster, places: Places) -> None:
    """Put everybody's plugins on the node, and everybody's networks into the API."""
    sources = {
        TYPES[SERVED]: f"{places.served}/plexus",
        TYPES[ALONE]: f"{places.alone}/plexus",
        TYPES[THIN]: f"{places.multus}/multus",
        TYPES[THICK]: f"{places.multus}/multus-shim",
        "loopback": f"{places.reference}/loopback",
    }
    for name, source in sources.items():
        shutil.copy(source, cluster.node.bin_dir / name)
    _configure(cluster, pods.multus(places, KEYS[THIN], TYPES[THIN], kubeconfig=places.kubeconfig))
    stages.know_networks(cluster)
    cluster.apply(*(made for key in KEYS.values() for made in pods.networks(key)))


def _configurations(places: Places) -> dict[str, dict[str, Any]]:
    return {
        SERVED: pods.ours(places, KEYS[SERVED]) | {"type": TYPES[SERVED]},
        ALONE: pods.ours(places, KEYS[ALONE]) | {"type": TYPES[ALONE]},
        THIN: pods.multus(places, KEYS[THIN], TYPES[THIN], kubeconfig=places.kubeconfig),
        THICK: pods.multus(places, KEYS[THICK], TYPES[THICK]),
    }


def _configure(cluster: Cluster, plugin: dict[str, Any]) -> None:
    """Have containerd use a plugin: by rename in its directory, as it needs it."""
    path = cluster.node.conf_dir / "00-bench.conflist"
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps({"cniVersion": "1.0.0", "name": plugin["name"], "plugins": [plugin]}))
    temporary.rename(path)


@contextlib.contextmanager
def _daemons(cluster: Cluster, places: Places, directory: Path) -> Iterator[None]:
    """Have both daemons run on the node."""
    host, secrets = cluster.host, str(pods.SECRETS)
    host.run("mkdir", "-p", secrets)
    host.run("cp", places.authority, f"{secrets}/ca.crt")
    host.run("sh", "-c", f"cat >{secrets}/token", stdin=places.token)
    words, environ = pods.thick_daemon(places, directory)
    services = [
        Service(host, "plexus-daemon", [f"{places.served}/plexus", "daemon"], directory / "plexus-daemon.log", {}),
        Service(host, "multus-daemon", words, directory / "multus-daemon.log", environ),
    ]
    try:
        for service in services:
            service.start()
        _until(
            lambda: all(host.call("test", "-S", path).returncode == 0 for path in _sockets(places)),
            "the daemons listen",
        )
        yield
    finally:
        for service in services:
            with contextlib.suppress(AssertionError):
                service.stop()


def _sockets(places: Places) -> tuple[str, str]:
    return f"{places.served}/plexus.sock", f"{pods.SOCKETS}/multus.sock"


@dataclass(frozen=True)
class _Turn:
    cluster: Cluster
    conf: dict[str, Any]
    count: int

    def __call__(self, number: int) -> dict[str, float]:
        cluster = self.cluster
        _configure(cluster, self.conf)
        time.sleep(LOADED)
        key = self.conf["name"].removeprefix("conf-")
        asked = ",".join(f"{key}-{n}" for n in range(1, NADS + 1))
        count = self.count if number else 2
        with _Watch(cluster).running() as watch:
            begin = time.monotonic()
            cluster.apply(*(pod(f"{key}-{number}-{place}", asked) for place in range(count)))
            _until(lambda: len(watch.ready) == count, "all pods run")
        running = [moment - begin for moment in watch.ready.values()]
        begin = time.monotonic()
        cluster.kubectl("delete", "pods", "--all", "--wait=false")
        _until(lambda: not cluster.kubectl("get", "pods", "-o", "name"), "all pods are gone")
        return {
            "apply→Running, median": statistics.median(running),
            "apply→Running, last": max(running),
            "delete→gone, last": time.monotonic() - begin,
        }


@dataclass
class _Watch:
    """Sees pods become ready, and when."""

    cluster: Cluster
    ready: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def running(self) -> Iterator[_Watch]:
        """See them for the block."""
        # What enters the node's namespaces is killed, and what it has started there has to go with it.
        watching = ["setpriv", "--pdeathsig", "KILL", *self.cluster.command("get", "pods", "--watch", "-o", READY)]
        words = self.cluster.host.command(*watching)
        with subprocess.Popen(words, env=ENVIRON, stdout=subprocess.PIPE, text=True) as process:
            reader = threading.Thread(target=self._read, args=(process,))
            reader.start()
            try:
                yield self
            finally:
                process.kill()
                reader.join()

    def _read(self, process: subprocess.Popen[str]) -> None:
        for line in process.stdout or ():
            name, _, ready = line.strip().partition(" ")
            if ready == "True":
                self.ready.setdefault(name, time.monotonic())


def _until(true: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > end:
            raise Failed(f"after {PATIENCE} seconds it was not so that {what}")
        time.sleep(0.05)
