"""Every example runs: its pods are attached to what it shows, checked, and detached without a trace."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from machine import REFERENCE, Namespace
from programs import find

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "conf-examples"
PORT_MAPPINGS = [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]


@dataclass(frozen=True)
class Example:
    """A folder with a node's configuration and manifests, or one file of manifests with the ordinary configuration."""

    path: str
    pods: dict[str, list[str]]
    """The interfaces that each pod gets."""

    needs: tuple[str, ...] = ()
    """Plugins that are not ours."""

    programs: tuple[str, ...] = ()
    """Programs that not every machine has."""

    bridges: tuple[str, ...] = ()
    """Bridges that the node's administrator made."""

    without_links: tuple[str, ...] = ()
    """Attachments that make no interface."""

    checked: bool = True
    """Whether CHECK is called: that of portmap 1.1 wants a chain of each family, also where a pod has one."""

    @property
    def configuration(self) -> Path:
        own = EXAMPLES / self.path / "10-plexus.conflist"
        return own if own.exists() else EXAMPLES / "10-plexus.conflist"

    @property
    def manifests(self) -> list[Path]:
        path = EXAMPLES / self.path
        return [path] if path.is_file() else sorted(path.glob("manifests/*.yaml"))

    @property
    def files(self) -> list[Path]:
        """What belongs into confDir, and below it."""
        return sorted(path for path in (EXAMPLES / self.path).glob("net.d/**/*") if path.is_file())


EXAMPLES_AND_PODS = [
    Example("auxiliary-chain", {"default/chained": ["eth0", "net1"]}, needs=("tuning",), without_links=("net1",)),
    Example("bridge-dual-stack.yaml", {"default/dual-stack": ["eth0", "net1"]}),
    Example("bridge-gateway-masquerade.yaml", {"default/masqueraded": ["eth0", "net1"]}),
    Example("bridge-hairpin.yaml", {"default/hairpin": ["eth0", "net1"]}),
    Example("bridge-l2.yaml", {"default/l2": ["eth0", "net1"]}),
    Example("bridge-macspoofchk.yaml", {"default/macspoofchk": ["eth0", "net1"]}),
    Example("bridge-marked.yaml", {"default/marked": ["eth0", "net1"]}, bridges=("br-marked",)),
    Example(
        "bridge-masquerade-iptables.yaml",
        {"default/masqueraded-by-iptables": ["eth0", "net1"]},
        programs=("iptables",),
    ),
    Example("bridge-mtu.yaml", {"default/mtu": ["eth0", "net1"]}),
    Example("bridge-port-isolation.yaml", {"default/port-isolation": ["eth0", "net1"]}),
    Example("bridge-promiscuous.yaml", {"default/promiscuous": ["eth0", "net1"]}),
    Example("bridge-static-request.yaml", {"default/static-request": ["eth0", "net1"]}),
    Example("bridge-temporary.yaml", {"default/temporary": ["eth0", "net1"]}),
    Example("bridge-vlan.yaml", {"default/vlan": ["eth0", "net1"]}),
    Example("bridge-vlan-trunk.yaml", {"default/vlan-trunk": ["eth0", "net1"]}),
    Example("cluster-network", {"default/plain": ["eth0"]}),
    Example("default-network.yaml", {"default/default-network": ["eth0"]}),
    Example("default-networks", {"default/monitored": ["eth0", "net1"], "kube-system/system": ["eth0"]}),
    Example("default-route.yaml", {"default/default-route": ["eth0", "net1"]}),
    Example("demo", {"default/virt-launcher-testvm-6zk4x": ["eth0", "pod2ec8d57a9eb"]}),
    Example("existing-bridges", {"default/measured": ["eth0", "net1"]}, bridges=("br-lab",)),
    Example("external-bridge", {"default/external-bridge": ["eth0"]}, needs=("bridge", "host-local")),
    Example("external-plugin.yaml", {"default/external-plugin": ["eth0", "net1"]}, needs=("tuning",)),
    Example("file-network", {"default/racked": ["eth0", "net1"]}),
    Example("isolated-namespaces", {"tenant/isolated": ["eth0", "net1", "net2"]}),
    Example("port-mappings", {"default/port-mapped": ["eth0"]}, needs=("portmap",), checked=False),
    Example("several-networks.yaml", {"default/several-networks": ["eth0", "net1", "backup0", "blue0"]}),
    Example("static-addresses.yaml", {"default/database": ["eth0", "net1"], "default/replica": ["eth0", "net1"]}),
    Example("tenants", {"tenant-b/guest": ["eth0", "net1"]}),
    Example("veth-routed.yaml", {"default/routed": ["eth0", "net1"]}),
]


