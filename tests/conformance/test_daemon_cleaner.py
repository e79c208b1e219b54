"""A daemon that runs cleans up after the dead, unless it is told not to, and ends as quickly as ever."""

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from comparison import columns
from node_daemon import PATIENCE, ROOT, until
from plugin_call import environment

from cni.plugin.ledger import Entry, Ledger, Record, boot_id

DAEMON = """
import sys
sys.path.insert(0, sys.argv[1])
from cni.linux import disk
from cni.node import cleaner, daemon
cleaner.GRACE = 0
disk.kind = lambda path: "ext4"
settings = daemon.Settings(socket=sys.argv[2], clean_every=float(sys.argv[3]))
daemon.run(settings, {"NOTIFY_SOCKET": sys.argv[4], "NETCONFPATH": sys.argv[5], "CNI_PATH": sys.argv[6]})
"""
SLOW = """#!/bin/sh
echo $$ > {begun}
exec sleep 60
"""

LONG = 5.0
"""Seconds: more than launchers wait for a sign of life."""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")


class Node:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ledger = Ledger(str(directory / "state" / "containers"))
        self.bin_dir = directory / "bin"
        self.bin_dir.mkdir()
        self.begun = directory / "begun"
        (directory / "net.d").mkdir()
        plugin = {"type": "plexus", "cniDir": str(directory / "state"), "delegates": [{"type": "passthru"}]}
        conf = {"cniVersion": "1.0.0", "name": "plexus", "plugins": [plugin]}
        (directory / "net.d" / "00-plexus.conflist").write_text(json.dumps(conf))

    def record(self, container: str, boot: str, plugin: str = "passthru") -> None:
        conf = {"cniVersion": "1.0.0", "name": "net", "type": plugin}
        entry = Entry(network="net", conf=json.dumps(conf), ifname="eth0")
        self.ledger.write(
            Record(container_id=container, ifname="eth0", netns="/n", netns_inode=0, boot_id=boot, entries=(entry,))
        )

    def left(self) -> list[str]:
        return [record.container_id for record in self.ledger.records()]

    def daemon(self, every: str) -> "subprocess.Popen[bytes]":
        """One that has said that it is ready."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
            heard.bind(str(self.directory / "notify"))
            heard.settimeout(PATIENCE)
            conf_dir = self.directory / "net.d"
            places = (self.bin_dir / "plexus.sock", every, self.directory / "notify", conf_dir, self.bin_dir)
            command = ["unshare", "--net", sys.executable, "-I", "-c", DAEMON, str(ROOT), *map(str, places)]
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            assert heard.recv(100) == b"READY=1"
        return process

    def add_address(self, process: "subprocess.Popen[bytes]", **ipam: Any) -> int:
        """Have host-local's launcher call the daemon, from where that is; its exit status."""
        conf = {"cniVersion": "1.0.0", "name": "net", "ipam": {"type": "host-local", "subnet": "10.1.0.0/24", **ipam}}
        command = ["nsenter", f"--net=/proc/{process.pid}/ns/net", str(self.bin_dir / "host-local")]
        called = subprocess.run(
            command, input=json.dumps(conf).encode(), env=environment("ADD"), check=False, stdout=subprocess.DEVNULL
        )
        return called.returncode

    def is_called(self, process: "subprocess.Popen[bytes]") -> bool:
        """Whether a launcher has connected."""
        rows = [line.split() for line in Path(f"/proc/{process.pid}/net/unix").read_text().splitlines()]
        return any(row[5] == "03" and row[-1] == str(self.bin_dir / "plexus.sock") for row in rows)


def end(process: "subprocess.Popen[bytes]") -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(PATIENCE)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    made = Node(tmp_path)
    made.record("living", boot_id())
    made.record("dead", "an-earlier-one")
    return made


def test_it_cleans_up_when_it_begins_and_again_later(node: Node):
    process = node.daemon("0.05")
    try:
        until(lambda: node.left() == ["living"])
        node.record("dead-later", "an-earlier-one")
        until(lambda: node.left() == ["living"])
        assert end(process) == 0
    finally:
        process.kill()
        process.wait(PATIENCE)


def test_told_not_to_it_does_nothing(node: Node):
    process = node.daemon("0")
    try:
        assert end(process) == 0
    finally:
        process.kill()
        process.wait(PATIENCE)
    assert node.left() == ["dead", "living"]


def test_who_is_served_hears_that_it_lives_while_it_ends_in_the_middle_of_cleaning_up(node: Node):
    (columns.install(node.bin_dir, columns.DEPENDENT) / "slow").write_text(SLOW.format(begun=node.begun))
    (node.bin_dir / "slow").chmod(0o755)
    node.record("dead", "an-earlier-one", plugin="slow")
    leases = node.directory / "leases" / "net"
    leases.mkdir(parents=True)
    process = node.daemon("300")
    try:
        with ThreadPoolExecutor(1) as pool:
            with (leases / "lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                added = pool.submit(node.add_address, process, dataDir=str(leases.parent))
                until(lambda: node.begun.exists() and node.is_called(process))
                process.send_signal(signal.SIGTERM)
                with pytest.raises(TimeoutError):
                    added.result(LONG)
            assert added.result() == 0
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait(PATIENCE)
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            os.kill(int(node.begun.read_text()), signal.SIGKILL)
