"""The meta plugin over real bridges: all of a pod's networks or none, and a DEL that needs nothing but its record."""

from __future__ import annotations

import itertools
import json
import subprocess

import pytest
from plexus_node import KUBEVIRT, MAC, Node, links, read, rules

from cni.linux import kernel, netns
from cni.meta import plugin
from cni.plugin import files
from cni.spec.errors import CheckFailed, CNIError, DeleteIncomplete, InvalidConfiguration, KernelFailure


@pytest.fixture
def node(host, sandbox, tmp_path):
    made = Node(host, sandbox, tmp_path)
    made.run(KUBEVIRT)
    return made


def test_a_pod_gets_the_cluster_network_and_the_one_it_asks_for(node):
    result = node.add()

    assert [str(ip.address) for ip in result.ips] == ["10.244.0.2/24"]
    inside = {link["ifname"]: link for link in read(node.sandbox.path, "ip", "-json", "address")}
    assert inside.keys() == {"lo", "eth0", "pod37a8eec1ce1"}
    assert inside["pod37a8eec1ce1"]["address"] == MAC
    assert inside["pod37a8eec1ce1"]["addr_info"][0]["local"] == "192.168.100.2"
    assert [(status["name"], status["interface"], status["ips"]) for status in node.status] == [
        ("cluster", "eth0", ["10.244.0.2"]),
        ("default/multus-br", "pod37a8eec1ce1", ["192.168.100.2"]),
    ]
    assert [status.get("default") for status in node.status] == [True, None]
    node.check()


def test_delete_leaves_nothing_and_may_come_twice(node):
    before = node.state()
    node.add()

    node.delete()
    after = node.state()
    node.delete(netns="")

    after.pop("bridge addresses"), before.pop("bridge addresses")  # the cluster's gateway stays
    assert after == before


def test_an_add_that_fails_at_any_change_leaves_everything_as_it_was(node, monkeypatch):
    node.add()  # so that the bridges, which are shared and stay, are there
    node.delete()
    before = node.state()
    real = {module: module.change for module in (kernel, files)}
    for step in itertools.count(1):
        countdown = itertools.count(1)
        failed = []

        def change(module, what, call, *args, step=step, countdown=countdown, failed=failed, **kwargs):
            if next(countdown) == step:
                failed.append(what)
                raise KernelFailure(f"could not {what}", "this is a test")
            return real[module](what, call, *args, **kwargs)

        for module in real:
            monkeypatch.setattr(
                module, "change", lambda *args, module=module, **kwargs: change(module, *args, **kwargs)
            )
        try:
            node.add(container_id=f"c{step}")
        except CNIError:
            assert failed, "the ADD failed by itself"
            monkeypatch.undo()
            assert node.state() == before, f"after a failure to {failed[0]}"
            continue
        finally:
            monkeypatch.undo()
        if not failed:
            break
        node.delete(container_id=f"c{step}")  # some changes may fail without harm
    assert step > 20
    node.delete(container_id=f"c{step}")
    assert node.state() == before


BROKEN_NETWORKS = {
    "a plugin that does not exist": ({"type": "nope"}, 'failed to find plugin "nope"'),
    "a path instead of a plugin": ({"type": "../../bin/sh"}, "invalid plugin name"),
    "the meta plugin itself": ({"type": "plexus"}, "cannot be its own delegate"),
    "a bad range": ({"ipam": {"type": "host-local", "subnet": "10.0.0.0/99"}}, "invalid CIDR address: 10.0.0.0/99"),
    "a bad VLAN": ({"vlan": 5000}, "5000"),
    "a value of the wrong type": ({"mtu": "9000"}, "'9000'"),
    "an unknown version": ({"cniVersion": "9.9.9"}, "9.9.9"),
}


@pytest.mark.parametrize(("changes", "told"), BROKEN_NETWORKS.values(), ids=BROKEN_NETWORKS)
def test_when_one_network_fails_no_other_is_left_behind(node, changes, told):
    node.define("broken", node.bridge("broken", "multus-bridge", "10.9.0.0/24") | changes)
    node.run([*KUBEVIRT, {"name": "broken"}])
    before = node.state()

    with pytest.raises(CNIError) as caught:
        node.add()

    assert told in str(caught.value)
    assert '"default/broken"' in str(caught.value)
    assert caught.value.code != 999
    after = node.state()
    after.pop("bridge addresses"), before.pop("bridge addresses")
    assert after == before


