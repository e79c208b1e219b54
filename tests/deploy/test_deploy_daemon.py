"""`plexus node daemon` in a container of its own: the daemon is on the host, and follows what is installed there."""

import contextlib
import fcntl
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import pytest
from bundled import BareHost
from node_daemon import PATIENCE, metrics, until
from plugin_call import environment
from test_deploy_bundle import next_version, relocated

from cni.node import keeper
from cni.node.host import Host
from cni.node.prefix import Prefix
from cni.spec.errors import IOFailure

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
def kept(bare: BareHost, tmp_path: Path) -> Iterator[Keeper]:
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


def is_served(bare: BareHost) -> bool:
    """Whether the daemon serves a call; on a busy machine a launcher may not wait for it."""
    call(bare, "ADD", "c1")
    call(bare, "DEL", "c1")
    text = metrics(f"/proc/{bare.host.pid}/root{METRICS}")
    return bool(re.search(r'^plexus_requests_total{command="(ADD|DEL)",outcome="ok",', text, re.MULTILINE))


def test_the_hosts_own_daemon_serves_as_long_as_plexus_is_installed(kept):
    bare = kept.bare
    assert "PLX-DAEMON-ENDED" in check(bare).stderr

    bare.run_node("install")
    until(kept.is_ready)

    until(lambda: is_served(bare))
    assert "left a launcher to itself" not in kept.said  # the probe is none
    assert "answers at /run/plexus/plexus.sock" in bare.host.call("/opt/cni/bin/plexus", "node", "status").stdout
    assert Path(f"/proc/{kept.daemon()}/exe").readlink() == Path("/") / version(bare) / "bin/python3"
    bare.run_node("uninstall")
    until(lambda: "has ended" in kept.said)
    assert not kept.is_ready()
    assert bare.host.files("/run/plexus") == []


def version(bare: BareHost) -> Path:
    return Path("opt/plexus") / os.readlink(bare.root / "opt/plexus/current")


def test_another_version_gets_a_daemon_of_its_own(kept, tmp_path):
    bare = kept.bare
    bare.run_node("install")
    until(kept.is_ready)
    first = kept.daemon()

    bare.run_node("install", bundle=relocated(next_version(bare.bundle, tmp_path / "next")))
    until(lambda: "has ended" in kept.said)
    until(kept.is_ready)

    assert kept.daemon() != first
    until(lambda: is_served(bare))


def test_the_daemon_ends_with_its_container_and_leaves_nothing(kept):
    bare = kept.bare
    bare.run_node("install")
    until(kept.is_ready)
    daemon = kept.daemon()

    assert kept.end() == 0

    assert not Path(f"/proc/{daemon}").exists()
    assert bare.host.run("find", "/run/plexus").split() == ["/run/plexus"]
    call(bare, "ADD", "c1")


@contextlib.contextmanager
def held_up(bare: BareHost) -> Iterator[None]:
    """Keep host-local waiting for its lock."""
    network = Path(f"/proc/{bare.host.pid}/root/var/lib/cni/networks/net")
    bare.host.run("mkdir", "-p", f"/var/lib/cni/networks/{network.name}")
    with (network / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def in_flight(bare: BareHost) -> bool:
    """Whether the daemon is serving a call."""
    return "\nplexus_in_flight 0.0\n" not in metrics(f"/proc/{bare.host.pid}/root{METRICS}")


def test_the_daemon_serves_to_its_end_however_long_that_is_and_then_ends(kept):
    bare = kept.bare
    bare.run_node("install")
    until(kept.is_ready)
    until(lambda: is_served(bare))
    with ThreadPoolExecutor(PATIENCE) as pool:
        added = []

        def is_serving() -> bool:
            """On a busy machine a launcher may not wait for the daemon, and then works alone: the next may."""
            added.append(pool.submit(call, bare, "ADD", f"served-{len(added)}"))
            time.sleep(1)
            return in_flight(bare)

        with held_up(bare):
            until(is_serving)
            os.kill(children(kept.process.pid)[0], signal.SIGTERM)
            with pytest.raises(subprocess.TimeoutExpired):
                kept.process.wait(6)  # time for more signs of life than the kernel keeps for whoever does not listen
        for done in added:
            done.result()
    assert kept.process.wait(PATIENCE) == 0


def test_the_container_ends_when_its_daemon_is_killed_so_that_the_kubelet_starts_it_again(kept):
    bare = kept.bare
    bare.run_node("install")
    until(kept.is_ready)

    os.kill(kept.daemon(), signal.SIGKILL)

    assert kept.process.wait(PATIENCE) == 1
    assert "it has ended, by signal 9 [PLX-DAEMON-ENDED]" in kept.said
    call(bare, "ADD", "c1")


@pytest.fixture
def stubborn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation whose daemon neither speaks nor ends; in `pid` is its process."""
    command = tmp_path / "plexus/versions/v1/bin/plexus"
    command.parent.mkdir(parents=True)
    command.write_text(
        f"#!/bin/sh\ntrap '' TERM\necho $$ >{tmp_path}/new\nmv {tmp_path}/new {tmp_path}/pid\nexec sleep 1000\n"
    )
    command.chmod(0o755)
    (tmp_path / "plexus/current").symlink_to("versions/v1")
    monkeypatch.setattr(keeper.namespaces, "enter", lambda _: None)
    return tmp_path


def test_a_daemon_that_gives_no_sign_of_life_is_killed(stubborn, monkeypatch):
    monkeypatch.setattr(keeper, "SILENCE", 1)

    with pytest.raises(IOFailure, match="no sign of life"):
        keeper.keep(Prefix(Host("/"), str(stubborn / "plexus")), [], Event())

    assert not Path(f"/proc/{(stubborn / 'pid').read_text().strip()}").exists()


def test_a_daemon_that_does_not_end_is_killed(stubborn, monkeypatch):
    monkeypatch.setattr(keeper, "LONGEST", 0.5)
    stop = Event()
    with ThreadPoolExecutor(1) as pool:
        kept = pool.submit(keeper.keep, Prefix(Host("/"), str(stubborn / "plexus")), [], stop)
        until((stubborn / "pid").exists)
        stop.set()
        kept.result(PATIENCE)

    assert not Path(f"/proc/{(stubborn / 'pid').read_text().strip()}").exists()
