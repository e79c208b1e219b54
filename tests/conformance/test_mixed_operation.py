"""Upgrade and way back with containers running: either implementation goes on with what the other began."""

import contextlib
import fcntl
import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from installed import NEW, OLD, PATH, launchers, reference_plugins
from plugin_call import Answer, environment, in_process, reference
from runtimes import bridge, leases
from throwaway import Host

V4, V6 = "10.1.2.0/24", "fd00:1::/64"
NEWEST_SPEC = {OLD: "1.0.0", NEW: "1.1.0"}
CROWD = 50
PATIENCE = 20
"""Seconds until the whole crowd must be there."""


@dataclass(frozen=True)
class Plugins:
    """One implementation's executables, called on a host as a runtime calls them."""

    name: str
    directory: Path
    host: Host

    def call(
        self, command: str, conf: dict[str, Any], sandbox: Host, container_id: str = "c1", *, netns: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        environ = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container_id,
            "CNI_NETNS": sandbox.path if netns is None else netns,
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(self.directory),
        }
        return self.host.call(str(self.directory / conf["type"]), stdin=json.dumps(conf), environ=environ)

    def run(self, command: str, conf: dict[str, Any], sandbox: Host, container_id: str = "c1") -> dict[str, Any]:
        """Call, and read the result of ADD; nothing may go wrong."""
        done = self.call(command, conf, sandbox, container_id)
        assert done.returncode == 0, f"{self.name} {command}: {done.stdout or done.stderr}"
        result: dict[str, Any] = json.loads(done.stdout or "{}")
        return result


@dataclass(frozen=True)
class Both:
    """Ours and one version of the reference plugins, in the order of their turns."""

    adder: Plugins
    other: Plugins
    version: str
    """The newest version of CNI that both speak."""

    def conf(self, **keys: Any) -> dict[str, Any]:
        return {"cniVersion": self.version, "name": "net"} | keys


@pytest.fixture(params=[OLD, NEW])
def version(request: pytest.FixtureRequest) -> str:
    """Of the reference plugins."""
    return str(request.param)


@pytest.fixture(params=["ours first", "theirs first"])
def both(request: pytest.FixtureRequest, version: str, host: Host, tmp_path: Path) -> Both:
    theirs = Plugins("theirs", reference_plugins(version, "bridge", "ptp", "host-local"), host)
    ours = Plugins("ours", launchers(tmp_path), host)
    adder, other = (ours, theirs) if request.param == "ours first" else (theirs, ours)
    return Both(adder, other, NEWEST_SPEC[version])


def assert_nothing_is_left(host: Host, sandbox: Host, directory: Path) -> None:
    assert [name for name in host.links() if name != "cni0"] == ["lo"]
    assert sandbox.links() == ["lo"]
    assert leases(directory) == []
    assert [trace for trace in ("c1", "10.1.2.2", "fd00:1::2") if trace in host.firewall()] == []


def everything(kind: str, version: str, directory: Path) -> dict[str, Any]:
    """A configuration that uses all that both implementations of the version have."""
    backend = {OLD: "iptables", NEW: "nftables"}[version]
    conf = bridge(directory, V4, V6, mtu=1400, type=kind, ipMasq=True, ipMasqBackend=backend)
    return conf | ({"hairpinMode": True, "macspoofchk": True} if kind == "bridge" else {})


@pytest.mark.parametrize("kind", ["bridge", "ptp"])
def test_what_one_adds_both_check_and_the_other_deletes(
    kind: str, both: Both, version: str, sandbox: Host, tmp_path: Path
):
    conf = both.conf(**everything(kind, version, tmp_path))

    result = both.adder.run("ADD", conf, sandbox)

    assert both.adder.host.pings("10.1.2.2")
    for plugins in (both.adder, both.other):
        plugins.run("CHECK", conf | {"prevResult": result}, sandbox)
    both.other.run("DEL", conf | {"prevResult": result}, sandbox)
    assert_nothing_is_left(both.adder.host, sandbox, tmp_path)
    both.adder.run("DEL", conf, sandbox)


def test_containers_of_both_share_a_bridge_and_its_addresses(both: Both, sandbox: Host, tmp_path: Path):
    conf = both.conf(**bridge(tmp_path, V4, V6))
    second = both.adder.host.namespace("second")
    both.adder.run("ADD", conf, sandbox, "c1")

    both.other.run("ADD", conf, second, "c2")

    assert sandbox.addresses("eth0") == ["10.1.2.2/24", "fd00:1::2/64"]
    assert second.addresses("eth0") == ["10.1.2.3/24", "fd00:1::3/64"]
    for address in ("10.1.2.3", "fd00:1::3"):
        assert sandbox.pings(address)
    # the other deletes what is not its own, and its own goes on
    both.other.run("DEL", conf, sandbox, "c1")
    assert second.pings("10.1.2.1")
    assert second.pings("fd00:1::1")
    both.adder.run("DEL", conf, second, "c2")
    assert second.links() == ["lo"]
    assert_nothing_is_left(both.adder.host, sandbox, tmp_path)


