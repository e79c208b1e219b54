"""A daemon that runs cleans up after the dead, unless it is told not to, and ends as quickly as ever."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from node_daemon import PATIENCE, ROOT, until

from cni.plugin.ledger import Entry, Ledger, Record, boot_id

DAEMON = """
import sys
sys.path.insert(0, sys.argv[1])
from cni.linux import disk
from cni.node import cleaner, daemon
cleaner.GRACE = 0
disk.kind = lambda path: "ext4"
settings = daemon.Settings(socket=sys.argv[2], clean_every=float(sys.argv[3]))
daemon.run(settings, {"NOTIFY_SOCKET": sys.argv[4], "NETCONFPATH": sys.argv[5]})
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")


class Node:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ledger = Ledger(str(directory / "state" / "containers"))
        (directory / "net.d").mkdir()
        plugin = {"type": "plexus", "cniDir": str(directory / "state"), "delegates": [{"type": "passthru"}]}
        conf = {"cniVersion": "1.0.0", "name": "plexus", "plugins": [plugin]}
        (directory / "net.d" / "00-plexus.conflist").write_text(json.dumps(conf))

    def record(self, container: str, boot: str) -> None:
        entry = Entry(network="net", conf='{"cniVersion": "1.0.0", "name": "net", "type": "passthru"}', ifname="eth0")
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
            places = (self.directory / "socket", every, self.directory / "notify", self.directory / "net.d")
            command = ["unshare", "--net", sys.executable, "-I", "-c", DAEMON, str(ROOT), *map(str, places)]
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            assert heard.recv(100) == b"READY=1"
        return process


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


def test_told_not_to_it_does_nothing(node: Node):
    process = node.daemon("0")
    try:
        assert end(process) == 0
    finally:
        process.kill()
    assert node.left() == ["dead", "living"]
