"""Our `bridge` and the reference's on the same configurations: the same VLANs, and each can undo the other's."""

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from machine import REFERENCE, Runtime
from vlan_cases import CASES
from vlans import every_membership, filters, memberships, peer

VERSION = "1.0.0"
"""Of the specification; the reference of Debian 12 has no newer one."""
EXTERNAL = frozenset({"bridge", "host-local"})
V4 = "10.1.2.0/24"
DIFFERENCES = {
    "access VLAN named by the trunk as well": "the reference makes it tagged, and untagged frames have no VLAN",
}
"""Cases in which we do not do as the reference does, and why."""


def is_recent() -> bool:
    """Whether the reference knows `vlanTrunk` and `preserveDefaultVlan`: one that speaks CNI 1.1.0 does."""
    plugin = Path(REFERENCE, "bridge")
    if not plugin.is_file():
        return True
    environ = os.environ | {"CNI_COMMAND": "VERSION"}
    told = subprocess.run([plugin], env=environ, input=b'{"cniVersion": "1.0.0"}', capture_output=True, check=True)
    return "1.1.0" in json.loads(told.stdout)["supportedVersions"]


def known(keys: dict[str, Any]) -> bool:
    return "vlanTrunk" not in keys and "preserveDefaultVlan" in keys


NAMES = [name for name, (keys, _) in CASES.items() if is_recent() or known(keys)]


@pytest.fixture
def theirs(reference, clean_bridge: Runtime) -> Runtime:
    """A runtime that calls the reference's plugins."""
    reference("bridge")
    return replace(clean_bridge, external=EXTERNAL)


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_puts_the_port_in_the_vlans_that_we_do(name: str, theirs: Runtime):
    keys, expected = CASES[name]

    conf = theirs.conf(cniVersion=VERSION, **keys)

    result = theirs.add(conf)

    found = memberships(theirs.host, result.interfaces[1].name)
    assert filters(theirs.host)
    theirs.delete(conf)
    if name in DIFFERENCES:
        assert found != expected, f"no longer so: {DIFFERENCES[name]}"
    else:
        assert found == expected


def test_the_reference_makes_the_same_gateway(bridge: Runtime, reference, another):
    reference("bridge")
    keys = {"vlan": 100, "isDefaultGateway": True} | ({} if is_recent() else {"preserveDefaultVlan": True})
    conf = bridge.conf(cniVersion=VERSION, ipam=bridge.ipam(V4), **keys)

    ours, theirs = (state(runtime, conf) for runtime in (bridge, another("c1", apart=True, external=EXTERNAL)))

    assert ours == theirs
    assert ours["interfaces"] == ["cni0", "port", "eth0", "cni0.100"]


def state(runtime: Runtime, conf: dict[str, Any]) -> dict[str, Any]:
    """What an ADD makes of the host, with names that are random replaced."""
    result = runtime.add(conf | {"ipam": runtime.ipam(V4)})
    names = {result.interfaces[1].name: "port", peer(runtime.host, "cni0.100"): "gateway's port"}
    return {
        "interfaces": [names.get(interface.name, interface.name) for interface in result.interfaces],
        "links": sorted(names.get(name, name) for name in runtime.host.links()),
        "VLANs": every_membership(runtime.host, names),
        "addresses": [runtime.host.addresses(name) for name in ("cni0", "cni0.100")],
        "routes": runtime.sandbox.routes(),
    }


def test_what_the_reference_added_we_check_and_delete_and_it_deletes_ours(bridge: Runtime, reference, another):
    reference("bridge")
    theirs = another("theirs", external=EXTERNAL)
    keys = {"vlan": 100, "preserveDefaultVlan": True, "ipam": bridge.ipam(V4)}
    conf = bridge.conf(cniVersion=VERSION, **keys)
    made = {"ours": bridge.add(conf), "theirs": theirs.add(conf)}
    assert (
        memberships(bridge.host, made["ours"].interfaces[1].name)[100]
        == memberships(bridge.host, made["theirs"].interfaces[1].name)[100]
    )

    inside = {"container_id": "theirs", "netns": theirs.sandbox.path}
    bridge.check(conf, made["theirs"], **inside)
    bridge.delete(conf, **inside)
    theirs.delete(conf, container_id=bridge.container_id, netns=bridge.sandbox.path)

    assert bridge.host.links() == ["cni0", "lo"]
    assert bridge.leases() == []
