"""`plexus node daemon` in a container of its own: the daemon is on the host, and follows what is installed there."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from bundled import BareHost
from node_daemon import PATIENCE, metrics, until
from plugin_call import environment
from test_deploy_bundle import next_version, relocated

METRICS = "/run/plexus/metrics.sock"
CONTAINER = ("unshare", "--mount", "--net", "--uts", "--ipc", "--cgroup", "sh", "-euc")
"""As the DaemonSet's: the host's processes, and nothing else of the host's."""
WITHOUT_THE_HOSTS_FILES = 'mount -t tmpfs tmpfs /opt && mount -t tmpfs tmpfs /run && exec "$0" "$@"'
CONF = {"cniVersion": "1.0.0", "name": "net", "ipam": {"type": "host-local", "subnet": "10.9.0.0/24"}}
PATH = {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}


@dataclass(frozen=True)
class Keeper:
    """What runs in the container."""

    bare: BareHost
    process: "subprocess.Popen[str]"
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text()

    def is_ready(self) -> bool:
        """What the readiness probe finds."""
        return check(self.bare).returncode == 0

    def daemon(self) -> int:
        """The daemon's process."""
        (child,) = children(next(iter(children(self.process.pid))))
        return child

    def end(self) -> int:
        """Have the container end, as the kubelet does; its exit status."""
        (first,) = children(self.process.pid)
        os.kill(first, signal.SIGTERM)
        return self.process.wait(PATIENCE)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def command(bare: BareHost, *options: str) -> list[str]:
    """`plexus node daemon` in a container of the host."""
    python = [str(bare.bundle / "bin/python3"), "-I", "-m", "cni.cli"]
    return bare.host.command(*CONTAINER, WITHOUT_THE_HOSTS_FILES, *python, "node", "daemon", *options)


def check(bare: BareHost) -> "subprocess.CompletedProcess[str]":
    words = command(bare, "--check")
    return subprocess.run(words, env=PATH, capture_output=True, text=True, check=False, timeout=PATIENCE)


@pytest.fixture
def bare(bare: BareHost) -> BareHost:
    """The host has the bare root's /opt as its own."""
    bare.host.run("mount", "--bind", str(bare.root / "opt"), "/opt")
    return bare


@pytest.fixture
def keeper(bare: BareHost, tmp_path: Path) -> Iterator[Keeper]:
    """It runs, on a host where nothing is installed yet."""
    log = tmp_path / "log"
    words = command(bare, f"--daemon-option=--metrics=unix:{METRICS}")
    with log.open("w") as stderr, subprocess.Popen(words, env=PATH, stderr=stderr, text=True) as process:
        made = Keeper(bare, process, log)
        try:
            until(lambda: "waiting until plexus is installed" in made.said)
            yield made
        finally:
            if process.poll() is None:
                made.end()


def call(bare: BareHost, verb: str, container_id: str) -> None:
    """Have the launcher that is installed serve a request."""
    environ = environment(verb, container_id)
    done = bare.host.call("/opt/cni/bin/host-local", stdin=json.dumps(CONF), environ=environ)
    assert done.returncode == 0, done.stdout + done.stderr


def served(bare: BareHost, verb: str) -> float:
    """How many of such requests the daemon has served."""
    text = metrics(f"/proc/{bare.host.pid}/root{METRICS}")
    found = re.search(rf'^plexus_requests_total{{command="{verb}",outcome="ok",.*}} (\S+)$', text, re.MULTILINE)
    return float(found[1]) if found else 0


def test_the_hosts_own_daemon_serves_as_long_as_plexus_is_installed(keeper):
    bare = keeper.bare
    assert "PLX-DAEMON-ENDED" in check(bare).stderr

    bare.run_node("install")
    until(keeper.is_ready)

    call(bare, "ADD", "c1")
    assert served(bare, "ADD") == 1
    assert "answers at /run/plexus/plexus.sock" in bare.host.call("/opt/cni/bin/plexus", "node", "status").stdout
    assert Path(f"/proc/{keeper.daemon()}/exe").readlink() == Path("/") / version(bare) / "bin/python3"
    call(bare, "DEL", "c1")
    shutil.rmtree(bare.root / "var/lib/cni", ignore_errors=True)
    bare.run_node("uninstall")
    until(lambda: "has ended" in keeper.said)
    assert not keeper.is_ready()
    assert bare.host.files("/run/plexus") == []


def version(bare: BareHost) -> Path:
    return Path("opt/plexus") / os.readlink(bare.root / "opt/plexus/current")


def test_another_version_gets_a_daemon_of_its_own(keeper, tmp_path):
    bare = keeper.bare
    bare.run_node("install")
    until(keeper.is_ready)
    first = keeper.daemon()

    bare.run_node("install", bundle=relocated(next_version(bare.bundle, tmp_path / "next")))
    until(lambda: "has ended" in keeper.said)
    until(keeper.is_ready)

    assert keeper.daemon() != first
    call(bare, "ADD", "c1")
    assert served(bare, "ADD") == 1


def test_the_daemon_ends_with_its_container_and_leaves_nothing(keeper):
    bare = keeper.bare
    bare.run_node("install")
    until(keeper.is_ready)
    daemon = keeper.daemon()

    assert keeper.end() == 0

    assert not Path(f"/proc/{daemon}").exists()
    assert bare.host.run("find", "/run/plexus").split() == ["/run/plexus"]
    call(bare, "ADD", "c1")


def test_the_container_ends_when_its_daemon_is_killed_so_that_the_kubelet_starts_it_again(keeper):
    bare = keeper.bare
    bare.run_node("install")
    until(keeper.is_ready)

    os.kill(keeper.daemon(), signal.SIGKILL)

    assert keeper.process.wait(PATIENCE) == 1
    assert "it has ended, by signal 9 [PLX-DAEMON-ENDED]" in keeper.said
    call(bare, "ADD", "c1")
