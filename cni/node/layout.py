"""Where distributions of Kubernetes have the runtime's directories, and which of them this host is."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from cni.meta import installed
from cni.node.host import Host
from cni.spec.document import Document

MOUNTS = "/proc/self/mountinfo"
K3S = "/var/lib/rancher/k3s"
MICROK8S = "/var/snap/microk8s"


@dataclass(frozen=True)
class Layout:
    """A distribution's directories of network configurations and of plugins, as its host calls them."""

    name: str
    conf_dir: str = "/etc/cni/net.d"
    bin_dir: str = "/opt/cni/bin"
    marker: str = ""
    """A directory that only this distribution has; the containers' own file systems lie in it."""
    kubelet_dir: str = ""
    """The kubelet's root, where that is not the usual one."""


KUBEADM = Layout("kubeadm")
LAYOUTS = (
    Layout("k3s", f"{K3S}/agent/etc/cni/net.d", f"{K3S}/data/cni", K3S),
    Layout("rke2", marker="/var/lib/rancher/rke2"),
    Layout(
        "microk8s",
        f"{MICROK8S}/current/args/cni-network",
        f"{MICROK8S}/current/opt/cni/bin",
        f"{MICROK8S}/common",
        f"{MICROK8S}/common/var/lib/kubelet",
    ),
    Layout("talos", marker="/system/state"),
    KUBEADM,
)
"""Before its releases of October 2024, k3s had plugins in `data/current/bin`."""


def find(name: str) -> Layout:
    """The layout of that name."""
    return next(layout for layout in LAYOUTS if layout.name == name)


def detect(host: Host, mounts: str) -> Layout | None:
    """The distribution of the host, or None where it cannot be told. `mounts` is our mountinfo.

    In a container, the directories of its own root file system tell where the runtime keeps its state; on the host
    itself the distribution's directory does.
    """
    for layout in LAYOUTS:
        if layout.marker and (layout.marker in _root_layers(mounts) or _has(host, layout.marker)):
            return _older_k3s(host, layout) if layout.name == "k3s" else layout
    return KUBEADM if _has(host, "/etc/kubernetes") else None


def of_host(host: Host) -> Layout:
    """The layout of the host that we are on, and the usual one where nothing tells of another."""
    return detect(host, "") or KUBEADM


def find_conf(environ: Mapping[str, str], host: Host) -> Document | None:
    """The configuration that the runtime has plexus called with; None where none is. Raises IOFailure.

    It is looked for in NETCONFPATH, else where the distribution has it, else where most have it.
    """
    if environ.get("NETCONFPATH"):
        return installed.find_conf(environ["NETCONFPATH"])
    directories = dict.fromkeys((of_host(host).conf_dir, KUBEADM.conf_dir))
    found = (installed.find_conf(host.directory(directory)) for directory in directories)
    return next((conf for conf in found if conf is not None), None)


def read_mounts() -> str:
    """Our own mounts, as the kernel tells them."""
    with open(MOUNTS, encoding="utf-8", errors="replace") as file:
        return file.read()


def _root_layers(mounts: str) -> str:
    """The host's paths that an overlay at `/` consists of, or ""."""
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) > 4 and fields[4] == "/":
            return " ".join(re.findall(r"(?:lower|upper|work)dir=([^,\s]+)", line))
    return ""


def _has(host: Host, path: str) -> bool:
    return os.path.isdir(host.directory(path))


def _older_k3s(host: Host, layout: Layout) -> Layout:
    old = f"{K3S}/data/current/bin"
    if _has(host, old) and not _has(host, layout.bin_dir):
        return replace(layout, bin_dir=old)
    return layout
