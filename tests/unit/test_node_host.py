"""The host's paths as a container sees them, its distribution, and the service account that a container has."""

from pathlib import Path

import pytest

from cni.node import kubeconfig, layout
from cni.node.host import Host
from cni.spec.errors import InvalidConfiguration

LAYERS = "lowerdir={0}/1/fs:{0}/2/fs,upperdir={0}/3/fs,workdir={0}/3/work"
OVERLAY = f"700 600 0:200 / / rw,relatime - overlay overlay rw,{LAYERS}\n"
OTHER = "701 700 0:201 / /proc rw,nosuid - proc proc rw\n"
SNAPSHOTS = "agent/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots"


def directory(root: Path, path: str) -> Path:
    made = root / path.lstrip("/")
    made.mkdir(parents=True, exist_ok=True)
    return made


def test_on_the_host_itself_paths_are_what_they_are():
    assert Host().local("/opt/cni/bin/bridge") == "/opt/cni/bin/bridge"
    assert Host().directory("/") == "/"


def test_paths_are_below_the_hosts_root(tmp_path):
    host = Host(f"{tmp_path}/")
    assert host.local("/opt/./cni//bin/bridge") == f"{tmp_path}/opt/cni/bin/bridge"
    assert host.directory("/") == f"{tmp_path}/"


def test_links_lead_where_they_lead_the_host_and_never_out_of_its_root(tmp_path):
    directory(tmp_path, "/data/abc/bin")
    (tmp_path / "data/current").symlink_to("/data/abc")
    (tmp_path / "data/relative").symlink_to("abc/../abc")
    (tmp_path / "data/up").symlink_to("../../../../data")
    host = Host(str(tmp_path))
    for path in ("/data/current/bin", "/data/relative/bin", "/data/up/current/bin", "/../data/current/bin"):
        assert host.directory(path) == f"{tmp_path}/data/abc/bin"


def test_the_last_part_of_a_path_is_the_link_itself(tmp_path):
    (tmp_path / "ptp").symlink_to("/bin/sh")
    assert Host(str(tmp_path)).local("/ptp") == f"{tmp_path}/ptp"


def test_links_in_a_circle_are_an_error(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("/a")
    with pytest.raises(InvalidConfiguration, match="circle"):
        Host(str(tmp_path)).directory("/a/x")


@pytest.mark.parametrize(
    ("snapshots", "name"),
    [
        (f"/var/lib/rancher/k3s/{SNAPSHOTS}", "k3s"),
        (f"/var/lib/rancher/rke2/{SNAPSHOTS}", "rke2"),
        ("/var/snap/microk8s/common/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots", "microk8s"),
    ],
)
def test_the_distribution_is_told_by_where_our_own_root_lies(tmp_path, snapshots, name):
    found = layout.detect(Host(str(tmp_path)), OTHER + OVERLAY.format(snapshots))
    assert found
    assert found.name == name


@pytest.mark.parametrize(
    ("marker", "name", "conf_dir", "bin_dir"),
    [
        ("/etc/kubernetes", "kubeadm", "/etc/cni/net.d", "/opt/cni/bin"),
        ("/system/state", "talos", "/etc/cni/net.d", "/opt/cni/bin"),
        ("/var/lib/rancher/rke2", "rke2", "/etc/cni/net.d", "/opt/cni/bin"),
        ("/var/lib/rancher/k3s", "k3s", "/var/lib/rancher/k3s/agent/etc/cni/net.d", "/var/lib/rancher/k3s/data/cni"),
        (
            "/var/snap/microk8s/common",
            "microk8s",
            "/var/snap/microk8s/current/args/cni-network",
            "/var/snap/microk8s/current/opt/cni/bin",
        ),
    ],
)
def test_the_distribution_is_told_by_its_directory(tmp_path, marker, name, conf_dir, bin_dir):
    directory(tmp_path, marker)
    found = layout.detect(Host(str(tmp_path)), "")
    assert found
    assert (found.name, found.conf_dir, found.bin_dir) == (name, conf_dir, bin_dir)
    assert layout.find(name) == found


def test_the_kubelet_of_microk8s_is_in_its_snap_and_all_others_are_where_they_usually_are():
    found = {known.name: known.kubelet_dir for known in layout.LAYOUTS if known.kubelet_dir}
    assert found == {"microk8s": "/var/snap/microk8s/common/var/lib/kubelet"}


def test_an_older_k3s_has_its_plugins_elsewhere(tmp_path):
    directory(tmp_path, "/var/lib/rancher/k3s/data/0123/bin")
    (tmp_path / "var/lib/rancher/k3s/data/current").symlink_to("/var/lib/rancher/k3s/data/0123")
    found = layout.detect(Host(str(tmp_path)), "")
    assert found
    assert found.bin_dir == "/var/lib/rancher/k3s/data/current/bin"
    directory(tmp_path, "/var/lib/rancher/k3s/data/cni")
    found = layout.detect(Host(str(tmp_path)), "")
    assert found
    assert found.bin_dir == "/var/lib/rancher/k3s/data/cni"


def test_a_host_of_which_nothing_is_seen_is_not_known(tmp_path):
    assert layout.detect(Host(str(tmp_path)), OTHER + OVERLAY.format("/var/lib/containerd/snapshots")) is None


@pytest.mark.parametrize(
    ("environ", "server", "expected"),
    [
        ({"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "6443"}, "", "https://10.96.0.1:6443"),
        ({"KUBERNETES_SERVICE_HOST": "fd00:10:96::1"}, "", "https://[fd00:10:96::1]:443"),
        ({"KUBERNETES_SERVICE_HOST": "10.96.0.1"}, "https://api.example:8443", "https://api.example:8443"),
        ({}, "https://api.example:8443", "https://api.example:8443"),
    ],
)
def test_the_api_servers_address_is_the_services_or_what_we_are_told(environ, server, expected):
    account = kubeconfig.find("/account", server, environ)
    assert account
    assert account.server == expected


def test_outside_of_a_cluster_there_is_no_service_account():
    assert kubeconfig.find("/account", "", {}) is None
