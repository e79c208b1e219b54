"""Pods and their networks, as users ask for them."""

import json
from collections import Counter
from collections.abc import Iterator

import pytest
from cluster import Cluster, eventually
from deployed import Deployed
from installed import DAEMON_WANTED
from throwaway import Host
from traces import Traces
from workloads import NETWORKS, bridge, network, pod

SERVE = ("sh", "-c", "while true; do echo welcome | nc -l -p 80; done")
PORTS = ({"type": "portmap", "capabilities": {"portMappings": True}},)


@pytest.fixture(scope="session")
def neighbour(cluster: Cluster) -> Host:
    """Another machine on the node's network, 203.0.113.2; the node is 203.0.113.1."""
    return cluster.host.neighbour()


@pytest.fixture
def tenant(plexus: Deployed) -> Iterator[str]:
    """A namespace besides "default"."""
    plexus.cluster.kubectl("create", "namespace", "tenant")
    eventually(lambda: plexus.cluster.kubectl("get", "serviceaccount", "default", "-n", "tenant"), AssertionError)
    yield "tenant"
    plexus.cluster.delete("namespace", "tenant")


def test_a_plain_pod_gets_the_cluster_network(plexus: Deployed):
    cluster = plexus.cluster
    cluster.apply(pod("plain"))
    cluster.wait_for_pod("plain")

    (status,) = cluster.statuses("plain")

    assert (status["name"], status["interface"], status["default"]) == ("pod-network", "eth0", True)
    assert status["ips"] == [cluster.pod("plain")["status"]["podIP"]]
    assert cluster.wait_for_event("plain", "AddedInterface", "eth0", status["ips"][0], "pod-network")


@pytest.mark.parametrize("count", [1, 3, 16])
def test_a_pod_gets_every_network_it_asks_for(plexus: Deployed, count: int):
    cluster = plexus.cluster
    names = [f"net-{number}" for number in range(count)]
    cluster.apply(*(network(name, bridge(number)) for number, name in enumerate(names)))
    cluster.apply(pod("many", ",".join(names)))
    cluster.wait_for_pod("many")

    found = cluster.statuses("many")

    assert [status["name"] for status in found] == ["pod-network", *(f"default/{name}" for name in names)]
    for number, status in enumerate(found[1:]):
        assert status["interface"] == f"net{number + 1}"
        assert f"inet {status['ips'][0]}/24" in cluster.inside("many", "ip", "address", "show", status["interface"])


@pytest.mark.parametrize("count", [0, 1, 3])
def test_add_asks_the_api_three_times_and_once_per_definition_and_delete_never(plexus: Deployed, count: int):
    cluster = plexus.cluster
    names = [f"net-{number}" for number in range(count)]
    counted = pod("counted", ",".join(names))
    requests, traces = len(plexus.requests()), Traces.of(cluster)

    cluster.apply(*(network(name, bridge(number)) for number, name in enumerate(names)), counted)
    cluster.wait_for_pod("counted")
    eventually(lambda: "create events" in plexus.requests()[requests:])  # nobody waits for it but us

    asked = plexus.requests()[requests:]
    questions = ["get pods", *["get network-attachment-definitions"] * count]
    told = ["patch pods/status", "create events"]
    if DAEMON_WANTED:  # it has heard of most already
        assert [request for request in asked if request not in questions] == told
        assert not Counter(asked) - Counter([*questions, *told])
    else:
        assert asked == [*questions, *told]
    cluster.delete("pod", "counted")
    traces.wait_until_again(cluster)
    assert plexus.requests()[requests + len(asked) :] == []


def test_a_virtual_machines_pod_gets_its_second_nic_and_may_do_with_it_what_kubevirt_does(plexus: Deployed):
    cluster, mac = plexus.cluster, "02:00:00:64:00:0a"
    cluster.apply(network("multus-br", bridge(7, isGateway=True)))
    asked = {"name": "multus-br", "namespace": "default", "interface": "pod37a8eec1ce1", "mac": mac}
    cluster.apply(pod("virt-launcher-vm1-x7k2p", [asked]))
    cluster.wait_for_pod("virt-launcher-vm1-x7k2p")

    status = cluster.statuses("virt-launcher-vm1-x7k2p")[1]

    assert (status["name"], status["interface"], status["mac"]) == ("default/multus-br", "pod37a8eec1ce1", mac)
    assert cluster.host.pings(status["ips"][0])
    process = cluster.process("virt-launcher-vm1-x7k2p")
    for command in (
        "link set pod37a8eec1ce1 down",
        "link set pod37a8eec1ce1 name nic37a8eec1ce1 address 02:00:00:00:00:01",
        "address flush dev nic37a8eec1ce1",
        "link add k6t-37a8eec1ce1 type bridge",
        "link set nic37a8eec1ce1 master k6t-37a8eec1ce1",
        "tuntap add tap37a8eec1ce1 mode tap",
        "link set tap37a8eec1ce1 master k6t-37a8eec1ce1",
    ):
        cluster.host.run("nsenter", f"--net=/proc/{process}/ns/net", "ip", *command.split())


