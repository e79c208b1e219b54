"""The daemon is killed again and again: all calls of plugins succeed, nothing is done twice, nothing is left.

PLEXUS_TESTS_CYCLES says how many ADDs and DELs there are; 1000 take some minutes, and half an hour on a busy machine.
"""

import json
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from installed import launchers, tools
from node_daemon import Nursery
from throwaway import Host, throwaway_host

CYCLES = int(os.environ.get("PLEXUS_TESTS_CYCLES", "60"))
CALLERS = 4
LONGEST = 1.0
"""Seconds that a call may wait because of a daemon that is killed."""
NOTING = """\
import posix
from cni.node import launcher

launcher.SILENCE = 30.0  # of a daemon that is dead the kernel tells: this is never to run out


class Noting:
    def __init__(self, connection):
        self.connection = connection
        self.seconds = 0.0

    def __getattr__(self, name):
        return getattr(self.connection, name)

    def recv(self, size):
        try:
            return self.connection.recv(size)
        except TimeoutError:
            self.seconds += self.connection.gettimeout()
            raise


def await_and_note(connection, token, patience):
    noting, why = Noting(connection), "answered"
    try:
        return await_(noting, token, patience)
    except launcher.Unanswered as unanswered:
        why = unanswered.why
        raise
    finally:
        log = posix.open({log!r}, posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND)
        posix.write(log, f"{{noting.seconds}} {{why}}\\n".encode())
        posix.close(log)


await_, launcher._await = launcher._await, await_and_note
"""
"""Makes launchers that note for how long each heard nothing of a daemon, and how that ended.

Their own waiting counts, and no clock, which on a busy machine tells of much else.
"""
FINISHED_ALONE = ("alone", "half done")
"""How a launcher says that nobody had begun, and that somebody died over it."""
REFERENCE = Path("/usr/lib/cni")
KINDS = ("bridge", "plexus", "executed")
POD_ARGS = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=pod"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")


@pytest.fixture
def host() -> Iterator[Host]:
    tools("ip", "nft", "unshare", "nsenter")
    with throwaway_host() as host:
        yield host


class Node:
    """A node with three kinds of containers: plain, with networks of their own, and with a plugin that is executed."""

    def __init__(self, host: Host, directory: Path) -> None:
        self.host = host
        self.directory = directory
        self.log = directory / "waited"
        self.bin_dir = launchers(directory, on_a_host=False, before=NOTING.format(log=str(self.log)))
        self.leases = directory / "leases"
        self.live: dict[str, str] = {}
        self.lock = threading.Lock()
        manifests = directory / "manifests"
        manifests.mkdir()
        for name in ("red", "blue"):
            self._write(manifests / f"{name}.json", "NetworkAttachmentDefinition", name, self.bridge(name))
        self._write(manifests / "pod.json", "Pod", "pod", None)
        common = {"cniVersion": "1.0.0", "name": "plexus", "type": "plexus", "manifests": str(manifests)}
        common |= {"cniDir": str(directory / "state"), "binDir": str(REFERENCE), "external": ["ptp"]}
        common["hostPaths"] = [str(directory)]
        ptp = {"type": "ptp", "ipMasq": True, "ipam": self._ipam("10.9.0.0/16")}
        executed = {"cniVersion": "1.0.0", "name": "executed"} | ptp
        self.confs = {
            "bridge": self.bridge("plain") | {"isDefaultGateway": True, "ipMasq": True},
            "plexus": common | {"delegates": [self.bridge("cluster")]},
            "executed": common | {"delegates": [executed]},
        }

    def bridge(self, name: str) -> dict[str, Any]:
        number = ("plain", "cluster", "red", "blue").index(name)
        ipam = self._ipam(f"10.{number}.0.0/16")
        return {"cniVersion": "1.0.0", "name": name, "type": "bridge", "bridge": f"br-{name}", "ipam": ipam}

    def call(self, verb: str, kind: str, number: int, sandbox: Host) -> dict[str, Any]:
        conf = self.confs[kind]
        environ = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": f"container{number}",
            "CNI_NETNS": sandbox.path,
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(REFERENCE),
            "CNI_ARGS": POD_ARGS if kind == "plexus" else "",
        }
        done = self.host.call(str(self.bin_dir / conf["type"]), stdin=json.dumps(conf), environ=environ)
        assert done.returncode == 0, f"{verb} {kind}: {done.returncode}, {done.stdout or done.stderr}"
        return json.loads(done.stdout or "{}")

    def come_and_go(self, kind: str, number: int, sandbox: Host) -> None:
        result = self.call("ADD", kind, number, sandbox)
        address = result["ips"][0]["address"]
        with self.lock:
            assert address not in self.live.values(), f"{address} is given twice"
            self.live[str(number)] = address
        assert address in sandbox.addresses("eth0")
        with self.lock:
            del self.live[str(number)]  # before the DEL, after which it may be another's
        self.call("DEL", kind, number, sandbox)
        assert sandbox.links() == ["lo"]

    def waited(self) -> list[tuple[float, str]]:
        """For how many seconds each call that reached a daemon heard nothing of it, and how that ended."""
        lines = [line.split(maxsplit=1) for line in self.log.read_text().splitlines()]
        return [(float(seconds), why) for seconds, why in lines]

    def left(self) -> list[str]:
        """Whatever a container should have taken with it."""
        bridges = {f"br-{name}" for name in ("plain", "cluster", "red", "blue")}
        found = [link for link in self.host.links() if link not in {"lo", *bridges}]
        found += [str(path) for path in self.leases.rglob("*") if path.name.startswith("10.")]
        found += [str(path) for path in self.directory.rglob("*.tmp")]
        state = [path for path in (self.directory / "state").rglob("*") if path.name != "executing.lock"]
        found += [str(path) for path in state if path.is_file()]
        lines = self.host.firewall().splitlines()
        found += [line for line in lines if "container" in line.replace("containernetworking", "")]
        return found

    def _ipam(self, subnet: str) -> dict[str, Any]:
        return {"type": "host-local", "dataDir": str(self.leases), "ranges": [[{"subnet": subnet}]]}

    def _write(self, path: Path, kind: str, name: str, conf: dict[str, Any] | None) -> None:
        networks = {"k8s.v1.cni.cncf.io/networks": "red,blue"} if kind == "Pod" else {}
        metadata = {"name": name, "namespace": "default", "annotations": networks}
        spec = {"config": json.dumps(conf)} if conf else {}
        path.write_text(json.dumps({"kind": kind, "metadata": metadata, "spec": spec}))


