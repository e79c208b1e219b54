"""The DaemonSet makes plexus the plugin of every pod, keeps it so, and takes it back."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import agent as agents
import cluster as clusters
import pytest
from agent import DAEMONS, DAEMONSET, PRIMARY_NETWORK, Agent
from cluster import Cluster, eventually
from deployed import ROOT, place_others
from node import CONF_DIR
from runtime import Runtime
from traces import Traces
from workloads import bridge, network, pod

CROWD = 8
"""Pods that come at once."""
UNINSTALL = ROOT / "deploy" / "uninstall.yaml"


@pytest.fixture(scope="module")
def agent(kubernetes: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """A cluster whose node has its primary network, before the DaemonSet comes."""
    directory = tmp_path_factory.mktemp("daemonset")
    with clusters.running(directory, kubernetes) as cluster:
        place_others(cluster.node.bin_dir)
        made = Agent(cluster, agents.assemble(directory))
        made.write_primary()
        cluster.wait_for_node()
        yield made


@pytest.fixture
def deployed(agent: Agent) -> Agent:
    """The same, once the DaemonSet has come."""
    agent.import_image()
    agent.deploy()
    return agent


def test_the_daemonset_embeds_the_primary_and_pods_get_their_networks(deployed: Agent):
    cluster = deployed.cluster
    cluster.apply(network("net-1", bridge(1)), pod("first", "net-1"))
    cluster.wait_for_pod("first")

    (plugin,) = json.loads(deployed.entry.read_text())["plugins"]

    assert (plugin["type"], plugin["delegates"]) == ("plexus", [PRIMARY_NETWORK])
    assert [status["name"] for status in cluster.statuses("first")] == ["pod-network", "default/net-1"]
    assert cluster.wait_for_event("first", "AddedInterface", "net1", "default/net-1")
    clear(cluster)


def test_what_the_agent_wrote_stays_when_it_ends_and_pods_come_and_go_without_it(deployed: Agent):
    cluster = deployed.cluster
    before = files(deployed)

    cluster.delete(*DAEMONSET)
    eventually(lambda: not cluster.get("pods", "--namespace", "kube-system")["items"])

    assert files(deployed) == before
    traces = Traces.of(cluster)
    cluster.apply(network("net-1", bridge(1)), pod("alone", "net-1"))
    cluster.wait_for_pod("alone")
    assert len(cluster.statuses("alone")) == 2
    clear(cluster)
    traces.wait_until_again(cluster)


def test_the_primary_is_followed_and_its_last_good_configuration_kept(deployed: Agent):
    deployed.primary.write_text("{")

    deployed.write_primary(comment="new")

    eventually(
        lambda: (
            json.loads(deployed.entry.read_text())["plugins"][0]["delegates"] == [PRIMARY_NETWORK | {"comment": "new"}]
        )
    )
    deployed.write_primary()
    eventually(lambda: json.loads(deployed.entry.read_text())["plugins"][0]["delegates"] == [PRIMARY_NETWORK])


def test_no_sandbox_comes_without_its_network_while_everything_is_restarted(deployed: Agent):
    cluster = deployed.cluster
    cluster.apply(network("net-1", bridge(1)), pod("wanting", "net-1"))
    storm = Runtime(cluster.node, cluster.wait_for_pod("wanting"), "net1")
    traces = Traces.of(cluster)
    names = [f"pod-{number}" for number in range(len(RESTARTS))]

    with storm.running():
        for name, restart in zip(names, RESTARTS, strict=True):
            cluster.apply(pod(name, "net-1"))
            restart(deployed)
        deployed.wait()
        calm = storm.attached
        eventually(lambda: storm.attached > calm + 3 or storm.wrong)

    assert storm.wrong == []
    for name in names:
        cluster.wait_for_pod(name)
        assert [status["name"] for status in cluster.statuses(name)] == ["pod-network", "default/net-1"]
    cluster.delete("pods", *names)
    traces.wait_until_again(cluster)
    clear(cluster)


@pytest.fixture
def accelerated(deployed: Agent) -> Agent:
    """The same, with a node daemon by the component."""
    deployed.deploy_daemon()
    return deployed


def test_pods_are_served_by_the_daemon_of_its_component(accelerated: Agent):
    cluster, before = accelerated.cluster, accelerated.served("ADD")
    traces = Traces.of(cluster)
    cluster.apply(network("net-1", bridge(1)))

    def is_served() -> bool:
        """Whether a pod is, since on a busy machine launchers may not wait for the daemon."""
        cluster.apply(pod("quick", "net-1"))
        cluster.wait_for_pod("quick")
        assert [status["name"] for status in cluster.statuses("quick")] == ["pod-network", "default/net-1"]
        cluster.delete("pod", "quick")
        return accelerated.served("ADD") > before and accelerated.served("DEL") > 0

    assert eventually(is_served)

    traces.wait_until_again(cluster)
    clear(cluster)


def test_no_pod_is_lost_or_attached_twice_when_the_daemon_is_killed_while_pods_come(accelerated: Agent):
    cluster = accelerated.cluster
    traces = Traces.of(cluster)
    names = [f"crowd-{number}" for number in range(CROWD)]
    cluster.apply(network("net-1", bridge(1)), *(pod(name, "net-1") for name in names))
    eventually(lambda: cluster.host.files("/var/lib/cni/plexus/containers"))  # the first ADD has begun

    cluster.host.run("kill", "-KILL", *accelerated.daemons())

    for name in names:
        cluster.wait_for_pod(name)
        assert [status["name"] for status in cluster.statuses(name)] == ["pod-network", "default/net-1"]
    addresses = [status["ips"][0] for name in names for status in cluster.statuses(name)]
    assert len(set(addresses)) == 2 * CROWD
    accelerated.wait_for_rollout(DAEMONS)
    cluster.delete("pods", *names)
    traces.wait_until_again(cluster)
    clear(cluster)


def test_pods_work_come_and_go_when_the_daemon_is_removed(accelerated: Agent):
    cluster = accelerated.cluster
    traces = Traces.of(cluster)
    cluster.apply(network("net-1", bridge(1, isGateway=True)), pod("old", "net-1"))
    cluster.wait_for_pod("old")
    address = cluster.statuses("old")[1]["ips"][0]

    cluster.delete(*DAEMONS)
    eventually(lambda: not accelerated.daemons())

    assert cluster.host.files("/run/plexus") == []
    assert cluster.host.pings(address)
    cluster.apply(pod("new", "net-1"))
    cluster.wait_for_pod("new")
    assert len(cluster.statuses("new")) == 2
    cluster.delete("pods", "old", "new")
    traces.wait_until_again(cluster)
    clear(cluster)


def test_uninstalling_gives_the_node_back_to_the_primary(agent: Agent):
    cluster = agent.cluster
    cluster.kubectl("delete", "--ignore-not-found", *DAEMONSET)
    clear(cluster)
    agent.import_image()
    uninstall(agent)
    before = files(agent)
    agent.deploy()
    assert agent.entry.exists()

    uninstall(agent)

    assert files(agent) == before
    cluster.apply(pod("primary"))
    cluster.wait_for_pod("primary")
    assert "k8s.v1.cni.cncf.io/network-status" not in cluster.pod("primary")["metadata"].get("annotations", {})
    clear(cluster)


RESTARTS = (
    lambda deployed: restart_api(deployed.cluster),
    lambda deployed: deployed.cluster.node.containerd.restart("KILL"),
    lambda deployed: deployed.write_primary(comment="rewritten"),
    lambda deployed: deployed.reinstall(),
    lambda deployed: deployed.primary.write_text("{"),
    lambda deployed: deployed.cluster.node.kubelet.restart(),
    lambda deployed: deployed.write_primary(),
    lambda deployed: deployed.cluster.kubectl("rollout", "restart", *DAEMONSET),
)


def restart_api(cluster: Cluster) -> None:
    """Have the API server be away for a moment."""
    cluster.control_plane.apiserver.restart("KILL")
    cluster.wait_for_api()


def uninstall(agent: Agent) -> None:
    """Do what the documentation says: turn the DaemonSet into its opposite, and delete it when it is done."""
    cluster = agent.cluster
    agent.cluster.kubectl("apply", "--kustomize", str(ROOT / "deploy"))
    cluster.kubectl("patch", *DAEMONSET, "--type=json", "--patch-file", str(UNINSTALL))
    agent.wait_for_rollout()
    eventually(lambda: not agent.entry.exists())
    cluster.kubectl("delete", *DAEMONSET)


def clear(cluster: Cluster) -> None:
    """Delete the pods and the networks of the tests."""
    cluster.delete("pods,network-attachment-definitions", "--all")


def files(agent: Agent) -> dict[str, str]:
    """What is installed and configured on the node: paths, and what the files have in them."""
    root = Path(f"/proc/{agent.cluster.host.pid}/root")
    paths = (path for top in ("opt", CONF_DIR[1:]) for path in (root / top).rglob("*"))
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in paths
    }