class Node:
    """A machine in namespaces, with an example's files in a directory instead of /etc, /var and /opt."""

    def __init__(self, host: Namespace, directory: Path) -> None:
        self.host = host
        self.directory = directory

    def configure(self, example: Example) -> None:
        for target, sources in (
            ("cni/net.d", [example.configuration]),
            ("cni/multus/net.d", example.files),
            ("manifests", example.manifests),
        ):
            (self.directory / target).mkdir(parents=True)
            for source in sources:
                inside = source.relative_to(source.parents[1]) if "net.d" in source.parts[-3:-2] else source.name
                path = self.directory / target / inside
                path.parent.mkdir(exist_ok=True)
                path.write_text(self.moved(source))

    def moved(self, source: Path) -> str:
        """The file with its directories below ours; those it leaves to their defaults are written into it."""
        if source.suffix != ".yaml":
            return json.dumps(self.moved_conf(json.loads(source.read_text())))
        objects = list(yaml.safe_load_all(source.read_text()))
        for found in objects:
            if config := found.get("spec", {}).get("config"):
                found["spec"]["config"] = json.dumps(self.moved_conf(json.loads(config)))
        return yaml.safe_dump_all(objects)

    def moved_conf(self, conf: dict) -> dict:
        if conf.get("type") == "plexus":
            conf |= {
                "manifests": str(self.directory / "manifests"),
                "confDir": str(self.directory / "cni/multus/net.d"),
                "cniDir": str(self.directory / "state"),
                "hostPaths": [str(self.directory)],
                "policy": [self.moved_rule(rule) for rule in conf.get("policy", [])] or None,
                "binDir": REFERENCE,
            }
        for key in ("clusterNetwork", "readinessindicatorfile", "logFile"):
            if key in conf:
                conf[key] = conf[key].replace("/etc/", f"{self.directory}/").replace("/var/", f"{self.directory}/")
        if conf.get("ipam", {}).get("type") == "host-local":
            conf["ipam"]["dataDir"] = str(self.directory / "leases")
        for key in ("plugins", "delegates"):
            if key in conf:
                conf[key] = [self.moved_conf(entry) for entry in conf[key]]
        return conf

    def moved_rule(self, rule: dict) -> dict:
        return rule | ({"keys": [*rule["keys"], "ipam.dataDir"]} if "keys" in rule else {})

    def plexus(self, *arguments: str) -> str:
        environ = os.environ | {
            "NETCONFPATH": str(self.directory / "cni/net.d"),
            "CNI_PATH": REFERENCE,
            "CAP_ARGS": json.dumps({"portMappings": PORT_MAPPINGS}),
            "PYTHONPATH": str(ROOT),
        }
        cache = ("--cache-dir", str(self.directory / "results"))
        command = ["nsenter", f"--net={self.host.path}", sys.executable, "-m", "cni.cli", *arguments, *cache]
        process = subprocess.run(command, env=environ, cwd=self.directory, capture_output=True, text=True, check=False)
        assert process.returncode == 0, process.stdout + process.stderr
        return process.stdout

    def left(self) -> list[str]:
        """Files that a pod that is gone must not leave."""
        state = [path for part in ("state", "results") for path in (self.directory / part).rglob("*")]
        leases = [path for path in self.directory.glob("leases/*/*") if not path.name.startswith(("lock", "last_"))]
        return [str(path) for path in state + leases if path.is_file() and path.name != "executing.lock"]


