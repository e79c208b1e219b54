"""`plexus attach|check|detach --pod` and `add|del` on a node of its own: real bridges, and nothing left of them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
COMMAND = "import sys; sys.path.insert(0, sys.argv[1]); from cni.cli.command import main; sys.exit(main(sys.argv[2:]))"
READY = (
    "mount -t tmpfs tmpfs /run && mkdir /run/netns && ip link set lo up && ip netns add vm && echo ready && exec cat"
)
VM = "/run/netns/vm"
SECOND = [{"name": "multus-br", "interface": "pod37a8eec1ce1", "mac": "02:00:00:00:00:05"}]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")


class Node:
    """A machine in namespaces of its own, with one sandbox, `vm`, and plexus as every pod's network."""

    namespaces: tuple[str, ...] = ("--net", "--mount")

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.leases = directory / "leases"
        self.cache = directory / "cache" / "results"
        self.ledger = directory / "state" / "containers"
        for name in ("net.d", "manifests", "bin"):
            (directory / name).mkdir()
        self.machine = subprocess.Popen(
            ["unshare", *self.namespaces, "sh", "-c", READY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.machine.stdout is not None
        assert self.machine.stdout.readline() == "ready\n"
        self.configure("10-plexus.conflist", self.plexus())
        self.pod("vm", SECOND)
        self.network("multus-br", self.bridge("multus-bridge", "192.168.100.0/24"))

    def close(self) -> None:
        self.machine.communicate()

    @property
    def more_to_enter(self) -> tuple[str, ...]:
        return ()

    def run(self, *argv: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["nsenter", f"--target={self.machine.pid}", "--net", "--mount", *self.more_to_enter, *argv],
            env={"PATH": os.environ["PATH"], **environ},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def plexus_command(self, *argv: str, **environ: str) -> subprocess.CompletedProcess[str]:
        settings = {"NETCONFPATH": str(self.directory / "net.d"), "CNI_PATH": str(self.directory / "bin")} | environ
        cache = ("--cache-dir", str(self.directory / "cache"))
        return self.run(sys.executable, "-I", "-c", COMMAND, str(ROOT), *argv, *cache, **settings)

    def succeed(self, *argv: str, **environ: str) -> str:
        done = self.plexus_command(*argv, **environ)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def fail(self, *argv: str, **environ: str) -> str:
        done = self.plexus_command(*argv, **environ)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("plexus: ")
        assert done.stderr.count("\n") == 1
        return done.stderr.removeprefix("plexus: ").rstrip("\n")

    def ip(self, *argv: str, netns: str = "") -> list[dict[str, Any]]:
        done = self.run("ip", *(["-n", netns] if netns else []), "-json", *argv)
        return [entry for entry in json.loads(done.stdout or "[]") if entry]

    def links(self, netns: str = "") -> set[str]:
        return {link["ifname"] for link in self.ip("link", netns=netns)} - {"lo"}

    def leased(self) -> list[str]:
        kept = ("lock", "last_reserved_ip.0")  # and the indices, whose names begin with a dot
        found = (path.name for path in self.leases.rglob("*") if path.is_file())
        return sorted(name for name in found if name not in kept and not name.startswith("."))

    def left(self) -> dict[str, Any]:
        """What an attachment leaves where it is not undone; bridges stay, shared as they are."""
        rules = json.loads(self.run("nft", "-j", "list", "ruleset").stdout)["nftables"]
        return {
            "sandbox": self.links("vm"),
            "veths": {name for name in self.links() if name.startswith("veth")},
            "leases": self.leased(),
            "cache": sorted(os.listdir(self.cache)) if self.cache.is_dir() else [],
            "ledger": sorted(os.listdir(self.ledger)) if self.ledger.is_dir() else [],
            "rules": [entry["rule"] for entry in rules if "saddr" in json.dumps(entry.get("rule", {}))],
        }

    def bridge(self, name: str, subnet: str, **keys: Any) -> dict[str, Any]:
        ipam = {"type": "host-local", "subnet": subnet, "dataDir": str(self.leases)}
        return {"cniVersion": "1.0.0", "name": name, "type": "bridge", "bridge": name, "ipam": ipam} | keys

    def plexus(self) -> dict[str, Any]:
        plugin = {
            "type": "plexus",
            "manifests": str(self.directory / "manifests"),
            "cniDir": str(self.directory / "state"),
            "hostPaths": [str(self.directory)],
            "binDir": str(self.directory / "bin"),
            "delegates": [self.bridge("cni0", "10.244.0.0/24", isDefaultGateway=True, ipMasq=True)],
        }
        return {"cniVersion": "1.0.0", "name": "plexus", "plugins": [plugin]}

    def configure(self, name: str, conf: dict[str, Any]) -> None:
        (self.directory / "net.d" / name).write_text(json.dumps(conf))

    def pod(self, name: str, networks: list[dict[str, Any]]) -> None:
        annotations = {"k8s.v1.cni.cncf.io/networks": json.dumps(networks)}
        self._manifest(f"pod-{name}", {"kind": "Pod", "metadata": {"name": name, "annotations": annotations}})

    def network(self, name: str, conf: dict[str, Any]) -> None:
        spec = {"config": json.dumps(conf)}
        data = {"kind": "NetworkAttachmentDefinition", "metadata": {"name": name}, "spec": spec}
        self._manifest(f"nad-{name}", data)

    def _manifest(self, name: str, data: dict[str, Any]) -> None:
        (self.directory / "manifests" / f"{name}.json").write_text(json.dumps({"apiVersion": "v1"} | data))


NOTHING = {"sandbox": set(), "veths": set(), "leases": [], "cache": [], "ledger": [], "rules": []}
ATTACH = ("attach", "--pod", "default/vm", "--netns", VM)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    yield made
    made.close()


def test_a_pod_is_attached_shown_checked_and_detached(node: Node):
    table = [line.split() for line in node.succeed(*ATTACH).splitlines()]

    assert table[0] == ["NETWORK", "INTERFACE", "IP", "MAC", "HOST", "VETH", "BRIDGE"]
    assert [row[:3] + row[5:] for row in table[1:]] == [
        ["cni0", "eth0", "10.244.0.2/24", "cni0"],
        ["default/multus-br", "pod37a8eec1ce1", "192.168.100.2/24", "multus-bridge"],
    ]
    assert node.links("vm") == {"eth0", "pod37a8eec1ce1"}
    for row in table[1:]:
        assert node.ip("link", "show", row[1], netns="vm")[0]["address"] == row[3]
        assert node.ip("link", "show", row[4])[0]["master"] == row[5]

    assert node.succeed("check", "--pod", "default/vm") == ""

    assert node.succeed("detach", "--pod", "default/vm") == (
        'pod "default/vm": detached from cni0, default/multus-br\n'
    )
    assert node.left() == NOTHING
    assert node.succeed("detach", "--pod", "default/vm") == 'pod "default/vm": nothing was attached\n'


def test_json_tells_what_the_kernel_has(node: Node):
    rows = json.loads(node.succeed(*ATTACH, "-o", "json"))

    for row in rows:
        inside = node.ip("addr", "show", row["interface"], netns="vm")[0]
        addresses = [
            f"{entry['local']}/{entry['prefixlen']}" for entry in inside["addr_info"] if entry["family"] == "inet"
        ]
        assert row["ips"] == addresses
        assert (row["mac"], row["mtu"]) == (inside["address"], inside["mtu"])
        assert node.ip("link", "show", row["hostInterface"])[0]["master"] == row["bridge"]
    assert [row["default"] for row in rows] == [True, False]


def test_check_says_what_differs(node: Node):
    node.succeed(*ATTACH)
    node.run("ip", "-n", "vm", "link", "del", "pod37a8eec1ce1")

    error = node.fail("check", "--pod", "default/vm", "--netns", VM)

    assert "default/multus-br" in error
    assert "pod37a8eec1ce1" in error


def test_a_pod_that_was_not_attached_cannot_be_checked(node: Node):
    assert node.fail("check", "--pod", "default/vm").startswith('could not check pod "default/vm"; ')


def test_an_attach_that_fails_leaves_nothing(node: Node):
    node.pod("vm", [*SECOND, {"name": "nowhere", "interface": "net9"}])
    assert "nowhere" in node.fail(*ATTACH)
    assert node.left() == NOTHING


def test_an_attach_that_fails_half_way_leaves_nothing(node: Node):
    executable = node.directory / "bin" / "broken"
    executable.write_text('#!/bin/sh\ncat >/dev/null\n[ "$CNI_COMMAND" = DEL ] || { echo oops >&2; exit 1; }\n')
    executable.chmod(0o755)
    node.network("broken", {"cniVersion": "1.0.0", "name": "broken", "type": "broken"})
    node.pod("vm", [*SECOND, {"name": "broken"}])

    error = node.fail(*ATTACH)

    assert 'stderr: "oops"' in error
    assert node.left() == NOTHING


def test_a_pod_that_is_attached_is_not_touched_by_another_attach(node: Node):
    node.succeed(*ATTACH)
    before = node.left()

    assert f'"{VM}" has an interface of that name already' in node.fail(*ATTACH)

    assert node.left() == before
    node.succeed("check", "--pod", "default/vm")


def test_an_interface_of_somebody_else_survives_a_failed_add(node: Node):
    node.configure(
        "20.conflist", {"cniVersion": "1.0.0", "name": "net", "plugins": [node.bridge("br9", "10.9.0.0/24")]}
    )
    node.run("ip", "-n", "vm", "link", "add", "eth0", "type", "veth", "peer", "name", "theirs")

    assert "has an interface of that name already" in node.fail("add", "net", VM)

    assert node.links("vm") == {"eth0", "theirs"}


def test_what_a_killed_attach_left_is_found_without_its_cache(node: Node):
    node.succeed(*ATTACH)
    for path in node.cache.iterdir():
        path.unlink()

    assert node.succeed("detach", "--pod", "default/vm") == 'pod "default/vm": detached from cni0, default/multus-br\n'
    assert node.left() == NOTHING


def test_a_detach_uses_the_configuration_of_the_attach(node: Node):
    node.succeed(*ATTACH)
    for path in [*(node.directory / "net.d").iterdir(), *(node.directory / "manifests").iterdir()]:
        path.unlink()

    node.succeed("detach", "--pod", "default/vm", "--netns", VM)

    assert node.left() == NOTHING


def test_a_detach_works_when_the_namespace_is_gone(node: Node):
    node.succeed(*ATTACH)
    node.run("ip", "netns", "del", "vm")
    node.succeed("detach", "--pod", "default/vm")
    assert node.left() == NOTHING


def test_a_detach_leaves_what_a_container_runtime_made_of_the_same_pod(node: Node):
    node.succeed(*ATTACH, "--container-id", "7f3c")
    before = node.left()

    assert node.succeed("detach", "--pod", "default/vm") == 'pod "default/vm": nothing was attached\n'
    assert node.left() == before

    node.succeed("detach", "--pod", "default/vm", "--container-id", "7f3c")
    assert node.left() == NOTHING


def test_a_default_network_without_plexus_is_one_row(node: Node):
    node.configure(
        "05.conflist", {"cniVersion": "1.0.0", "name": "net", "plugins": [node.bridge("br9", "10.9.0.0/24")]}
    )

    rows = json.loads(node.succeed(*ATTACH, "-o", "json"))

    assert [(row["network"], row["interface"], row["ips"], row["bridge"]) for row in rows] == [
        ("net", "eth0", ["10.9.0.2/24"], "br9")
    ]
    assert node.succeed("detach", "--pod", "default/vm") == 'pod "default/vm": detached from net\n'
    assert node.left() == NOTHING


def test_a_namespace_is_added_to_one_network_and_deleted_from_it(node: Node):
    node.configure(
        "20.conflist", {"cniVersion": "1.1.0", "name": "net", "plugins": [node.bridge("br9", "10.9.0.0/24")]}
    )
    node.succeed("status", "net", VM)

    result = json.loads(node.succeed("add", "net", VM, CNI_IFNAME="net1"))

    assert node.links("vm") == {"net1"}
    assert result["interfaces"][2]["mac"] == node.ip("link", "show", "net1", netns="vm")[0]["address"]
    assert [ip["address"] for ip in result["ips"]] == ["10.9.0.2/24"]
    node.succeed("check", "net", VM, CNI_IFNAME="net1")
    node.succeed("del", "net", VM, CNI_IFNAME="net1")
    assert node.left() == NOTHING


def test_a_plexus_network_is_collected_whole(node: Node):
    node.succeed("add", "plexus", VM)
    node.succeed("gc", "plexus", "/any")
    assert node.left() == NOTHING


def test_debug_shows_where_an_error_came_from(node: Node):
    done = node.plexus_command("add", "nowhere", VM, "--debug")
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith('plexus: no net configuration with name "nowhere"')


def test_the_status_of_a_node_says_what_is_attached_and_what_could_not_be_undone(node: Node):
    assert node.succeed("status") == "attached    0 containers\n"
    node.network("broken", {"cniVersion": "1.0.0", "name": "broken", "type": "broken"})
    plugin = node.directory / "bin" / "broken"
    plugin.write_text('#!/bin/sh\n[ $CNI_COMMAND = ADD ] && echo \'{"cniVersion": "1.0.0"}\'\nexit 0\n')
    plugin.chmod(0o755)
    node.pod("vm", [{"name": "broken", "interface": "net9"}])
    node.succeed("attach", "--pod", "default/vm", "--netns", VM)
    assert json.loads(node.succeed("status", "-o", "json"))["attached"] == 1
    plugin.unlink()

    assert "PLX-PLUGIN-MISSING" in node.fail("detach", "--pod", "default/vm")
    told = node.succeed("status")
    assert "attached    1 containers\nfailing     1 attachments" in told
    assert "PLX-PLUGIN-MISSING" in node.fail("detach", "--pod", "default/vm")
    done = node.plexus_command("detach", "--pod", "default/vm")
    assert done.returncode == 0

    state = json.loads(node.succeed("status", "-o", "json"))
    assert (state["attached"], state["earlier"], state["damaged"]) == (0, 0, [])
    (left,) = state["unfinished"]
    assert (left["pod"], left["network"], left["interface"]) == ("default/vm", "default/broken", "net9")
    assert (left["tries"], left["blocking"]) == (3, False)
    assert "PLX-PLUGIN-MISSING" in left["reason"]
    assert "unfinished  1 attachments that no DEL could undo" in node.succeed("status")


def test_the_status_of_a_node_names_records_that_are_damaged(node: Node):
    node.ledger.mkdir(parents=True)
    (node.ledger / "c9@eth0.json").write_text("{")
    (node.ledger / "c8@eth0.json").write_text('{"format": 2}')
    assert node.succeed("status") == (
        f"attached    0 containers\ndamaged     {node.ledger}/c9@eth0.json\n"
        f"newer       {node.ledger}/c8@eth0.json: install the version of plexus that wrote it\n"
    )
