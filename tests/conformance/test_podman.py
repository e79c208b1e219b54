"""Podman's CNI backend drives our executables: a container runs on our bridge, is reached by its port, and is gone."""

import json
import os
import resource
import shlex
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from installed import OLD, PATH, launchers, reference_plugins, tools
from runtimes import bridge, leases
from throwaway import Host

V4, V6 = "10.1.2.0/24", "fd00:1::/64"
HOST, NEIGHBOUR = "203.0.113.1", "203.0.113.2"
SERVE = "while true; do echo welcome | nc -l -p 80; done"
APPLETS = ("sh", "ip", "nc", "ping", "sleep")

SETTINGS = """
[engine]
cgroup_manager = "cgroupfs"
runtime = "crun"
events_logger = "file"
[network]
network_backend = "cni"
default_network = "net"
network_config_dir = {conf_dir}
cni_plugin_dirs = {path}
[containers]
cgroups = "disabled"
default_ulimits = ["nofile={limit}:{limit}", "nproc={limit}:{limit}"]
"""
OPTIONS = ("--storage-driver=vfs", "--root=/var/lib/podman", "--runroot=/run/podman", "--tmpdir=/run/podman-tmp")
NOTING = """#!/bin/sh
echo "$CNI_COMMAND $CNI_CONTAINERID" >>{log}
exec {launcher}
"""


@dataclass(frozen=True)
class Podman:
    """Podman on a host of its own, whose /run and /var/lib end with it."""

    host: Host
    directory: Path
    path: list[Path]
    """Where it looks for plugins."""

    def configure(self, *plugins: dict[str, Any]) -> None:
        """Have one network, and an image of nothing but busybox."""
        conf_dir = self.directory / "net.d"
        conf_dir.mkdir()
        conf = {"cniVersion": "0.4.0", "name": "net", "plugins": plugins}
        (conf_dir / "net.conflist").write_text(json.dumps(conf))
        path = json.dumps([str(directory) for directory in self.path])
        # Podman raises its own limits, where it may, and crun then lowers them to these.
        limit = min(1024, *resource.getrlimit(resource.RLIMIT_NOFILE))
        settings = SETTINGS.format(conf_dir=json.dumps(str(conf_dir)), path=path, limit=limit)
        (self.directory / "containers.conf").write_text(settings)
        self.run("import", "--quiet", str(image(self.directory)), "busybox")

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environ = {"CONTAINERS_CONF": str(self.directory / "containers.conf"), "HOME": str(self.directory)}
        return self.host.call("podman", *OPTIONS, *arguments, environ=environ)

    def run(self, *arguments: str) -> str:
        done = self.call(*arguments)
        assert done.returncode == 0, f"podman {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def inspect(self, container: str, what: str) -> Any:
        return json.loads(self.run("inspect", container, "--format", "{{json " + what + "}}"))

    def calls(self) -> list[str]:
        """What our bridge was called for."""
        return (self.directory / "calls").read_text().splitlines()


@pytest.fixture
def podman(host: Host, tmp_path: Path) -> Podman:
    tools("podman", "busybox")
    ours = launchers(tmp_path)
    noting = tmp_path / "noting"
    noting.mkdir()
    words = {"log": tmp_path / "calls", "launcher": ours / "bridge"}
    (noting / "bridge").write_text(NOTING.format(**{key: shlex.quote(str(path)) for key, path in words.items()}))
    (noting / "bridge").chmod(0o755)
    return Podman(host, tmp_path, [noting, ours, reference_plugins(OLD, "portmap")])


def image(directory: Path) -> Path:
    """An archive of a root file system."""
    busybox = shutil.which("busybox", path=PATH) or ""
    if subprocess.run(["ldd", busybox], capture_output=True, check=False).returncode == 0:
        pytest.skip(f"{busybox} needs libraries: install busybox-static")
    path = directory / "image.tar"
    with tarfile.open(path, "w") as archive:
        for name in ("dev", "etc", "proc", "run", "sys", "tmp"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        archive.add(os.path.realpath(busybox), "bin/busybox")
        for name in APPLETS:
            entry = tarfile.TarInfo(f"bin/{name}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(entry)
    return path


def test_a_container_of_podman_lives_on_our_bridge(podman: Podman, tmp_path: Path):
    host, neighbour = podman.host, podman.host.neighbour()
    podman.configure(bridge(tmp_path, V4, V6, ipMasq=True), {"type": "portmap", "capabilities": {"portMappings": True}})

    container_id = podman.run("run", "-d", "--name=first", "--publish=8080:80", "busybox", "sh", "-c", SERVE).strip()
    podman.run("run", "-d", "--name=second", "busybox", "sleep", "600")

    assert podman.inspect("first", ".NetworkSettings.Networks.net.IPAddress") == "10.1.2.2"
    assert "inet6 fd00:1::2/64" in podman.run("exec", "first", "ip", "address", "show", "dev", "eth0")
    assert host.pings("10.1.2.2")
    podman.run("exec", "second", "ping", "-c1", "-W5", "10.1.2.2")
    podman.run("exec", "second", "ping", "-c1", "-W5", NEIGHBOUR)  # which knows no way back but to the host
    assert neighbour.hears(HOST, 8080) == "welcome\n"
    podman.run("rm", "--force", "--time=0", "first", "second")
    calls = podman.calls()
    assert [call for call in calls if container_id in call] == [f"ADD {container_id}", f"DEL {container_id}"]
    assert {call.split()[0] for call in calls} == {"VERSION", "ADD", "DEL"}
    assert host.links() == ["cni0", "lo", "uplink"]
    assert [trace for trace in (container_id, "10.1.2.", "fd00:1:") if trace in host.firewall()] == []
    assert leases(tmp_path) == []
    assert host.files("/var/lib/cni/results") == []


def test_what_our_plugins_say_reaches_podmans_user_and_a_container_may_come_back(podman: Podman, tmp_path: Path):
    podman.configure(bridge(tmp_path, "10.1.2.0/30"))
    podman.run("run", "-d", "--name=first", "busybox", "sleep", "600")

    refused = podman.call("run", "-d", "--name=second", "busybox", "sleep", "600")

    assert refused.returncode != 0
    assert "no IP addresses available in range set: 10.1.2.1-10.1.2.2" in refused.stderr
    assert leases(tmp_path) == ["10.1.2.2"]
    podman.run("stop", "--time=0", "first")
    assert leases(tmp_path) == []
    podman.run("start", "first")
    assert podman.host.pings("10.1.2.2")


def test_a_container_of_podman_is_attached_by_the_meta_plugin(podman: Podman, tmp_path: Path):
    delegate = bridge(tmp_path, V4) | {"cniVersion": "0.4.0", "name": "first"}
    podman.configure({"type": "plexus", "manifests": str(tmp_path), "delegates": [delegate]})

    podman.run("run", "-d", "--name=first", "busybox", "sleep", "600")

    assert podman.inspect("first", ".NetworkSettings.Networks.net.IPAddress") == "10.1.2.2"
    assert podman.host.pings("10.1.2.2")
    podman.run("rm", "--force", "--time=0", "first")
    assert podman.host.links() == ["cni0", "lo"]
    assert leases(tmp_path) == []
