"""Many pods that come and go."""

import pytest
from cluster import Cluster, eventually
from deployed import Deployed
from traces import Traces
from workloads import bridge, deployment, network, network_status

REPLICAS = 20
LONG = 180


@pytest.mark.parametrize(
    "plugin",
    [bridge(1), bridge(1, kind="reference-bridge", ipam="reference-host-local")],
    ids=["ours", "the reference's, executed"],
)
def test_a_deployment_that_is_scaled_up_and_down_leaves_nothing(plexus: Deployed, plugin: dict):
    cluster = plexus.cluster
    before = Traces.of(cluster)
    cluster.apply(network("net-1", plugin), deployment("web", "net-1", 0))
    for _ in range(3):
        cluster.kubectl("scale", "deployment/web", f"--replicas={REPLICAS}")
        eventually(lambda: ready(cluster) == REPLICAS, within=LONG)
        found = [status for pod in cluster.get("pods")["items"] for status in network_status(pod)]

        assert len({status["ips"][0] for status in found}) == len(found) == 2 * REPLICAS

        cluster.kubectl("scale", "deployment/web", "--replicas=0")
        eventually(lambda: not cluster.get("pods")["items"], within=LONG)
        before.wait_until_again(cluster, within=LONG)


def ready(cluster: Cluster) -> int:
    """How many replicas are."""
    return cluster.get("deployment", "web")["status"].get("readyReplicas", 0)