@pytest.fixture
def node(host, tmp_path):
    return Node(host, tmp_path)


@pytest.fixture
def start(node, namespace, reference):
    """Attach the pods of an example; the result has, by pod, its sandbox and its rows of `plexus attach`."""

    def start_example(path: str) -> dict[str, tuple[Namespace, list[dict]]]:
        example = next(found for found in EXAMPLES_AND_PODS if found.path == path)
        if "vlan" in path and not filters_vlans(node.host):
            pytest.skip("this kernel has no bridge VLAN filtering")
        for plugin in example.needs:
            reference(plugin)
        for program in example.programs:
            find(program)
        for bridge in example.bridges:
            node.host.ip(f"link add {bridge} type bridge")
        node.configure(example)
        started = {}
        for pod in example.pods:
            sandbox = namespace("pod")
            started[pod] = (
                sandbox,
                json.loads(node.plexus("attach", "--pod", pod, "--netns", sandbox.path, "-o", "json")),
            )
        return started

    return start_example


def filters_vlans(host: Namespace) -> bool:
    command = ["ip", "-n", host.name, "link", "add", "vlan-test", "type", "bridge", "vlan_filtering", "1"]
    made = subprocess.run(command, capture_output=True, check=False).returncode == 0
    subprocess.run(["ip", "-n", host.name, "link", "del", "vlan-test"], capture_output=True, check=False)
    return made


def test_every_example_is_run():
    files = {str(path.relative_to(EXAMPLES)) for path in EXAMPLES.glob("*.yaml")}
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir()}
    assert {example.path for example in EXAMPLES_AND_PODS} == files | folders


@pytest.mark.parametrize("example", EXAMPLES_AND_PODS, ids=lambda example: example.path)
def test_an_example_is_attached_checked_and_detached_without_a_trace(node, start, example):
    started = start(example.path)
    for pod, (sandbox, rows) in started.items():
        assert [row["interface"] for row in rows] == example.pods[pod]
        assert set(sandbox.links()) == {"lo", *example.pods[pod]} - {*example.without_links}
        if example.checked:
            node.plexus("check", "--pod", pod)
    for pod, (sandbox, _) in started.items():
        node.plexus("detach", "--pod", pod)
        assert sandbox.links() == ["lo"]
    assert [link["ifname"] for link in node.host.ip_json("link show type veth")] == []
    assert node.left() == []


def only(started: dict) -> tuple[Namespace, list[dict]]:
    (found,) = started.values()
    return found


def test_the_static_request_is_granted(start):
    _, rows = only(start("bridge-static-request.yaml"))
    assert (rows[1]["ips"], rows[1]["mac"]) == (["10.23.0.42/24"], "02:00:00:17:00:2a")


def test_static_addresses_are_those_of_the_network_or_of_the_pod(start):
    started = start("static-addresses.yaml")
    assert {pod: rows[1]["ips"] for pod, (_, rows) in started.items()} == {
        "default/database": ["10.33.0.10/24", "2001:db8:33::10/64"],
        "default/replica": ["10.33.0.11/24"],
    }
    sandbox, _ = started["default/database"]
    assert "10.0.0.0/8" in [route["dst"] for route in sandbox.routes()]


def test_the_dual_stack_pod_has_an_address_of_each_family(start):
    sandbox, _ = only(start("bridge-dual-stack.yaml"))
    assert sandbox.addresses("net1") == ["10.22.0.2/24", "2001:db8:22::2/64"]


def test_the_default_route_goes_through_the_network_that_the_pod_named(start):
    sandbox, _ = only(start("default-route.yaml"))
    routes = [(route["gateway"], route["dev"]) for route in sandbox.routes() if route["dst"] == "default"]
    assert routes == [("10.31.0.1", "net1")]


