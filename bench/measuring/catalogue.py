"""The workloads by letter: what each is called, which function does it, and what it needs around it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from measuring.places import Places
from measuring.samples import Sample


class Stage(Enum):
    """What a workload runs on; all of it is gone afterwards."""

    HOST = "a host of its own"
    API = "a host of its own with etcd and kube-apiserver"
    CLUSTER = "a cluster of one node"


@dataclass(frozen=True)
class Workload:
    """One of them; `of` names what differs between its points."""

    title: str
    function: str
    stage: Stage
    of: str = ""

    def load(self) -> Callable[..., list[Sample]]:
        """The function; it is told the places, and whether it has to be quick."""
        module, _, name = self.function.partition(":")
        function: Callable[..., list[Sample]] = getattr(importlib.import_module(f"measuring.{module}"), name)
        return function

    def run(self, places: Places, *, quick: bool) -> list[Sample]:
        """Do the work."""
        return self.load()(places, quick=quick)


WORKLOADS = {
    "a": Workload("bridge and host-local", "bridges:plain", Stage.HOST),
    "b": Workload("bridge with ipMasq, and host-local", "bridges:masqueraded", Stage.HOST),
    "c": Workload("a pod with its default network and NADs, through the API", "pods:attached", Stage.API, "NADs"),
    "d": Workload("host-local alone", "leases:grown", Stage.HOST, "leases"),
    "e": Workload("a burst of pods with 3 NADs each, 16 at a time", "burst:burst", Stage.API, "pods"),
    "f": Workload("concurrent ADDs of pods with 3 NADs: the daemon's memory", "memory:crowded", Stage.API, "pods"),
    "g": Workload("kubelet and containerd: pods with 3 NADs come and go", "kubelet:deployed", Stage.CLUSTER, "pods"),
    "h": Workload("bridge and host-local, as the bridge has ports", "ports:grown", Stage.HOST, "ports"),
}
