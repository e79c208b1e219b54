"""One cluster for all tests here; each test leaves nothing behind on its node, which is checked."""

import os
from collections.abc import Iterator
from pathlib import Path

import cluster as clusters
import deployed as deployments
import executables
import pytest
from cluster import Cluster
from deployed import Deployed
from installed import tools
from traces import Traces

NEEDED = ("etcd", "containerd", "runc", "openssl", "busybox", "nft", "iptables", "setpriv", "unshare", "nsenter")


@pytest.fixture(scope="session")
def kubernetes() -> Path:
    """The directory of Kubernetes' executables, where all that a cluster needs is there."""
    if os.geteuid() != 0:
        pytest.skip("a cluster needs root")
    tools(*NEEDED)
    try:
        return executables.find()
    except executables.Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def cluster(kubernetes: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A control plane and a node."""
    with clusters.running(tmp_path_factory.mktemp("cluster"), kubernetes) as made:
        yield made


@pytest.fixture(scope="session")
def installed(cluster: Cluster) -> Iterator[Deployed]:
    """plexus, in it."""
    made = deployments.deploy(cluster)
    cluster.wait_for_node()
    with deployments.attended(cluster):
        yield made


@pytest.fixture
def plexus(installed: Deployed) -> Iterator[Deployed]:
    """plexus, and the promise that all of what a test had it make is gone when the test's pods are."""
    cluster = installed.cluster
    before = Traces.of(cluster)
    yield installed
    installed.configure()
    cluster.delete("deployments,pods", "--all", "--all-namespaces")
    cluster.delete("network-attachment-definitions", "--all", "--all-namespaces")
    before.wait_until_again(cluster)
