"""A node in pieces: what must be there before a pod can have its three networks, each of them whole or not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from installed import launchers
from node_daemon import ROOT, Nursery
from throwaway import Host
from unruly_api import GOOD, Api

from cni.plugin import lock

WIRE = """\
#!/bin/sh
# A plugin that is executed: a veth, of which both ends are in the sandbox.
set -e
case $CNI_COMMAND in
VERSION)
    echo '{"cniVersion": "1.0.0", "supportedVersions": ["0.4.0", "1.0.0"]}'
    ;;
ADD)
    nsenter --net="$CNI_NETNS" ip link add "$CNI_IFNAME" type veth peer name "$CNI_IFNAME-peer"
    echo '{"cniVersion": "1.0.0", "interfaces": [{"name": "'$CNI_IFNAME'", "sandbox": "'$CNI_NETNS'"}]}'
    ;;
DEL)
    nsenter --net="$CNI_NETNS" ip link del "$CNI_IFNAME" 2>/dev/null || true
    ;;
esac
"""
ARGS = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=pod;K8S_POD_UID=u1"
NONE = ["lo"]
ALL = sorted(["eth0", "eth0-peer", "lo", "net1", "net2", "net2-peer"])
"""What the sandbox has with none of the pod's networks, and with all of them."""
WHOLE = "whole"
BY = ("path", "directory", "name")
"""How the node's configuration names the primary network."""


@dataclass(frozen=True)
class Answer:
    """What a runtime gets."""

    rc: int
    data: dict[str, Any]

    @property
    def code(self) -> int:
        """0, or the error's."""
        return int(self.data["code"]) if self.rc else 0


class Node:
    """A host with plexus, an API server, one pod with networks `red` and `blue`, and its sandbox."""

    def __init__(self, host: Host, directory: Path, by: str = "path") -> None:
        self.host = host
        self.directory = directory
        self.by = by
        self.bin_dir = launchers(directory, on_a_host=False)
        self.net_d, self.plugins, self.state = directory / "net.d", directory / "plugins", directory / "state"
        for path in (self.net_d, self.plugins):
            path.mkdir()
        self.wire, self.primary = self.plugins / "wire", self.net_d / "10-primary.conflist"
        self.kubeconfig, self.authority = directory / "kubeconfig", directory / "ca.crt"
        self.sandbox = host.namespace("sandbox")
        self.api = Api(directory / "api", host.command())
        self._define()

    def _define(self) -> None:
        ipam = {
            "type": "host-local",
            "dataDir": str(self.directory / "leases"),
            "ranges": [[{"subnet": "10.1.0.0/24"}]],
        }
        networks = {
            "red": {"cniVersion": "1.0.0", "name": "red", "type": "bridge", "bridge": "br-red", "ipam": ipam},
            "blue": {"cniVersion": "1.0.0", "name": "blue", "type": "wire"},
        }
        for name, conf in networks.items():
            path = f"/apis/k8s.cni.cncf.io/v1/namespaces/default/network-attachment-definitions/{name}"
            self.api.define(path, {"spec": {"config": json.dumps(conf)}})
        annotations = {"k8s.v1.cni.cncf.io/networks": "red,blue"}
        self.api.define("/api/v1/namespaces/default/pods/pod", {"metadata": {"uid": "u1", "annotations": annotations}})

    @property
    def conf(self) -> dict[str, Any]:
        """What the runtime gives to the plugin."""
        named = {"path": str(self.primary), "directory": str(self.net_d), "name": "primary"}
        return {
            "cniVersion": "1.1.0",
            "name": "plexus",
            "type": "plexus",
            "clusterNetwork": named[self.by],
            "confDir": str(self.net_d),
            "binDir": str(self.plugins),
            "cniDir": str(self.state),
            "kubeconfig": str(self.kubeconfig),
            "apiTimeout": 0.3,
            "hostPaths": [str(self.directory)],
        }

    def call(
        self,
        verb: str,
        container: str = "c1",
        *,
        bin_dir: Path | None = None,
        sandbox: Host | None = None,
        **keys: Any,
    ) -> Answer:
        """Call plexus as a runtime does; `keys` are of its configuration."""
        environ = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": (sandbox or self.sandbox).path,
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(self.plugins),
            "CNI_ARGS": ARGS,
        }
        program = str((bin_dir or self.bin_dir) / "plexus")
        done = self.host.call(program, stdin=json.dumps(self.conf | keys), environ=environ)
        assert done.returncode in (0, 1), done.stderr
        return Answer(done.returncode, json.loads(done.stdout or "{}"))

    def left(self) -> list[str]:
        """What nobody has who is attached to nothing."""
        found = [f"link {link}" for link in self.host.links() if link not in ("lo", "br-red")]
        found += [f"in the sandbox {link}" for link in self.sandbox.links() if link != "lo"]
        found += [str(path) for path in (self.directory / "leases").rglob("10.*")]
        found += [str(path) for path in self.directory.rglob("*.tmp")]
        if self.state.is_dir():
            found += [str(path) for path in self.state.rglob("*") if path.is_file() and path.name != lock.NAME]
        return found

    def put(self, piece: str, variant: str = WHOLE) -> None:
        """Have a piece of the node be so."""
        PIECES[piece][variant](self)

    def put_all(self, broken: dict[str, str]) -> None:
        """Have every piece whole, but those."""
        for piece in PIECES:
            self.put(piece, broken.get(piece, WHOLE))

    def expect(self, broken: dict[str, str]) -> None:
        """Raise AssertionError unless ADD and STATUS say what they must, and nothing is left of an ADD that failed."""
        status, added = self.call("STATUS"), self.call("ADD")
        about = f"{broken}: STATUS {status.data}, ADD {added.data}"
        if broken:
            assert added.code in set().union(*(CODES[piece] for piece in broken)), about
            if broken.get("plugin") == "cut":  # nobody knows what a part of it has done, nor can it undo that
                self.put("plugin")
                self.call("DEL")
                self.put("plugin", "cut")
            assert self.left() == [], about
            if not set(broken.values()) <= UNSEEN:
                assert status.code == 50, about
            return
        assert (status.code, added.code) == (0, 0), about
        assert self.sandbox.links() == ALL, about
        deleted = self.call("DEL")
        assert (deleted.code, self.left()) == (0, []), f"{about}, DEL {deleted.data}"


