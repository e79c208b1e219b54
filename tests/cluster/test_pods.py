"""Pods and their networks, as users ask for them."""

import json

import pytest
from cluster import Cluster
from deployed import Deployed
from workloads import STATUS, bridge, network, pod


def statuses(cluster: Cluster, name: str, namespace: str = "default") -> list[dict]:
    """The network-status of a pod."""
    return json.loads(cluster.pod(name, namespace)["metadata"]["annotations"][STATUS])


def test_a_plain_pod_gets_the_cluster_network(plexus: Deployed):
    cluster = plexus.cluster
    cluster.apply(pod("plain"))
    cluster.wait_for_pod("plain")

    (status,) = statuses(cluster, "plain")

    assert (status["name"], status["interface"], status["default"]) == ("pod-network", "eth0", True)
    assert status["ips"] == [cluster.pod("plain")["status"]["podIP"]]
    assert plexus.requests("plain") == ["get pods", "patch pods/status", "create events"]


@pytest.mark.parametrize("count", [1, 3, 16])
def test_a_pod_gets_every_network_it_asks_for(plexus: Deployed, count: int):
    cluster = plexus.cluster
    names = [f"net-{number}" for number in range(count)]
    cluster.apply(*(network(name, bridge(number)) for number, name in enumerate(names)))
    cluster.apply(pod("many", ",".join(names)))
    cluster.wait_for_pod("many")

    found = statuses(cluster, "many")

    assert [status["name"] for status in found] == ["pod-network", *(f"default/{name}" for name in names)]
    for number, status in enumerate(found[1:]):
        assert status["interface"] == f"net{number + 1}"
        assert f"inet {status['ips'][0]}/24" in cluster.inside("many", "ip", "address", "show", status["interface"])