def test_a_static_pod_gets_its_networks(plexus: Deployed):
    cluster = plexus.cluster
    cluster.apply(network("net-1", bridge(1)))
    manifest = cluster.node.static_pods / "static.json"
    manifest.write_text(json.dumps(pod("static", "net-1")))
    cluster.wait_for_pod("static-localhost")

    found = cluster.statuses("static-localhost")

    assert [status["name"] for status in found] == ["pod-network", "default/net-1"]
    manifest.unlink()
    eventually(lambda: "static-localhost" not in cluster.kubectl("get", "pods"))


def test_the_default_route_is_the_networks_that_the_pod_names(plexus: Deployed):
    cluster = plexus.cluster
    cluster.apply(network("net-1", bridge(1, isGateway=True)))
    cluster.apply(pod("routed", [{"name": "net-1", "default-route": ["10.1.1.1"]}]))
    cluster.wait_for_pod("routed")

    routes = cluster.inside("routed", "ip", "route").splitlines()

    assert [route.strip() for route in routes if route.startswith("default")] == ["default via 10.1.1.1 dev net1"]
    assert [status.get("gateway") for status in cluster.statuses("routed")] == [None, ["10.1.1.1"]]


def test_a_port_of_the_node_leads_to_a_network_with_portmap_in_its_chain(plexus: Deployed, neighbour: Host):
    cluster = plexus.cluster
    cluster.apply(network("net-1", bridge(1, isGateway=True), *PORTS))
    mapping = {"hostPort": 18080, "containerPort": 80, "protocol": "tcp"}
    asked = {"name": "net-1", "portMappings": [mapping], "default-route": ["10.1.1.1"]}
    cluster.apply(pod("server", [asked], command=SERVE))
    cluster.wait_for_pod("server")

    assert eventually(lambda: neighbour.hears("203.0.113.1", 18080)) == "welcome\n"


def test_a_port_of_the_node_leads_to_the_cluster_network(plexus: Deployed, neighbour: Host):
    cluster = plexus.cluster
    cluster.apply(pod("server", ports=[{"hostPort": 18081, "containerPort": 80}], command=SERVE))
    cluster.wait_for_pod("server")

    assert eventually(lambda: neighbour.hears("203.0.113.1", 18081)) == "welcome\n"


def test_isolated_namespaces_lend_their_networks_to_nobody_until_they_are_global(plexus: Deployed, tenant: str):
    cluster = plexus.cluster
    plexus.configure(namespaceIsolation=True)
    cluster.apply(network("net-1", bridge(1), namespace=tenant))
    cluster.apply(pod("own", "net-1", namespace=tenant), pod("stranger", f"{tenant}/net-1"))

    cluster.wait_for_pod("own", tenant)
    told = cluster.wait_for_event("stranger", "FailedCreatePodSandBox", "PLX-ISOLATION")

    assert f'network "{tenant}/net-1" in namespace "default"' in told
    assert "use a network of the pod's own namespace" in told
    plexus.configure(namespaceIsolation=True, globalNamespaces=f"default,{tenant}")
    cluster.wait_for_pod("stranger")
    assert [status["name"] for status in cluster.statuses("stranger")] == ["pod-network", f"{tenant}/net-1"]


def test_the_pod_of_another_uid_is_not_attached(plexus: Deployed):
    cluster = plexus.cluster
    cluster.apply(pod("taken"))
    uid = cluster.wait_for_pod("taken")["metadata"]["uid"]

    refused = plexus.call(
        "ADD", "stranger", NAMESPACE="default", NAME="taken", UID="b4d5c1f0-0000-0000-0000-000000000000"
    )

    error = json.loads(refused.stdout)
    assert (refused.returncode, error["code"]) == (1, 11)
    assert uid in error["msg"]
    assert "PLX-POD-UID" in error["details"]


def test_executed_reference_plugins_serve_networks_beside_ours(plexus: Deployed):
    cluster = plexus.cluster
    theirs = bridge(2, kind="reference-bridge", ipam="reference-host-local")
    cluster.apply(network("ours", bridge(1)), network("theirs", theirs, *PORTS))
    cluster.apply(pod("both", "ours,theirs"))
    cluster.wait_for_pod("both")

    found = cluster.statuses("both")

    assert [(status["name"], status["interface"]) for status in found] == [
        ("pod-network", "eth0"),
        ("default/ours", "net1"),
        ("default/theirs", "net2"),
    ]
    assert f"inet {found[2]['ips'][0]}/24" in cluster.inside("both", "ip", "address", "show", "net2")


def test_a_wrong_annotation_is_told_with_its_place(plexus: Deployed):
    cluster = plexus.cluster
    wrong = pod("wrong", annotations={NETWORKS: '[{"name": "net-1", "mac": "02:00:00"}]'})
    cluster.apply(wrong)

    told = cluster.wait_for_event("wrong", "FailedCreatePodSandBox", "02:00:00")

    assert "element 1 of annotation k8s.v1.cni.cncf.io/networks" in told
