"""Upgrades and ways back of plexus itself while pods come and go: no call fails because of it, and nothing leaks.

Two versions of one tree are changed for each other, by install.sh and by the node agent's installer, which are killed
too. `--nightly` kills them at each of their changes to a file.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import installation
import pytest
from installed import tools
from test_daemon_killed import KINDS, REFERENCE, Node
from throwaway import Host, throwaway_host
from two_versions import KILLED, Installation, Version
from two_versions import installation as two_versions

NIGHTLY = os.environ.get("PLEXUS_TESTS_NIGHTLY") == "1"
CALLERS = 3
CYCLES = 200 if NIGHTLY else 4
"""How often a container comes and goes for each caller."""
KILLS = 1 if NIGHTLY else 29
"""Changes to files from one kill of an installer to the next."""
LISTENING = "until [ -S {} ]; do sleep 0.02; done"
SIGNALS = (signal.SIGKILL, signal.SIGTERM)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")


@pytest.fixture
def host() -> Iterator[Host]:
    tools("ip", "nft", "unshare", "nsenter")
    with throwaway_host() as host:
        yield host


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    return installation.shared_directory(tmp_path_factory, worker_id)


@pytest.fixture
def installed(shared: Path) -> Iterator[Installation]:
    with tempfile.TemporaryDirectory() as root:  # a short path: the kernel takes 127 bytes in a #! line
        yield two_versions(Path(root), installation.ensure_prefix(shared), installation.ensure_sources(shared))


class Upgraded(Node):
    """A node whose plugins are those of the installation."""

    def __init__(self, host: Host, directory: Path, installed: Installation) -> None:
        super().__init__(host, directory)
        self.bin_dir = installed.bin_dir
        self.kinds = [kind for kind in KINDS if kind != "executed" or (REFERENCE / "ptp").exists()]


@pytest.fixture
def node(host: Host, tmp_path: Path, installed: Installation) -> Upgraded:
    (tmp_path / "node").mkdir()
    return Upgraded(host, tmp_path / "node", installed)


@contextlib.contextmanager
def daemon(node: Upgraded, installed: Installation, version: str = "current") -> Iterator[int]:
    """Have a daemon of the version; the process to send signals to."""
    home = installed.machine.prefix / ("current" if version == "current" else f"versions/{version}")
    words = node.host.command("sh", "-c", f"echo $$ >{node.directory}/daemon; exec {home}/bin/plexus daemon")
    with subprocess.Popen(words, env={"PATH": os.environ["PATH"]}, stderr=subprocess.DEVNULL) as process:
        try:
            yield process.pid
        finally:
            end(node, signal.SIGKILL)


def end(node: Upgraded, number: signal.Signals) -> None:
    """Send the daemon a signal, by the ID that it has on its host."""
    with contextlib.suppress(FileNotFoundError):
        node.host.call("kill", f"-{int(number)}", (node.directory / "daemon").read_text().strip())


def change_again_and_again(installed: Installation, enough: threading.Event) -> int:
    """Have one version and the other, by one installer and the other; how often."""
    changed = 0
    while not enough.is_set():
        version = installed.versions[(changed + 1) % 2]
        if changed % 4 < 2:
            installed.have(version)
        else:
            assert installed.have_by_agent(version) == 0
        assert installed.current == version.name
        changed += 1
    return changed


def restart_daemons(node: Upgraded, installed: Installation, chance: random.Random, enough: threading.Event) -> int:
    """Have daemons of whatever version is installed when they begin, and end them; how many there were."""
    ended = 0
    while not enough.is_set():
        with daemon(node, installed):
            node.host.run("sh", "-c", LISTENING.format(installed.socket))
            enough.wait(chance.uniform(0.5, 1.0))
            end(node, SIGNALS[ended % 2])
        node.host.run("rm", "-f", installed.socket)
        ended += 1
    return ended


def read_again_and_again(path: Path, enough: threading.Event) -> set[bytes]:
    """Every content that the file is ever seen to have."""
    seen = set()
    while not enough.is_set():
        seen.add(path.read_bytes())
        time.sleep(0.001)
    return seen


@pytest.mark.parametrize("with_daemons", [False, True], ids=["alone", "with daemons"])
def test_versions_change_while_pods_come_and_go(with_daemons: bool, node: Upgraded, installed: Installation):
    enough = threading.Event()
    sandboxes = [node.host.namespace(f"sandbox{number}") for number in range(CALLERS)]
    with ThreadPoolExecutor(CALLERS + 3) as threads:
        changing = threads.submit(change_again_and_again, installed, enough)
        reading = threads.submit(read_again_and_again, installed.machine.conf, enough)
        daemons = threads.submit(restart_daemons, node, installed, random.Random(1), enough) if with_daemons else None

        def come_and_go(caller: int) -> None:
            for number in range(CYCLES):
                kind = node.kinds[(caller + number) % len(node.kinds)]
                node.come_and_go(kind, caller * CYCLES + number, sandboxes[caller])

        try:
            list(threads.map(come_and_go, range(CALLERS)))
        finally:
            enough.set()
    print(f"{2 * CALLERS * CYCLES} calls, {changing.result()} changes, {daemons.result() if daemons else 0} daemons")
    assert changing.result() >= 3
    assert reading.result() <= {version.conf for version in installed.versions}
    assert node.left() == []


def test_each_version_detaches_what_the_other_has_attached(node: Upgraded, installed: Installation):
    first, second = installed.versions
    sandbox = node.host.namespace("sandbox")
    for begun, followed, agent in ((first, second, False), (second, first, True)):
        for number, kind in enumerate(node.kinds):
            have(installed, begun, agent=agent)
            result = node.call("ADD", kind, number, sandbox)
            have(installed, followed, agent=agent)
            node.confs[kind]["prevResult"] = result
            node.call("CHECK", kind, number, sandbox)
            node.call("DEL", kind, number, sandbox)
            del node.confs[kind]["prevResult"]
            assert sandbox.links() == ["lo"]
    assert node.left() == []


def have(installed: Installation, version: Version, *, agent: bool) -> None:
    if agent:
        assert installed.have_by_agent(version) == 0
    else:
        installed.have(version)
    assert installed.current == version.name


def test_a_daemon_of_the_other_version_is_in_nobodys_way(node: Upgraded, installed: Installation):
    first, second = installed.versions
    sandbox = node.host.namespace("sandbox")
    for number, (installed_one, daemons) in enumerate(((first, second), (second, first))):
        installed.have(installed_one)
        with daemon(node, installed, daemons.name):
            node.host.run("sh", "-c", LISTENING.format(installed.socket))
            node.come_and_go("plexus", number, sandbox)
    assert node.left() == []


def kills(installed: Installation) -> Iterator[tuple[str, int]]:
    """Kill either installer on its way to the other version, before each change that it makes, or some of them."""
    for name, begin in installed.kills():
        at = 1
        while True:
            other = next(version for version in installed.versions if version.name != installed.current)
            status = begin(other, at)
            yield name, at
            if status != KILLED:
                assert status == 0
                break
            at += KILLS


def test_an_installer_may_be_killed_at_any_change_and_the_next_one_does_all_of_it(
    node: Upgraded, installed: Installation
):
    sandbox = node.host.namespace("sandbox")
    killed = 0
    for number, (name, at) in enumerate(kills(installed)):
        about = f"{name} was killed before its change number {at}"
        installed.check()
        node.come_and_go("bridge", number, sandbox)
        version = installed.versions[number % 2]
        installed.have(version)
        installed.check()
        assert installed.current == version.name, about
        assert installed.machine.conf.read_bytes() == version.conf, about
        assert sorted(path.name for path in installed.bin_dir.iterdir() if path.name.startswith(".")) == [], about
        killed += 1
    print(f"{killed} installers killed")
    assert killed > 4
    assert node.left() == []
    installed.machine.install("--uninstall")
    assert [path for path in installed.machine.root.glob("opt/**/*") if not path.is_dir()] == []
    assert not installed.machine.conf.exists()
