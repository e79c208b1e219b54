"""What goes wrong in a cluster: pods wait and recover, they never run without their networks, and nothing stays."""

import json

from cluster import Cluster, eventually
from deployed import Deployed
from traces import Traces
from workloads import bridge, network, pod

FAILING = """#!/bin/sh
case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["0.4.0","1.0.0"]}' ;;
ADD)
    [ -e "$0.mended" ] || { echo '{"code":142,"msg":"no light on port 3","details":"plug it in"}'; exit 1; }
    echo '{"cniVersion":"1.0.0"}'
    ;;
esac
"""


def runs(cluster: Cluster, name: str) -> bool:
    """Whether any container of the pod has ever been started."""
    return bool(cluster.pod(name)["status"].get("podIP"))


def test_a_pod_waits_for_a_missing_network_and_recovers_when_it_is_created(plexus: Deployed):
    cluster = plexus.cluster
    cluster.apply(pod("waiting", "net-1"))

    told = cluster.wait_for_event("waiting", "FailedCreatePodSandBox", "PLX-NAD-MISSING")

    assert 'could not find NetworkAttachmentDefinition "default/net-1"' in told
    assert "create it in namespace default, or correct the pod's annotation" in told
    assert cluster.wait_for_event("waiting", "NoNetworkFound", "default/net-1")
    assert not runs(cluster, "waiting")
    cluster.apply(network("net-1", bridge(1)))
    cluster.wait_for_pod("waiting")
    assert [status["name"] for status in cluster.statuses("waiting")] == ["pod-network", "default/net-1"]


def test_a_pod_ends_cleanly_when_its_network_is_deleted_first(plexus: Deployed):
    cluster = plexus.cluster
    before = Traces.of(cluster)
    cluster.apply(network("net-1", bridge(1)), pod("orphan", "net-1"))
    cluster.wait_for_pod("orphan")

    cluster.delete("network-attachment-definition", "net-1")
    cluster.delete("pod", "orphan")

    before.wait_until_again(cluster)


def test_a_pod_that_is_deleted_by_force_leaves_nothing(plexus: Deployed):
    cluster = plexus.cluster
    before = Traces.of(cluster)
    cluster.apply(network("net-1", bridge(1)), pod("forced", "net-1"))
    cluster.wait_for_pod("forced")

    cluster.kubectl("delete", "pod", "forced", "--force", "--grace-period=0")

    before.wait_until_again(cluster)


def test_pods_come_with_their_networks_when_the_api_is_back_and_go_while_it_is_down(plexus: Deployed):
    cluster, apiserver = plexus.cluster, plexus.cluster.control_plane.apiserver
    before = Traces.of(cluster)
    plexus.configure(apiTimeout=1)
    cluster.apply(network("net-1", bridge(1)))
    manifest = cluster.node.static_pods / "static.json"
    log = cluster.node.kubelet.log
    apiserver.stop("KILL")
    try:
        manifest.write_text(json.dumps(pod("static", "net-1")))
        eventually(lambda: "PLX-API-UNREACHABLE" in log.read_text())
        apiserver.start()
        cluster.wait_for_api()
        cluster.wait_for_pod("static-localhost")
        assert [status["name"] for status in cluster.statuses("static-localhost")] == ["pod-network", "default/net-1"]

        apiserver.stop("KILL")
        manifest.unlink()

        before.wait_until_again(cluster)
    finally:
        manifest.unlink(missing_ok=True)
        if not apiserver.is_running():
            apiserver.start()
        cluster.wait_for_api()
        cluster.wait_for_node()


def test_a_network_that_fails_in_the_middle_takes_the_others_back_and_the_pod_recovers(plexus: Deployed):
    cluster, failing = plexus.cluster, plexus.cluster.node.bin_dir / "failing"
    failing.write_text(FAILING)
    failing.chmod(0o755)
    before = Traces.of(cluster)
    cluster.apply(
        network("one", bridge(1)), network("two", bridge(2), {"type": "failing"}), network("three", bridge(3))
    )
    cluster.apply(pod("halved", "one,two,three"))

    told = cluster.wait_for_event("halved", "FailedCreatePodSandBox", "no light on port 3")

    assert 'pod "default/halved", network "default/two", interface "net2"' in told
    assert "plug it in" in told
    assert cluster.wait_for_event("halved", "FailedToAttach", "no light on port 3", "plug it in")
    assert not runs(cluster, "halved")
    before.wait_until_again(cluster)  # between two tries
    failing.with_suffix(".mended").touch()
    cluster.wait_for_pod("halved")
    assert len(cluster.statuses("halved")) == 4


def test_pods_outlive_a_restart_of_containerd_and_go_cleanly_after_it(plexus: Deployed):
    cluster = plexus.cluster
    cluster.apply(network("net-1", bridge(1)), pod("old", "net-1"))
    cluster.wait_for_pod("old")
    address = cluster.statuses("old")[1]["ips"][0]

    cluster.node.containerd.restart("KILL")
    cluster.apply(pod("new", "net-1"))
    cluster.wait_for_pod("new")

    assert f"inet {address}/24" in cluster.inside("old", "ip", "address", "show", "net1")
    assert cluster.statuses("new")[1]["ips"] != [address]
