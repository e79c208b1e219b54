"""The image, built by buildah, run by podman as the DaemonSet runs it: with few rights, on a root it cannot write."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import built_image
import bundled
import pytest
import yaml
from bundled import ROOT, BareHost
from installed import tools
from node_daemon import until
from throwaway import Host

SETTINGS = """
[engine]
runtime = "crun"
[containers]
default_ulimits = ["nofile={0}:{0}", "nproc={0}:{0}"]
"""
PRIMARY = {"cniVersion": "1.0.0", "name": "n1", "plugins": [{"type": "bridge", "ipam": {"type": "host-local"}}]}
TOKEN = "the-token-of-the-service-account"


class Podman:
    """Runs the containers of the DaemonSet, of which it knows what podman has options for."""

    def __init__(self, host: Host, scratch: Path, root: Path) -> None:
        self.host, self.scratch, self.root = host, scratch, root
        self.storage = ["--root", f"{scratch}/storage", "--storage-driver", "vfs"]
        limit = min(1024, os.sysconf("SC_OPEN_MAX"))
        (scratch / "containers.conf").write_text(SETTINGS.format(limit))
        (daemon_set,) = yaml.safe_load_all((ROOT / "deploy/base/daemonset.yaml").read_text())
        self.pod = daemon_set["spec"]["template"]["spec"]

    def call(self, *arguments: str) -> str:
        options = ["--cgroup-manager=cgroupfs", "--events-backend=file", "--runroot=/run/podman", "--tmpdir=/run/tmp"]
        environ = {"CONTAINERS_CONF": f"{self.scratch}/containers.conf", "HOME": str(self.scratch)}
        done = self.host.call("podman", *self.storage, *options, *arguments, environ=environ)
        assert done.returncode == 0, f"podman {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def heeds_sigterm(self, container: str) -> bool:
        """Whether its first process has come as far as to install a handler."""
        status = self.call("exec", container, "/plexus/bin/python3", "-I", "-c", "print(open('/proc/1/status').read())")
        caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
        return bool(int(caught, 16) >> signal.SIGTERM - 1 & 1)

    def options(self, container: dict[str, Any]) -> list[str]:
        """What the container of the DaemonSet may do and sees."""
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"]
        words = ["--network=host", "--read-only", "--read-only-tmpfs=false", "--security-opt=no-new-privileges"]
        words += [f"--memory={container['resources']['limits']['memory'].removesuffix('i').lower()}"]
        words += ["--cap-drop=all", *(f"--cap-add={name}" for name in security["capabilities"]["add"])]
        paths = {volume["name"]: volume["hostPath"]["path"] for volume in self.pod["volumes"] if "hostPath" in volume}
        mounts = [(paths.get(mount["name"]), mount["mountPath"]) for mount in container["volumeMounts"]]
        words += [f"--volume={self.root}{source}:{target}" for source, target in mounts if source]
        words += [f"--volume={self.scratch}/account:/var/run/secrets/kubernetes.io/serviceaccount:ro"]
        return [*words, "--env=KUBERNETES_SERVICE_HOST=fd00:10:96::1", "--env=KUBERNETES_SERVICE_PORT=443"]


@pytest.fixture
def podman(host: Host, tmp_path: Path) -> Podman:
    tools("podman")
    for name in ("scratch/account", "build"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "scratch/account/token").write_text(TOKEN)
    (tmp_path / "scratch/account/ca.crt").write_text("-----BEGIN CERTIFICATE-----\n")
    made = Podman(host, tmp_path / "scratch", bundled.make_root(tmp_path / "root"))
    built_image.build([*made.storage, "--runroot", str(tmp_path / "build/run")], tmp_path / "build")
    return made


def test_the_image_installs_and_configures_a_host_with_the_rights_of_the_daemonset(podman):
    bare = BareHost(podman.host, podman.root, podman.scratch)
    (bare.conf_dir / "10-net.conflist").write_text(json.dumps(PRIMARY))
    os.chown(bare.bin_dir, 1001, 116)  # as an unpacked archive leaves it
    (install,), (agent,) = podman.pod["initContainers"], podman.pod["containers"]

    said = podman.call("run", "--rm", *podman.options(install), built_image.IMAGE, *install["args"])

    assert "installed version" in said
    assert TOKEN not in said
    answer = bare.launch("plexus", CNI_COMMAND="VERSION")
    assert (answer.returncode, answer.stderr) == (0, "")
    (plugin,) = json.loads(bare.entry.read_text())["plugins"]
    assert plugin["delegates"] == [PRIMARY]
    kubeconfig = json.loads((bare.root / plugin["kubeconfig"].lstrip("/")).read_text())
    assert kubeconfig["users"][0]["user"]["token"] == TOKEN
    assert kubeconfig["clusters"][0]["cluster"]["server"] == "https://[fd00:10:96::1]:443"

    podman.call("run", "--detach", "--name=agent", *podman.options(agent), built_image.IMAGE, *agent["args"])
    podman.call("exec", "agent", *agent["readinessProbe"]["exec"]["command"])
    until(lambda: podman.heeds_sigterm("agent"))  # the kernel keeps from a first process what it has no handler for
    podman.call("stop", "--time=30", "agent")

    ended = podman.call("inspect", "--format={{.State.ExitCode}} {{.State.OOMKilled}}", "agent").strip()
    assert ended == "0 false", podman.call("logs", "agent")
    assert bare.entry.exists()
    podman.call("rm", "--force", "agent")
