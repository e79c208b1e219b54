"""Containers that plexus has no record of: Multus or the primary plugin attached them, or the record is lost."""

from __future__ import annotations

import base64
import json
import os

import pytest
from plexus_node import KUBEVIRT, Node, links, read

from cni.meta import inherited
from cni.spec import convert, netconf, versions
from cni.spec.errors import CheckFailed, CNIError


@pytest.fixture
def node(host, sandbox, tmp_path, monkeypatch):
    monkeypatch.setattr(inherited, "MULTUS", str(tmp_path / "multus"))
    made = Node(host, sandbox, tmp_path)
    made.run(KUBEVIRT)
    return made


def hand_over(node, container_id="c1"):
    """Make what plexus has attached what Multus has: in its files, as libcni writes them, and no record of ours."""
    record = json.loads(node.record.read_text())
    results = node.directory / "multus" / "results"
    results.mkdir(parents=True, exist_ok=True)
    for age, entry in enumerate(reversed(record["entries"])):
        name = netconf.parse(entry["conf"]).name
        remembered = {
            "kind": "cniCacheV1",
            "containerId": container_id,
            "config": base64.b64encode(entry["conf"].encode()).decode(),
            "ifName": entry["ifname"],
            "networkName": name,
            "netns": record["netns"],
            "cniArgs": [pair.split("=") for pair in entry["args"].split(";")],
            "capabilityArgs": entry["runtime_config"],
            "result": entry["result"] | {"cniVersion": "1.0.0"},
        }
        path = results / f"{name}-{container_id}-{entry['ifname']}"
        path.write_text(json.dumps(remembered))
        os.utime(path, (1000 - age, 1000 - age))
    (results.parent / container_id).write_text("[]")
    node.record.unlink()


def multus_files(node):
    return [path.name for path in (node.directory / "multus").rglob("*") if path.is_file()]


def clean(node):
    assert [name for name in links(node.host.path) if name.startswith("veth")] == []
    assert links(node.sandbox.path) == ["lo"]
    assert [path.name for path in node.state_files() if "network-status" not in str(path)] == []


def test_what_multus_attached_is_deleted_as_it_remembers_it(node):
    node.add()
    hand_over(node)
    for path in node.manifests.iterdir():
        path.unlink()

    node.delete(conf={"delegates": []})

    clean(node)
    assert multus_files(node) == []


def test_what_multus_attached_can_be_checked(node):
    node.add()
    hand_over(node)
    node.check()

    node.sandbox.ip("link del pod37a8eec1ce1")

    with pytest.raises(CheckFailed, match='interface "pod37a8eec1ce1"'):
        node.check()


def test_gc_keeps_what_multus_attached_to_a_living_container(node):
    node.add()
    hand_over(node)
    node.run([{"name": "multus-br", "interface": "second0"}])
    node.add(container_id="c2", ifname="eth5")
    before = node.state()

    node.collect(("c1", "eth0"), ("c2", "eth5"))

    assert node.state() == before
    node.check()


def test_what_multus_attached_is_remembered_by_us_when_its_delete_fails(node):
    node.add()
    hand_over(node)
    lease = node.directory / "leases" / "multus-br" / "192.168.100.2"
    content = lease.read_bytes()
    lease.unlink()
    lease.mkdir()  # host-local cannot read it

    with pytest.raises(CNIError):
        node.delete()
    assert multus_files(node) == []
    lease.rmdir()
    lease.write_bytes(content)
    node.delete()

    clean(node)


def test_files_of_multus_that_cannot_be_read_are_passed_over(node):
    node.add()
    hand_over(node)
    (node.directory / "multus" / "results" / "x-c1-net7").write_bytes(b"\xff{")
    (node.directory / "multus" / "results" / "y-c2-eth0").write_text("{}")

    node.delete()

    clean(node)
    assert sorted(multus_files(node)) == ["x-c1-net7", "y-c2-eth0"]


def test_a_pod_of_the_primary_plugins_is_deleted_though_it_was_never_added(node):
    node.run("")
    node.add()
    node.record.unlink()

    node.delete()

    clean(node)


def test_a_lost_record_is_replaced_by_what_the_pod_asks_for_when_the_runtime_remembers_the_add(node):
    result = node.add()
    node.record.unlink()

    node.delete(conf={"prevResult": convert.encode(result, versions.CURRENT)})

    clean(node)


def test_a_damaged_record_of_a_pod_that_is_gone_is_replaced_by_what_interfaces_and_leases_tell(node, namespace):
    living = namespace("living")
    node.add(container_id="c2", netns=living.path)
    before = node.state()
    node.add()
    node.record.write_text("{")
    for path in node.manifests.iterdir():
        path.unlink()

    with pytest.raises(CNIError, match="its pod says no more"):
        node.delete()
    node.delete()

    after = node.state()
    assert set(after.pop("files")) - set(before.pop("files")) == {"state/containers/c1@eth0.damaged"}
    assert after == before
    assert set(links(living.path)) == {"lo", "eth0", "pod37a8eec1ce1"}


def test_without_a_record_the_source_is_asked_for_nothing_unless_the_runtime_remembers_the_add(node):
    node.run("")
    node.define("cluster", node.bridge("cluster", "cni0", "10.244.0.0/24"))
    keys = {"clusterNetwork": "cluster", "multusNamespace": "default"}
    result = node.add(conf=keys)
    node.record.unlink()

    node.delete(conf=keys | {"manifests": "/nowhere"})

    assert "eth0" in links(node.sandbox.path)
    node.delete(conf=keys | {"prevResult": convert.encode(result, versions.CURRENT)})
    clean(node)


def test_without_a_record_and_without_a_configuration_delete_succeeds(node):
    node.delete(conf={"delegates": "nonsense"})


def test_an_add_that_failed_leaves_nothing_for_the_delete_that_follows(node):
    node.define("broken", {"type": "nope"})
    node.run([{"name": "broken"}])
    before = node.state()
    with pytest.raises(CNIError):
        node.add()

    node.delete()

    after = node.state()
    after.pop("bridge addresses"), before.pop("bridge addresses")
    assert after == before
    assert read(node.sandbox.path, "ip", "-json", "route") == []