def test_the_references_bridge_leases_from_our_host_local(version: str, host: Host, sandbox: Host, tmp_path: Path):
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    (mixed / "bridge").symlink_to(reference_plugins(version, "bridge") / "bridge")
    (mixed / "host-local").symlink_to(launchers(tmp_path) / "host-local")
    plugins = Plugins("mixed", mixed, host)
    conf = {"cniVersion": NEWEST_SPEC[version], "name": "net"} | bridge(tmp_path, V4, V6)

    result = plugins.run("ADD", conf, sandbox)

    assert leases(tmp_path) == ["10.1.2.2", "fd00:1::2"]
    assert host.pings("10.1.2.2")
    plugins.run("CHECK", conf | {"prevResult": result}, sandbox)
    plugins.run("DEL", conf | {"prevResult": result}, sandbox)
    assert_nothing_is_left(host, sandbox, tmp_path)


def test_ours_clears_away_what_the_reference_leaves_of_a_namespace_that_is_gone(
    host: Host, sandbox: Host, tmp_path: Path
):
    theirs = Plugins("theirs", reference_plugins(NEW, "bridge", "host-local"), host)
    ours = Plugins("ours", launchers(tmp_path), host)
    conf = {"cniVersion": "1.1.0", "name": "net"} | everything("bridge", NEW, tmp_path)
    theirs.run("ADD", conf, sandbox)
    host.ip("netns del sandbox")
    theirs.run("DEL", conf, sandbox)
    assert "id: c1" in host.firewall()
    assert "macspoofchk-c1-eth0" in host.firewall()

    assert ours.call("DEL", conf, sandbox, netns="").returncode == 0

    assert_nothing_is_left(host, host.namespace("sandbox"), tmp_path)


def test_a_crowd_of_processes_of_both_shares_the_addresses_of_a_directory(tmp_path: Path):
    makers = {"our": launchers(tmp_path, on_a_host=False), "their": reference_plugins(OLD, "host-local")}
    conf = json.dumps({"cniVersion": "1.0.0", "name": "net"} | bridge(tmp_path, "10.88.0.0/24"))
    waiting = {
        f"{name}-{number}": start(maker / "host-local", f"{name}-{number}")
        for number in range(CROWD)
        for name, maker in makers.items()
    }

    with locked(tmp_path / "leases/net/lock"):
        for process in waiting.values():
            feed(process, conf)
        wait_until_all_wait([process.pid for process in waiting.values()])
    given = {container_id: address_from(process) for container_id, process in waiting.items()}

    assert len(set(given.values())) == 2 * CROWD
    assert leases(tmp_path) == sorted(given.values())
    for container_id in given:
        delete = in_process if container_id.startswith("their") else reference
        assert delete("host-local", environment("DEL", container_id), conf.encode()) == Answer(0, "", "")
    assert leases(tmp_path) == []


def start(executable: Path, container_id: str) -> subprocess.Popen[str]:
    environ = {"PATH": PATH} | environment("ADD", container_id)
    pipe = subprocess.PIPE
    return subprocess.Popen([executable], env=environ, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def feed(process: subprocess.Popen[str], conf: str) -> None:
    assert process.stdin
    process.stdin.write(conf)
    process.stdin.close()


def wait_until_all_wait(pids: list[int]) -> None:
    """Until each has asked for the lock: the reference's block, ours sleep and ask again."""
    deadline = time.monotonic() + PATIENCE
    waiting: set[int] = set()
    while len(waiting) < len(pids) and time.monotonic() < deadline:
        time.sleep(0.1)
        waiting |= {pid for pid in pids if pid not in waiting and waits(pid)}


def waits(pid: int) -> bool:
    """Whether the kernel says so; one that does not say where a process is makes this slow, not wrong."""
    places = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError):
            places.append(Path(f"/proc/{pid}/task/{task}/wchan").read_text())
    return any("lock_inode" in place for place in places) or places == ["hrtimer_nanosleep"]


def address_from(process: subprocess.Popen[str]) -> str:
    with process:
        assert process.stdout
        printed = process.stdout.read()
    assert process.returncode == 0, printed
    return str(json.loads(printed)["ips"][0]["address"].split("/")[0])
