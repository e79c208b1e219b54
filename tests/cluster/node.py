"""containerd, runc and the kubelet, and where they look for CNI plugins and their configuration."""

import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import archive
from cluster_machine import ADDRESS, Service, seen
from credentials import Credentials
from installed import PATH
from throwaway import Host

BIN_DIR, CONF_DIR = "/opt/cni/bin", "/etc/cni/net.d"
"""Where containerd looks for plugins and for the configuration of the pods' network: the usual places."""
SOCKET = "/run/containerd/containerd.sock"
CONTAINERD = """
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{bin_dir}"
    conf_dir = "{conf_dir}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"""
KUBELET = {
    "apiVersion": "kubelet.config.k8s.io/v1beta1",
    "kind": "KubeletConfiguration",
    "address": ADDRESS,
    "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
    "authorization": {"mode": "AlwaysAllow"},
    "cgroupDriver": "cgroupfs",
    "cgroupsPerQOS": False,
    "enforceNodeAllocatable": [],
    "failCgroupV1": False,
    "failSwapOn": False,
    "makeIPTablesUtilChains": False,
    "hairpinMode": "none",
    "evictionHard": {},
    "containerRuntimeEndpoint": f"unix://{SOCKET}",
    "resolvConf": "",
    "registryPullQPS": 0,
    "maxPods": 200,
    "fileCheckFrequency": "1s",
    "syncFrequency": "5s",
    "nodeStatusUpdateFrequency": "2s",
}


@dataclass(frozen=True)
class Node:
    """The node "localhost"; its directories are below one that the caller gives."""

    host: Host
    directory: Path
    executables: Path
    credentials: Credentials

    @property
    def bin_dir(self) -> Path:
        """The directory of plugins, as we see it."""
        return seen(self.host, BIN_DIR)

    @property
    def conf_dir(self) -> Path:
        """The directory of configurations, as we see it."""
        return seen(self.host, CONF_DIR)

    @property
    def static_pods(self) -> Path:
        """Where the kubelet looks for static pods."""
        return self.directory / "static-pods"

    @cached_property
    def containerd(self) -> Service:
        config = self.directory / "containerd.toml"
        words = {"socket": SOCKET, "image": archive.NAME, "bin_dir": BIN_DIR, "conf_dir": CONF_DIR}
        config.write_text(CONTAINERD.format(**words))
        containerd = shutil.which("containerd", path=PATH) or "containerd"
        return self._service("containerd", [containerd, "--config", str(config), "--log-level", "info"])

    @cached_property
    def kubelet(self) -> Service:
        config = self.directory / "kubelet.json"
        config.write_text(json.dumps(KUBELET | {"staticPodPath": str(self.static_pods)}))
        words = [
            str(self.executables / "kubelet"),
            f"--config={config}",
            f"--kubeconfig={self.credentials.kubeconfig('system:node:localhost')}",
            "--hostname-override=localhost",
            f"--node-ip={ADDRESS}",
            "--root-dir=/var/lib/kubelet",
            "--v=1",
        ]
        return self._service("kubelet", words)

    @cached_property
    def daemon(self) -> Service:
        """plexus' own, of the launchers in the directory of plugins."""
        return self._service("plexus-daemon", [f"{BIN_DIR}/plexus", "daemon"])

    @property
    def services(self) -> list[Service]:
        """All that make it a node, in the order in which they are started."""
        return [self.containerd, self.kubelet]

    def prepare(self) -> None:
        """Make the directories."""
        for path in (self.bin_dir, self.conf_dir, self.static_pods):
            path.mkdir(parents=True, exist_ok=True)

    def import_busybox(self) -> str:
        """Give containerd the image of the tests' containers; return what it says of it."""
        path = self.directory / "busybox.tar"
        archive.write_busybox(path, Path(shutil.which("busybox", path=PATH) or ""))
        return self.ctr("image", "import", str(path))

    def ctr(self, *words: str) -> str:
        """Run containerd's command line client among the kubelet's containers."""
        return self.host.run("ctr", "--address", SOCKET, "--namespace", "k8s.io", *words)

    def _service(self, name: str, words: list[str]) -> Service:
        return Service(self.host, name, words, self.directory / f"{name}.log", {"HOME": "/root"})
