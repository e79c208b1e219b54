"""What a pod asks of an attachment: plugins that serve it, plugins that do not, and none that is silently dropped."""

from __future__ import annotations

import json

import pytest
from plexus_node import MAC, Node, links, read

from cni.spec.errors import UnsupportedField

OTHER_MAC = "02:00:00:00:00:99"
PLUGIN = """\
#!/bin/sh
echo "$CNI_COMMAND" >> {log}
inside="nsenter --net=$CNI_NETNS ip link"
asked=$(echo "$CNI_ARGS" | tr ';' '\\n' | sed -n s/^MAC=//p)
case $CNI_COMMAND in
DEL) $inside del "$CNI_IFNAME" 2>/dev/null; exit 0 ;;
ADD) {make}
esac
echo '{result}'
"""
MAKE = '$inside add "$CNI_IFNAME" type bridge; $inside set "$CNI_IFNAME" address '


@pytest.fixture
def node(host, sandbox, tmp_path):
    made = Node(host, sandbox, tmp_path)
    (tmp_path / "bin").mkdir()
    return made


def install(node, *, mac="", interface=None, ips=()):
    """A plugin that gives the interface it makes this MAC, and answers what it is told to."""
    result = {"cniVersion": "1.0.0", "ips": [{"address": ip} for ip in ips]}
    if interface is not None:
        result["interfaces"] = [{"name": "net1", "sandbox": node.sandbox.path} | interface]
    path = node.directory / "bin" / "other"
    make = f"{MAKE}{mac}" if mac else ""
    path.write_text(PLUGIN.format(make=make, result=json.dumps(result), log=node.directory / "calls"))
    path.chmod(0o755)
    node.define("a", {"cniVersion": "1.0.0", "name": "a", "type": "other"})


def calls(node):
    return (node.directory / "calls").read_text().split()


def refused(node):
    """What is told of a request that nobody serves; nothing is left but the cluster's bridge."""
    before = node.state()
    with pytest.raises(UnsupportedField) as caught:
        node.add()
    after = node.state()
    after.pop("bridge addresses"), before.pop("bridge addresses")
    assert after == before
    return caught.value


def test_a_plugin_that_reads_the_mac_in_its_arguments_needs_no_capability(node):
    install(node, mac='"$asked"')
    node.run([{"name": "a", "mac": MAC}])

    node.add()

    assert read(node.sandbox.path, "ip", "-json", "link", "show", "net1")[0]["address"] == MAC


def test_a_plugin_that_gives_another_mac_than_the_pods_fails_the_add_and_is_undone(node):
    install(node, mac=OTHER_MAC)
    node.run([{"name": "a", "mac": MAC}])

    error = refused(node)

    assert error.id == "PLX-NOT-SERVED"
    assert error.msg.startswith('pod "default/vm", network "default/a", interface "net1": ')
    assert f"the MAC {MAC} was asked for, and it has {OTHER_MAC}" in error.details
    assert calls(node) == ["ADD", "DEL"]
    assert links(node.sandbox.path) == ["lo"]


def test_what_the_kernel_says_counts_more_than_the_result(node):
    install(node, mac='"$asked"', interface={"mac": OTHER_MAC})
    node.run([{"name": "a", "mac": MAC}])

    node.add()


def test_the_result_counts_where_the_sandbox_has_no_such_interface(node):
    install(node, interface={"mac": OTHER_MAC})
    node.run([{"name": "a", "mac": MAC}])

    assert f"it has {OTHER_MAC}" in refused(node).details


def test_a_mac_that_nobody_can_see_is_believed(node):
    install(node, interface={})
    node.run([{"name": "a", "mac": MAC}])

    node.add()


def test_a_plugin_that_gives_other_addresses_than_the_pods_fails_the_add(node):
    install(node, ips=["10.0.0.9/24"])
    node.run([{"name": "a", "ips": ["10.0.0.5/24", "2001:db8::5"]}])

    error = refused(node)

    assert "10.0.0.5/24, 2001:db8::5 was asked for, and it has 10.0.0.9" in error.details


def test_addresses_are_the_same_with_any_prefix_length_and_in_any_form(node):
    install(node, ips=["10.0.0.5/16", "2001:db8::5/64"])
    node.run([{"name": "a", "ips": ["10.0.0.5", "2001:DB8:0::5/128"]}])

    node.add()


@pytest.mark.parametrize(
    ("network", "asked", "told"),
    [
        ({"type": "bridge", "bridge": "br9"}, {"ips": ["10.0.0.5/24"]}, "it gives no addresses: add an `ipam`"),
        ({"type": "veth", "ipam": {"type": "static"}}, {"mac": MAC}, 'add "capabilities": {"mac": true}'),
        ({"type": "passthru"}, {"mac": MAC}, 'add "capabilities": {"mac": true}'),
    ],
)
def test_what_a_built_in_plugin_does_not_serve_is_refused_before_anything_is_made(node, network, asked, told):
    node.define("a", {"cniVersion": "1.0.0", "name": "a"} | network)
    node.run([{"name": "a"} | asked])

    error = refused(node)

    assert error.id == "PLX-CAPABILITY"
    assert told in error.details


def test_a_built_in_bridge_serves_mac_and_addresses_without_a_capability(node):
    node.define("a", node.bridge("a", "br9", "10.9.0.0/24"))
    node.run([{"name": "a", "mac": MAC, "ips": ["10.9.0.77"]}])

    node.add()

    (link,) = read(node.sandbox.path, "ip", "-json", "address", "show", "net1")
    assert link["address"] == MAC
    assert [entry["local"] for entry in link["addr_info"] if entry["family"] == "inet"] == ["10.9.0.77"]


EXECUTED = {"external": ["bridge", "ptp", "host-local", "static"]}
HOST_LOCAL = {"type": "host-local", "subnet": "10.9.0.0/24"}


@pytest.mark.parametrize(
    ("ipam", "asked"),
    [(HOST_LOCAL, "10.9.0.77"), (HOST_LOCAL, "10.9.0.77/24"), ({"type": "static"}, "10.9.0.77/24")],
)
def test_the_reference_plugins_serve_mac_and_addresses_without_a_capability(node, reference, ipam, asked):
    keys = EXECUTED | {"binDir": reference("bridge")}
    ipam = ipam | ({"dataDir": str(node.directory / "leases")} if ipam["type"] == "host-local" else {})
    node.define("a", {"cniVersion": "1.0.0", "name": "a", "type": "bridge", "bridge": "br9", "ipam": ipam})
    node.run([{"name": "a", "mac": MAC, "ips": [asked]}])

    node.add(conf=keys)

    (link,) = read(node.sandbox.path, "ip", "-json", "address", "show", "net1")
    assert link["address"] == MAC
    assert [entry["local"] for entry in link["addr_info"] if entry["family"] == "inet"] == ["10.9.0.77"]
    node.delete(conf=keys)
    assert links(node.sandbox.path) == ["lo"]


def test_a_reference_plugin_that_ignores_the_mac_is_told(node, reference):
    node.define(
        "a",
        {
            "cniVersion": "1.0.0",
            "name": "a",
            "type": "ptp",
            "ipam": {"type": "static", "addresses": [{"address": "10.9.0.5/24", "gateway": "10.9.0.1"}]},
        },
    )
    node.run([{"name": "a", "mac": MAC}])

    with pytest.raises(UnsupportedField, match=f"the MAC {MAC} was asked for, and it has"):
        node.add(conf=EXECUTED | {"binDir": reference("ptp")})
    assert links(node.sandbox.path) == ["lo"]