Put = Callable[[Node], None]


def _file(path: Callable[[Node], Path], content: Callable[[Node], bytes], mode: int = 0o600) -> dict[str, Put]:
    """A file that is whole, absent, empty or cut in half."""

    def write(length: Callable[[int], int]) -> Put:
        def put(node: Node) -> None:
            text = content(node)
            path(node).write_bytes(text[: length(len(text))])
            path(node).chmod(mode)

        return put

    return {
        WHOLE: write(lambda length: length),
        "absent": lambda node: path(node).unlink(missing_ok=True),
        "empty": write(lambda _: 0),
        "cut": write(lambda length: length // 2),
    }


def _primary(_node: Node) -> bytes:
    return json.dumps({"cniVersion": "1.0.0", "name": "primary", "plugins": [{"type": "wire"}]}).encode()


def _without_rights(node: Node) -> None:
    node.put("plugin")
    node.wire.chmod(0o644)


def _old_token(node: Node) -> None:
    node.put("kubeconfig")
    node.kubeconfig.write_bytes(node.kubeconfig.read_bytes().replace(b"first", b"older"))


def _running(how: str) -> Put:
    def put(node: Node) -> None:
        if node.api.process is None:
            node.api.start()
        node.api.behave(how)

    return put


def _no_state(node: Node) -> None:
    if node.state.is_dir():
        shutil.rmtree(node.state)
    else:
        node.state.unlink(missing_ok=True)


def _state_in_the_way(node: Node) -> None:
    _no_state(node)
    node.state.write_text("")


PIECES: dict[str, dict[str, Put]] = {
    "plugin": _file(lambda node: node.wire, lambda _: WIRE.encode(), 0o755) | {"not executable": _without_rights},
    "primary": _file(lambda node: node.primary, _primary),
    "kubeconfig": _file(lambda node: node.kubeconfig, lambda node: node.api.kubeconfig(node.authority))
    | {"old token": _old_token},
    "authority": _file(lambda node: node.authority, lambda node: node.api.authority),
    "api": {WHOLE: _running(GOOD), "down": lambda node: node.api.stop(), "starting": _running("says 503")},
    "state": {WHOLE: _no_state, "in the way": _state_in_the_way},
}
"""How each can be put there; the directories of state need not be there at all."""
CODES = {
    "plugin": {6, 104},
    "primary": {5, 6, 7},
    "kubeconfig": {7, 11},
    "authority": {7, 11},
    "api": {11},
    "state": {5},
}
"""The errors that tell of each."""
UNSEEN = {"empty", "cut"}
"""What an executable is, nobody knows before it is executed; of all other files STATUS knows."""


class Daemons:
    """A daemon as launchers may find it."""

    def __init__(self, node: Node, directory: Path) -> None:
        self.node = node
        directory.mkdir()
        self.nursery = Nursery(directory)
        self.socket = node.bin_dir / "plexus.sock"
        self.listening: socket.socket | None = None
        self.pid = 0

    def have(self, how: str) -> None:
        """Have one that is so."""
        self.end()
        HOW[how](self)

    def live(self) -> None:
        self.pid = self.nursery.put(self.socket, self.node.host.pid)

    def stopped(self) -> None:
        self.live()
        os.kill(self.pid, signal.SIGSTOP)

    def of_another_version(self) -> None:
        """It declines all launchers."""
        self.live()
        other = self.node.directory / "other"
        if not other.exists():
            other.mkdir()
            for name in ("cni", "ipam", "delegates"):
                (other / name).symlink_to(ROOT / name)
        path = self.node.bin_dir / "plexus"
        path.write_text(path.read_text().replace(repr(str(ROOT)), repr(str(other))))

    def silent(self) -> None:
        """Somebody accepts, and never says that he lives."""
        self.listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listening.bind(str(self.socket))
        self.listening.listen()

    def dead(self) -> None:
        """Nobody listens at the socket any more."""
        self.silent()
        assert self.listening
        self.listening.close()

    def end(self) -> None:
        """Have none."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            self.pid = 0
        if self.listening:
            self.listening.close()
            self.listening = None
        self.socket.unlink(missing_ok=True)
        path = self.node.bin_dir / "plexus"
        path.write_text(path.read_text().replace(repr(str(self.node.directory / "other")), repr(str(ROOT))))

    def close(self) -> None:
        self.end()
        self.nursery.close()


HOW: dict[str, Callable[[Daemons], None]] = {
    "live": Daemons.live,
    "none": lambda _: None,
    "stopped": Daemons.stopped,
    "another version's": Daemons.of_another_version,
    "silent": Daemons.silent,
    "dead": Daemons.dead,
}
