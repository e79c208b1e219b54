"""What workloads run on: namespaces of their own, in which another process does the work."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cluster as clusters
import executables
from control_plane import ControlPlane
from credentials import ADMINISTRATOR, Credentials
from node import Node
from throwaway import Host, throwaway_host

from measuring import places as where
from measuring.call import ENVIRON
from measuring.catalogue import WORKLOADS, Stage
from measuring.places import ROOT, Places
from measuring.samples import Sample, read

TIMEOUT = 1800
"""Seconds that a workload may take."""
DEFINITION = "customresourcedefinition/network-attachment-definitions.k8s.cni.cncf.io"


def run(letter: str, places: Places, *, quick: bool) -> list[Sample]:
    """Do a workload on its stage. Raises Unavailable."""
    stage = WORKLOADS[letter].stage
    if stage is Stage.CLUSTER:
        return WORKLOADS[letter].run(replace(places, multus=where.multus()), quick=quick)
    with throwaway_host() if stage is Stage.HOST else contextlib.nullcontext() as host:
        if host:
            return _inside(host, letter, places, quick=quick)
    with _api(places) as (host, reaching):
        return _inside(host, letter, reaching, quick=quick)


def inside() -> None:
    """Be the process that does the work: what to do is on stdin, the samples go to stdout."""
    asked = json.load(sys.stdin)
    stdout = os.dup(1)
    os.dup2(2, 1)
    samples = WORKLOADS[asked["letter"]].run(Places(**asked["places"]), quick=asked["quick"])
    with os.fdopen(stdout, "w") as file:
        json.dump([vars(sample) for sample in samples], file)


def _inside(host: Host, letter: str, places: Places, *, quick: bool) -> list[Sample]:
    asked = json.dumps({"letter": letter, "places": vars(places), "quick": quick})
    words = host.command(sys.executable, str(ROOT / "bench" / "run"), "--inside")
    done = subprocess.run(
        words, input=asked, env=os.environ | ENVIRON, stdout=subprocess.PIPE, text=True, check=True, timeout=TIMEOUT
    )
    return list(read(json.loads(done.stdout)))


@contextlib.contextmanager
def _api(places: Places) -> Iterator[tuple[Host, Places]]:
    """Have a host with an API server that knows the networks' kind."""
    found = kubernetes()
    with tempfile.TemporaryDirectory(prefix="plexus-bench") as given, clusters.machine(Path(given)) as host:
        directory = Path(given)
        credentials = Credentials(directory / "credentials")
        credentials.create()
        plane = ControlPlane(host, directory, found, credentials)
        cluster = clusters.Cluster(plane, Node(host, directory, found, credentials))
        services = (plane.etcd, plane.apiserver)
        try:
            for service in services:
                service.start()
            cluster.wait_for_api()
            know_networks(cluster)
            cluster.kubectl("create", "serviceaccount", "default")
            yield host, reaching(places, credentials)
        finally:
            for service in reversed(services):
                with contextlib.suppress(AssertionError):
                    service.stop("KILL")


def kubernetes() -> Path:
    """The directory of Kubernetes' executables. Raises Unavailable."""
    try:
        return executables.find()
    except executables.Unavailable as error:
        raise where.Unavailable(str(error)) from error


def reaching(places: Places, credentials: Credentials) -> Places:
    """The places, with Multus and the way to the API: the administrator's for all contenders."""
    return replace(
        places,
        multus=where.multus(),
        kubeconfig=str(credentials.kubeconfig(ADMINISTRATOR)),
        token=credentials.tokens[ADMINISTRATOR],
        authority=str(credentials.certificate),
    )


def know_networks(cluster: clusters.Cluster) -> None:
    """Have the API know NetworkAttachmentDefinitions."""
    (definition,) = (ROOT / "deploy").rglob("crd.yaml")
    cluster.kubectl("apply", "-f", str(definition))
    cluster.kubectl("wait", "--for=condition=Established", DEFINITION, "--timeout=60s")
