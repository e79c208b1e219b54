"""`plexus gc` for all of a node: who died without a DEL is cleaned up after, and the living are not."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_cli_pod import VM, Node

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")
NOTHING = "nothing to remove\n"


class Machine(Node):
    """The same with processes of its own, all of which it may look at."""

    namespaces = ("--net", "--mount", "--pid", "--fork", "--mount-proc")

    @property
    def more_to_enter(self) -> tuple[str, ...]:
        return (f"--pid=/proc/{self.machine.pid}/ns/pid_for_children",)

    def gc(self, *argv: str) -> list[dict[str, Any]]:
        return list(json.loads(self.succeed("gc", "--grace", "0", "-o", "json", *argv)))

    def start_again(self) -> None:
        """Have everything that is remembered be of an earlier boot."""
        for path in self.ledger.glob("*.json"):
            path.write_text(json.dumps(json.loads(path.read_text()) | {"boot_id": "an-earlier-one"}))


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    made.close()


def what(findings: list[dict[str, Any]]) -> list[str]:
    return [finding["what"] for finding in findings]


def test_the_living_are_left_alone(node: Machine):
    node.succeed("attach", "--pod", "default/vm", "--netns", VM)
    assert (node.gc("--dry-run"), node.gc()) == ([], [])
    assert node.succeed("gc", "--grace", "0") == NOTHING
    node.succeed("check", "--pod", "default/vm")


def test_who_is_gone_without_a_detach_is_cleaned_up_after_and_a_dry_run_says_so_before(node: Machine):
    node.succeed("attach", "--pod", "default/vm", "--netns", VM)
    node.run("ip", "netns", "del", "vm")
    while any(name.startswith("veth") for name in node.links()):
        pass
    before = node.leased()
    dry = node.gc("--dry-run")
    assert (what(dry), dry[0]["pod"]) == (["container", "result"], "default/vm")
    assert dry[0]["why"] == "its network namespace is gone"
    assert node.leased() == before
    assert node.leased()

    done = node.gc()

    assert done == [finding | {"removed": True, "failure": ""} for finding in dry]
    assert (node.leased(), list(node.ledger.glob("*.json")), list(node.cache.glob("*"))) == ([], [], [])
    assert node.succeed("gc", "--grace", "0") == NOTHING


def test_a_namespace_that_a_process_keeps_is_alive_wherever_its_name_has_gone(node: Machine):
    node.succeed("attach", "--pod", "default/vm", "--netns", VM)
    enter = ["nsenter", f"--target={node.machine.pid}", "--net", "--mount", *node.more_to_enter]
    keep = [*enter, "nsenter", f"--net={VM}", "sh", "-c", "echo; exec cat"]
    with subprocess.Popen(keep, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"\n"
        node.run("ip", "netns", "del", "vm")
        assert node.gc() == []
        assert node.leased()
        process.stdin.close()


def test_what_is_of_an_earlier_boot_goes(node: Machine):
    node.succeed("attach", "--pod", "default/vm", "--netns", VM)
    node.start_again()
    assert "would be removed" in node.succeed("gc", "--grace", "0", "--dry-run")
    assert [finding["why"] for finding in node.gc()] == ["it lived in an earlier boot"]
    assert (node.leased(), list(node.ledger.glob("*.json"))) == ([], [])


def test_what_cannot_be_removed_is_told_and_stays(node: Machine):
    node.network("broken", {"cniVersion": "1.0.0", "name": "broken", "type": "broken"})
    plugin = node.directory / "bin" / "broken"
    plugin.write_text('#!/bin/sh\n[ $CNI_COMMAND = ADD ] && echo \'{"cniVersion": "1.0.0"}\'\nexit 0\n')
    plugin.chmod(0o755)
    node.pod("vm", [{"name": "broken", "interface": "net9"}])
    node.succeed("attach", "--pod", "default/vm", "--netns", VM)
    node.start_again()
    plugin.unlink()

    done = node.plexus_command("gc", "--grace", "0")
    assert done.returncode == 1
    assert "PLX-PLUGIN-MISSING" in done.stderr
    assert done.stdout.splitlines()[1].endswith("failed")
    (kept,) = json.loads(node.succeed("status", "-o", "json"))["unfinished"]
    assert kept["interface"] == "net9"


def test_a_rule_whose_interface_is_gone_goes_though_nobody_remembers_whose_it_was(node: Machine):
    checked = {"cniVersion": "1.0.0", "name": "checked", "type": "bridge", "bridge": "br-checked", "macspoofchk": True}
    node.network("checked", checked)
    node.pod("vm", [{"name": "checked", "interface": "net9"}])
    node.succeed("attach", "--pod", "default/vm", "--netns", VM)
    for path in node.ledger.glob("*.json"):
        path.unlink()
    assert "rule" not in what(node.gc())

    node.run("ip", "netns", "del", "vm")
    while any(name.startswith("veth") for name in node.links()):
        pass
    (found,) = [finding for finding in node.gc("--dry-run") if finding["what"] == "rule"]
    assert found["container"].endswith("-net9")
    assert found in [{key: finding[key] for key in found} for finding in node.gc()]
    assert "macspoofchk" not in node.run("nft", "list", "ruleset").stdout
    assert "rule" not in what(node.gc())


def test_a_node_without_plexus_is_told_so(node: Machine):
    for path in (node.directory / "net.d").iterdir():
        path.unlink()
    assert "PLX-CONF-MISSING" in node.fail("gc")