def test_the_annotated_pod_has_another_default_network(start):
    _, rows = only(start("default-network.yaml"))
    assert [row["network"] for row in rows] == ["kube-system/special"]


def test_the_link_without_ipam_has_no_addresses(start):
    sandbox, rows = only(start("bridge-l2.yaml"))
    assert rows[1]["ips"] == []
    assert sandbox.addresses("net1") == []


def test_the_jumbo_pod_has_jumbo_frames_on_both_ends(node, start):
    sandbox, rows = only(start("bridge-mtu.yaml"))
    assert sandbox.link("net1")["mtu"] == node.host.link(rows[1]["hostInterface"])["mtu"] == 9000


def test_the_temporary_bridge_goes_with_its_only_pod(node, start):
    start("bridge-temporary.yaml")
    assert "br-scratch" in node.host.links()
    node.plexus("detach", "--pod", "default/temporary")
    assert "br-scratch" not in node.host.links()


def test_no_bridge_is_made_where_the_node_has_its_own(node, sandbox, start):
    start("existing-bridges")
    node.plexus("detach", "--pod", "default/measured")
    node.host.ip("link del br-lab")
    with pytest.raises(AssertionError, match=r'could not find bridge \\?"br-lab'):
        node.plexus("attach", "--pod", "default/measured", "--netns", sandbox.path)
    assert "br-lab" not in node.host.links()


def test_the_pod_that_iptables_hides_is_hidden_by_iptables(node, start):
    start("bridge-masquerade-iptables.yaml")
    printed = node.host.run(find("iptables"), "-t", "nat", "-S", "POSTROUTING")
    assert "-s 10.36.0.2/32" in printed


@pytest.mark.parametrize(
    ("example", "flag"), [("bridge-hairpin.yaml", "hairpin"), ("bridge-port-isolation.yaml", "isolated")]
)
def test_the_port_has_the_flag_that_the_example_shows(node, start, example, flag):
    _, rows = only(start(example))
    port = node.host.link(rows[1]["hostInterface"])["linkinfo"]["info_slave_data"]
    assert port[flag] is True


def test_the_promiscuous_bridge_is_promiscuous(node, start):
    start("bridge-promiscuous.yaml")
    assert "PROMISC" in node.host.link("br-promisc")["flags"]


def test_the_chains_of_directories_did_their_work(node, start):
    sandbox, _ = only(start("auxiliary-chain"))
    assert sandbox.sysctl("net/ipv4/ip_unprivileged_port_start") == "80"
    assert sandbox.sysctl("net/core/somaxconn") == "500"
    assert sandbox.link("eth0")["mtu"] == 1400


def test_the_external_plugin_did_its_work(start):
    sandbox, _ = only(start("external-plugin.yaml"))
    assert sandbox.sysctl("net/ipv4/ip_unprivileged_port_start") == "80"


def test_the_routed_pod_reaches_the_node_without_a_bridge(node, start):
    sandbox, rows = only(start("veth-routed.yaml"))
    assert rows[1]["bridge"] == ""
    assert sandbox.pings("10.29.0.1")


def test_the_other_tenants_network_is_refused_where_namespaces_are_isolated(node, sandbox, start):
    start("isolated-namespaces")
    pod = yaml.safe_load((EXAMPLES / "isolated-namespaces/manifests/pod.yaml").read_text())
    pod["metadata"] |= {"name": "intruder", "namespace": "default"}
    pod["metadata"]["annotations"] = {"k8s.v1.cni.cncf.io/networks": "tenant/private"}
    (node.directory / "manifests/intruder.yaml").write_text(yaml.safe_dump(pod))
    with pytest.raises(AssertionError, match="namespace isolation"):
        node.plexus("attach", "--pod", "default/intruder", "--netns", sandbox.path)
