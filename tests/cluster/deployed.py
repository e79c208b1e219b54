"""plexus in a cluster: its launchers and configuration on the node, its role and the networks' kind in the API."""

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster import Cluster, eventually
from comparison import columns
from installed import DAEMON_WANTED, OLD, reference_plugins
from node import BIN_DIR

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE, ACCOUNT = "kube-system", "plexus"
USER = f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"
LISTENING = {f"{verb} {kind}" for verb in ("list", "watch") for kind in ("pods", "network-attachment-definitions")}
"""What a daemon asks, so that it need not ask later."""
OTHERS = ("loopback", "portmap")
"""Executables of other vendors, as every node has them."""
COPIES = {"bridge": "reference-bridge", "host-local": "reference-host-local"}
"""The reference's own, by the names that networks use for those that are to be executed."""


def pod_network(bridge: str = "bridge", ipam: str = "host-local") -> dict[str, Any]:
    """The cluster network, with plugins of these names."""
    addresses = {"type": ipam, "ranges": [[{"subnet": "10.244.0.0/20"}]]}
    first = {"type": bridge, "bridge": "cni0", "isDefaultGateway": True, "ipMasq": True, "ipam": addresses}
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": "pod-network", "plugins": [first, portmap]}


@dataclass(frozen=True)
class Deployed:
    """What is installed, and how it is configured."""

    cluster: Cluster
    kubeconfig: Path

    @property
    def conf_file(self) -> Path:
        """The runtime's configuration: the first of its directory."""
        return self.cluster.node.conf_dir / "00-plexus.conflist"

    def configure(self, **keys: Any) -> None:
        """Write the runtime's configuration, by rename within its directory as containerd needs it."""
        plugin = {
            "type": "plexus",
            "kubeconfig": str(self.kubeconfig),
            "binDir": BIN_DIR,
            "capabilities": {"portMappings": True},
            "delegates": [pod_network()],
        } | keys
        temporary = self.conf_file.with_suffix(".new")
        temporary.write_text(json.dumps({"cniVersion": "1.0.0", "name": "plexus", "plugins": [plugin]}))
        temporary.rename(self.conf_file)

    def call(self, command: str, container_id: str, **args: str) -> subprocess.CompletedProcess[str]:
        """Call plexus as a runtime would, without one, for a sandbox that is nobody's."""
        sandbox = Path("/run/netns") / container_id
        self.cluster.host.call("ip", "netns", "add", container_id)
        (plugin,) = json.loads(self.conf_file.read_text())["plugins"]
        environ = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container_id,
            "CNI_NETNS": str(sandbox),
            "CNI_IFNAME": "eth0",
            "CNI_PATH": BIN_DIR,
            "CNI_ARGS": ";".join(["IgnoreUnknown=1", *(f"K8S_POD_{key}={value}" for key, value in args.items())]),
        }
        conf = plugin | {"cniVersion": "1.0.0", "name": "plexus"}
        try:
            return self.cluster.host.call(f"{BIN_DIR}/plexus", stdin=json.dumps(conf), environ=environ)
        finally:
            self.cluster.host.call("ip", "netns", "delete", container_id)

    def requests(self) -> list[str]:
        """What plexus has asked the API server so far, as `verb resource`, besides what a daemon listens to."""
        requests = self.cluster.control_plane.requests()
        ours = (request for request in requests if request["user"]["username"] == USER)
        asked = (f"{request['verb']} {_resource(request['objectRef'])}" for request in ours)
        return [request for request in asked if request not in LISTENING]


@contextlib.contextmanager
def attended(cluster: Cluster) -> Iterator[None]:
    """Have a node daemon with PLEXUS_TESTS_DAEMON=1, which may watch; the launchers then do nothing alone."""
    if not DAEMON_WANTED:
        yield
        return
    cluster.kubectl("apply", "-f", str(ROOT / "deploy/components/daemon/rbac.yaml"))
    daemon = cluster.node.daemon
    daemon.start()
    eventually((cluster.node.bin_dir / "plexus.sock").exists)
    try:
        yield
        assert daemon.is_running(), f"the daemon has ended: {daemon.log.read_text()}"
    finally:
        daemon.stop()


def deploy(cluster: Cluster) -> Deployed:
    """Install plexus on the node, and what it needs in the API."""
    directory = ROOT / "deploy" / "base"
    cluster.kubectl("apply", "-f", str(directory / "crd.yaml"), "-f", str(directory / "rbac.yaml"))
    kind = "customresourcedefinition/network-attachment-definitions.k8s.cni.cncf.io"
    cluster.kubectl("wait", "--for=condition=Established", kind, "--timeout=60s")
    token = cluster.kubectl("create", "token", ACCOUNT, "--namespace", NAMESPACE, "--duration=24h").strip()
    kubeconfig = cluster.node.credentials.write_kubeconfig(ACCOUNT, token)
    columns.install(cluster.node.bin_dir, columns.DEPENDENT if DAEMON_WANTED else "", called=BIN_DIR)
    place_others(cluster.node.bin_dir)
    deployed = Deployed(cluster, kubeconfig)
    deployed.configure()
    return deployed


def place_others(directory: Path) -> None:
    """Put other vendors' plugins into the node's directory."""
    theirs = reference_plugins(OLD, *OTHERS, *COPIES)
    for name in OTHERS:
        shutil.copy(theirs / name, directory / name)
    for name, copy in COPIES.items():
        shutil.copy(theirs / name, directory / copy)


def _resource(reference: dict[str, str]) -> str:
    return "/".join(filter(None, (reference["resource"], reference.get("subresource"))))
