"""The DaemonSet in a cluster: its image, made of the bundle, and the node that it finds and changes."""

import json
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import archive
import node_daemon
from cluster import Cluster, eventually
from cluster_machine import seen
from deployed import COPIES, ROOT, pod_network
from node import CONF_DIR

from cni.node import bundle

IMAGE = "localhost/plexus:0.1.0"
"""As deploy/ names it."""
DAEMONSET = ("--namespace", "kube-system", "daemonset/plexus")
DAEMONS = ("--namespace", "kube-system", "daemonset/plexus-daemon")
METRICS = "/run/plexus/metrics.sock"
"""On the node, where the daemon is told to show what it has done."""
PRIMARY = "10-primary.conflist"
PRIMARY_NETWORK = pod_network(*COPIES.values())
"""Of plugins that are there without us."""


def assemble(directory: Path) -> Path:
    """Make the bundle, as the Containerfile does."""
    bundle = directory / "plexus"
    subprocess.run([ROOT / "deploy/image/assemble.sh", bundle], check=True, capture_output=True, timeout=300)
    return bundle


@dataclass(frozen=True)
class Agent:
    """What the DaemonSet does on the cluster's one node."""

    cluster: Cluster
    bundle: Path

    @property
    def entry(self) -> Path:
        """The runtime's configuration that it writes."""
        return self.cluster.node.conf_dir / "00-plexus.conflist"

    @property
    def primary(self) -> Path:
        """The configuration of the cluster's own network, which is there before."""
        return self.cluster.node.conf_dir / PRIMARY

    def write_primary(self, **keys: Any) -> None:
        """Have the primary's own agent write its configuration."""
        temporary = self.primary.with_suffix(".new")
        temporary.write_text(json.dumps(PRIMARY_NETWORK | keys))
        temporary.rename(self.primary)

    def import_image(self) -> None:
        """Give containerd the image, unless it has it: what the Containerfile copies to an empty one."""
        version, imported = (self.bundle / "version").read_text(), self.cluster.node.directory / "imported"
        if imported.exists() and imported.read_text() == version:
            return
        with tempfile.TemporaryDirectory() as directory:
            content, path = Path(directory, "plexus"), Path(directory, "plexus.tar")
            shutil.copytree(self.bundle, content, symlinks=True)
            bundle.relocate(str(content), "/plexus")
            entrypoint = ["/plexus/bin/python3", "-I", "-m", "cni.cli"]
            layer = archive.layer_of(content, "plexus")
            archive.write(path, IMAGE, layer, {"Entrypoint": entrypoint, "Cmd": ["node", "run"]})
            self.cluster.node.ctr("image", "import", str(path))
        imported.write_text(version)

    def deploy(self) -> None:
        """Do what the documentation says, and wait until the node is ready for pods."""
        self.cluster.kubectl("apply", "--kustomize", str(ROOT / "deploy"))
        self.wait()
        self.cluster.wait_for_node()

    def deploy_daemon(self) -> None:
        """Add the component for the node daemon, as the documentation says, and wait until it answers."""
        directory = self.cluster.node.directory / "with-daemon"
        directory.mkdir(exist_ok=True)
        option = f"--daemon-option=--metrics=unix:{METRICS}"
        counting = [{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": option}]
        kustomization = {
            "resources": [os.path.relpath(ROOT / "deploy", directory)],
            "components": [os.path.relpath(ROOT / "deploy/components/daemon", directory)],
            "patches": [{"target": {"kind": "DaemonSet", "name": "plexus-daemon"}, "patch": json.dumps(counting)}],
        }
        (directory / "kustomization.yaml").write_text(json.dumps(kustomization))
        self.cluster.kubectl("apply", "--kustomize", str(directory))
        self.wait_for_rollout(DAEMONS)

    def served(self, verb: str) -> int:
        """How many requests the daemon has served well since it began; 0 where there is none."""
        try:
            text = node_daemon.metrics(str(seen(self.cluster.host, METRICS)))
        except OSError:
            return 0
        found = re.findall(rf'^plexus_requests_total{{command="{verb}",outcome="ok",.*}} (\S+)$', text, re.MULTILINE)
        return int(sum(map(float, found)))

    def daemons(self) -> list[str]:
        """The daemon's process on the node, as the node numbers it; none where there is no daemon."""
        return self.cluster.host.call("pgrep", "--full", "/bin/plexus daemon").stdout.split()

    def wait(self) -> None:
        """Wait until plexus is every pod's plugin."""
        self.wait_for_rollout()
        eventually(self.entry.exists)

    def wait_for_rollout(self, which: tuple[str, ...] = DAEMONSET) -> None:
        """Wait until the DaemonSet's pod is what it is to be, and works."""
        eventually(lambda: self._rolled_out(which), AssertionError)

    def _rolled_out(self, which: tuple[str, ...]) -> str:
        try:
            return self.cluster.kubectl("rollout", "status", *which, "--timeout=5s")
        except AssertionError as error:
            error.add_note(self.cluster.host.call(*self.cluster.command("logs", *which, "--all-containers")).stdout)
            raise

    def reinstall(self) -> None:
        """Install another version, from a bundle of the host, as the DaemonSet's first container does."""
        version = self.bundle / "version"
        version.write_text(f"{version.read_text().strip()[::-1]}\n")
        library = self.bundle / "lib"
        loader = library / (self.bundle / "loader").read_text().strip()
        python = [str(loader), "--library-path", str(library), str(self.bundle / "bin" / "python3"), "-I"]
        kubeconfig = f"--kubeconfig={CONF_DIR}/plexus.d/plexus.kubeconfig"
        self.cluster.host.run(*python, "-m", "cni.cli", "node", "install", kubeconfig, "--distribution=kubeadm")