def kill_again_and_again(node: Node, nursery: Nursery, chance: random.Random, enough: threading.Event) -> int:
    """Have a daemon, kill it, and so on; how often."""
    killed = 0
    while not enough.is_set():
        pid = nursery.put(node.bin_dir / "plexus.sock", node.host.pid)
        time.sleep(chance.uniform(0, 0.6))
        os.kill(pid, signal.SIGKILL)
        killed += 1
    return killed


@pytest.mark.parametrize("activated", [False, True], ids=["its own socket", "systemd's"])
def test_a_daemon_that_dies_again_and_again_loses_nothing_and_leaves_nothing(
    activated: bool, host: Host, tmp_path: Path
):
    kinds = [kind for kind in KINDS if kind != "executed" or (REFERENCE / "ptp").exists()]
    node = Node(host, tmp_path)
    (tmp_path / "nursery").mkdir()
    nursery = Nursery(tmp_path / "nursery")
    if activated:
        nursery.listen(node.bin_dir / "plexus.sock")
    enough = threading.Event()
    sandboxes = [host.namespace(f"sandbox{number}") for number in range(CALLERS)]
    with ThreadPoolExecutor(CALLERS + 1) as threads:
        killing = threads.submit(kill_again_and_again, node, nursery, random.Random(activated), enough)

        def come_and_go(caller: int) -> None:
            for number in range(caller, CYCLES // 2, CALLERS):
                node.come_and_go(kinds[number // CALLERS % len(kinds)], number, sandboxes[caller])

        try:
            list(threads.map(come_and_go, range(CALLERS)))
        finally:
            enough.set()
    nursery.close()
    assert killing.result() > CYCLES / 20
    assert node.left() == []
    waited = node.waited()
    print(f"{CYCLES} calls, {killing.result()} daemons killed, {dict(Counter(why for _, why in waited))}")
    print(f"the longest that a call heard nothing of a daemon: {max(seconds for seconds, _ in waited):.2f} s")
    assert max(seconds for seconds, _ in waited) < LONGEST
    assert {why for _, why in waited} <= {"answered", *FINISHED_ALONE}


def test_nothing_is_left_by_a_plugin_that_outlives_the_daemon_that_executed_it(host: Host, tmp_path: Path):
    """The launcher waits for it, and only then deletes what it made, and begins again."""
    node = Node(host, tmp_path)
    (tmp_path / "nursery").mkdir()
    nursery = Nursery(tmp_path / "nursery")
    sandbox = host.namespace("sandbox")
    slow = tmp_path / "slow"
    slow.mkdir()
    begun, go_on, calls = tmp_path / "begun", tmp_path / "go-on", tmp_path / "calls"
    subprocess.run(["mkfifo", str(go_on)], check=True)
    (slow / "slow").write_text(
        f'#!/bin/sh\necho "begin $CNI_COMMAND" >>{calls}\n'
        f"if [ $CNI_COMMAND = ADD ] && [ ! -e {begun} ]; then : >{begun}; read go <{go_on}; fi\n"
        f'echo "end $CNI_COMMAND" >>{calls}\n'
        """[ $CNI_COMMAND != ADD ] || echo '{"cniVersion":"1.0.0","interfaces":[{"name":"eth0"}]}'\n"""
    )
    (slow / "slow").chmod(0o755)
    delegate = {"cniVersion": "1.0.0", "name": "slow", "type": "slow"}
    node.confs["slow"] = node.confs["plexus"] | {"delegates": [delegate], "binDir": str(slow)}
    pid = nursery.put(node.bin_dir / "plexus.sock", host.pid)
    with ThreadPoolExecutor(1) as threads:
        adding = threads.submit(node.call, "ADD", "slow", 1, sandbox)
        while not begun.exists():
            time.sleep(0.02)
        os.kill(pid, signal.SIGKILL)
        time.sleep(0.3)  # if the launcher did not wait, it would begin to delete now
        assert calls.read_text().split("\n") == ["begin ADD", ""]
        go_on.write_text("now\n")
        adding.result()
    nursery.close()
    assert calls.read_text().split("\n")[1:-1] == ["end ADD", "begin DEL", "end DEL", "begin ADD", "end ADD"]
