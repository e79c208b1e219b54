"""Interfaces that nothing is executed for are deleted as one, so that the kernel's wait is paid once for a pod."""

from __future__ import annotations

import json

import pytest
from machine import Namespace
from plexus_node import Node, links

from cni.linux import links as linux_links
from cni.linux import netlink, netns

SEEING = """\
#!/bin/sh
cat >/dev/null
if [ "$CNI_COMMAND" = ADD ]; then echo '{{"cniVersion": "1.0.0", "ips": [{{"address": "10.5.0.2/24"}}]}}'; fi
ip -netns {netns} -json link >{seen}-$CNI_COMMAND
"""
"""A plugin that notes what the sandbox has when it is called."""


@pytest.fixture
def node(host, sandbox, tmp_path):
    made = Node(host, sandbox, tmp_path)
    made.run("multus-br@net1,multus-br@net2,multus-br@net3")
    return made


@pytest.fixture
def deletions(monkeypatch):
    """How often the kernel was asked to delete links."""
    asked = []
    real = netlink.Socket.ask

    def ask(self, kind, *arguments):
        if kind == linux_links.DELETE:
            asked.append(arguments)
        return real(self, kind, *arguments)

    monkeypatch.setattr(netlink.Socket, "ask", ask)
    return asked


def seeing_plugin(node, name, **keys):
    """Define a network of it."""
    directory = node.directory / "bin"
    directory.mkdir(exist_ok=True)
    path = directory / "seeing"
    path.write_text(SEEING.format(netns=node.sandbox.name, seen=node.directory / "seen"))
    path.chmod(0o755)
    node.define(name, {"cniVersion": "1.0.0", "name": name, "type": "seeing"} | keys)


def seen(node, command):
    return {link["ifname"] for link in json.loads((node.directory / f"seen-{command}").read_text())} - {"lo"}


def state(node):
    """What attachments leave; the cluster's gateway stays on its bridge."""
    return {key: value for key, value in node.state().items() if key != "bridge addresses"}


def test_the_kernel_is_asked_once_to_delete_all_interfaces_of_a_pod(node, deletions):
    before = state(node)
    node.add()
    deletions.clear()

    node.delete()

    assert len(deletions) == 1
    assert state(node) == before


def test_interfaces_of_another_pod_stay(node, namespace):
    other = namespace("other")
    node.add(container_id="other", netns=other.path)
    there = links(other.path), sorted(links(node.host.path))
    node.add()

    node.delete()

    assert len(there[0]) == len(("lo", "eth0", "net1", "net2", "net3"))
    assert (links(other.path), sorted(links(node.host.path))) == there
    node.delete(container_id="other", netns=other.path)


def test_where_they_cannot_be_deleted_as_one_they_are_deleted_one_after_another(node, deletions):
    before = state(node)
    node.add()
    node.host.ip(f"link set lo group {linux_links.UNWANTED}")  # which nobody can delete
    deletions.clear()

    node.delete()

    assert len(deletions) == 1 + 4
    assert state(node) == before


def test_what_works_on_other_interfaces_is_detached_before_any_of_them_goes(node):
    seeing_plugin(node, "bond", linksInContainer=[{"name": "net1"}, {"name": "net2"}])
    node.run("multus-br@net1,multus-br@net2,bond@bond0")
    before = state(node)
    node.add()

    node.delete()

    assert seen(node, "DEL") == {"eth0", "net1", "net2"}
    assert state(node) == before


def test_the_cluster_network_goes_after_a_network_that_is_executed(node):
    seeing_plugin(node, "executed")
    node.run("multus-br@net1,executed@net2,multus-br@net3")
    node.add()

    node.delete()

    assert "eth0" in seen(node, "DEL")
    assert links(node.sandbox.path) == ["lo"]


def test_links_that_somebody_else_has_deleted_meanwhile_are_no_failure(host: Namespace):
    for name in ("one", "two"):
        host.ip(f"link add {name} type veth peer name peer-{name}")

    def delete_twice():
        with linux_links.Links() as found:
            both = [found.get("one"), found.get("two")]
            found.delete(both[0])
            found.delete_together(both)
            found.delete_together(both)

    netns.run_inside(host.path, delete_twice)

    assert host.links() == ["lo"]