def test_an_interface_name_that_is_taken_is_told_before_anything_is_made(node):
    subprocess.run(
        ["nsenter", f"--net={node.sandbox.path}", "ip", "link", "add", "pod37a8eec1ce1", "type", "bridge"], check=True
    )
    before = node.state()

    with pytest.raises(InvalidConfiguration, match='"pod37a8eec1ce1" for network "default/multus-br"'):
        node.add()

    assert node.state() == before


def test_a_second_add_is_refused_and_harms_nothing(node):
    node.add()
    before = node.state()

    with pytest.raises(InvalidConfiguration, match="attached already"):
        node.add()

    assert node.state() == before
    node.check()


def test_delete_needs_neither_pod_nor_definition_nor_todays_configuration(node):
    before = node.state()
    node.add()
    for path in node.manifests.iterdir():
        path.unlink()

    node.delete(conf={"delegates": "nonsense", "manifests": 5, "binDir": []})

    assert node.state()["files"] == before["files"]
    assert node.state()["host links"] == before["host links"]
    assert node.state()["rules"] == []


@pytest.mark.parametrize("path", ["", "/run/netns/gone", "/etc/passwd"])
def test_delete_frees_everything_when_the_sandbox_is_gone(node, path):
    node.add()
    subprocess.run(["ip", "netns", "delete", node.sandbox.name], check=True)

    node.delete(netns=path)

    assert [name for name in links(node.host.path) if name.startswith("veth")] == []
    assert rules(node.host.path) == []
    assert node.state_files() == []


def test_delete_finds_an_interface_that_kubevirt_has_renamed(node):
    node.add()
    inside = ["nsenter", f"--net={node.sandbox.path}", "ip", "link"]
    for change in (
        ["set", "pod37a8eec1ce1", "down"],
        ["set", "pod37a8eec1ce1", "name", "pod37a8eec1-nic", "address", "02:00:00:00:00:77"],
        ["add", "k6t-37a8eec1ce1", "type", "bridge"],
        ["set", "pod37a8eec1-nic", "master", "k6t-37a8eec1ce1"],
    ):
        subprocess.run([*inside, *change], check=True)

    with pytest.raises(CheckFailed, match="expected 02:00:00:00:00:05, found 02:00:00:00:00:77"):
        node.check()
    node.delete()

    assert sorted(links(node.sandbox.path)) == ["k6t-37a8eec1ce1", "lo"]
    assert node.state_files() == []


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"format": 0}', b"\xff\xfe", b'{"format": 1, "entries": [{}]}'])
def test_a_damaged_record_does_not_stop_delete(node, damage):
    node.add()
    node.record.write_bytes(damage)

    node.delete()

    assert [name for name in links(node.host.path) if name.startswith("veth")] == []
    assert [path.name for path in node.state_files()] == ["c1@eth0.damaged"]
    assert rules(node.host.path) == []


@pytest.mark.parametrize("result", [{}, {"cniVersion": "9"}, {"cniVersion": "1.1.0", "ips": [{}]}, {"ips": 5}])
def test_a_recorded_result_that_is_none_does_not_stop_delete(node, result):
    node.add()
    record = json.loads(node.record.read_text())
    for entry in record["entries"]:
        entry["result"] = result
    node.record.write_text(json.dumps(record))

    node.delete()

    assert [name for name in links(node.host.path) if name.startswith("veth")] == []
    assert not node.record.exists()
    assert not list((node.directory / "leases").glob("*/1*"))


def test_a_damaged_record_of_an_unknown_pod_is_told_once(node):
    node.add()
    node.record.write_bytes(b"")
    (node.manifests / "pod.json").unlink()

    with pytest.raises(DeleteIncomplete) as caught:
        node.delete()
    node.delete()

    assert '"c1"' in caught.value.msg
    assert "c1@eth0.damaged" in caught.value.details
    assert not (node.directory / "leases" / "cluster" / "10.244.0.2").exists()


def test_the_pods_default_route_goes_where_it_says(node):
    node.define("extra", node.bridge("extra", "multus-two", "10.8.0.0/24", isDefaultGateway=True))
    node.run([{"name": "multus-br", "default-route": ["192.168.100.1"]}, {"name": "extra"}])

    result = node.add()

    defaults = read(node.sandbox.path, "ip", "-json", "route", "show", "default")
    assert [(route["gateway"], route["dev"]) for route in defaults] == [("192.168.100.1", "net1")]
    assert result.routes == ()
    assert [status.get("gateway") for status in node.status] == [None, ["192.168.100.1"], None]
    node.check()


def test_an_empty_default_route_keeps_what_the_network_makes(node):
    node.define("extra", node.bridge("extra", "multus-two", "10.8.0.0/24", isDefaultGateway=True))
    node.run([{"name": "extra", "default-route": []}])

    node.add()

    defaults = read(node.sandbox.path, "ip", "-json", "route", "show", "default")
    assert [(route["gateway"], route["dev"]) for route in defaults] == [("10.8.0.1", "net1")]


def test_gc_deletes_what_no_valid_attachment_holds_and_nothing_else(node):
    node.add()
    before = node.state()
    node.add(container_id="c2", netns=node.sandbox.path, ifname="eth5", args="")

    node.collect(("c1", "eth0"))

    assert node.state() == before
    node.check()
    node.collect()
    assert node.state_files() == []
    assert [name for name in links(node.host.path) if name.startswith("veth")] == []


def test_check_reaches_networks_of_versions_that_did_not_have_it(node):
    old = node.bridge("old", "multus-bridge", "10.9.0.0/24") | {"cniVersion": "0.3.1"}
    node.define("old", old)
    node.run([{"name": "old"}])
    node.add()
    node.check()

    subprocess.run(["nsenter", f"--net={node.sandbox.path}", "ip", "link", "del", "net1"], check=True)

    with pytest.raises(CheckFailed, match='network "default/old"'):
        node.check()


def test_gc_frees_leases_that_no_record_knows(node):
    node.add()
    stray = node.directory / "leases" / "multus-br" / "192.168.100.77"
    stray.write_text("dead\r\neth0")

    node.collect(("c1", "eth0"))

    assert not stray.exists()
    node.check()


def test_status_asks_the_source_and_the_cluster_network(node):
    netns.run_inside(node.host.path, lambda: plugin.status(node.request("STATUS")))

    with pytest.raises(CNIError, match="nowhere") as caught:
        netns.run_inside(node.host.path, lambda: plugin.status(node.request("STATUS", conf={"manifests": "/nowhere"})))
    assert caught.value.code == 50


def test_other_plugins_are_executed_with_the_pods_arguments(node, tmp_path):
    directory = tmp_path / "bin"
    directory.mkdir()
    script = directory / "recorder"
    script.write_text(
        "#!/bin/sh\n"
        f'echo "$CNI_COMMAND $CNI_IFNAME $CNI_ARGS $(cat)" >> {tmp_path}/calls\n'
        '[ "$CNI_COMMAND" = ADD ] && echo \'{"cniVersion": "1.0.0", "ips": [{"address": "10.5.0.2/24"}]}\'\n'
        "exit 0\n"
    )
    script.chmod(0o755)
    node.define("recorded", {"cniVersion": "1.0.0", "name": "rec", "type": "recorder", "capabilities": {"mac": True}})
    node.run([{"name": "recorded", "mac": MAC}])

    node.add()
    node.delete()

    first, second = (tmp_path / "calls").read_text().splitlines()
    common = f"net1 IgnoreUnknown=true;K8S_POD_NAMESPACE=default;K8S_POD_NAME=vm;MAC={MAC} "
    assert first.startswith(f"ADD {common}")
    assert second.startswith(f"DEL {common}")
    stdin = json.loads(first.removeprefix(f"ADD {common}"))
    assert stdin == {"cniVersion": "1.0.0", "name": "rec", "type": "recorder", "runtimeConfig": {"mac": MAC}}
    assert json.loads(second.removeprefix(f"DEL {common}"))["prevResult"]["ips"] == [{"address": "10.5.0.2/24"}]
