"""Upgrade and way back with containers running: the reference plugins undo what ours did, and ours what they did."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from machine import Runtime
from reference_plugins import Reference, knows_nftables

from cni.spec import convert
from cni.spec.result import Result

V4, V6 = "10.1.2.0/24", "fd00:1::/64"


def attachments() -> list[tuple[str, tuple[str, ...], dict[str, Any]]]:
    """Delegate, subnets, other keys: what the reference plugins that are here can do."""
    masquerade = {"ipMasq": True, "ipMasqBackend": "nftables"}
    known = [
        ("bridge", (V4,), {}),
        ("bridge", (V4, V6), {"isDefaultGateway": True}),
        ("bridge", (V4,), {"hairpinMode": True, "macspoofchk": True, "mtu": 1400}),
        ("ptp", (V4,), {"mtu": 1400}),
        ("ptp", (V4, V6), {}),
    ]
    newer = [("bridge", (V4, V6), {"isGateway": True} | masquerade), ("ptp", (V4,), masquerade)]
    return known + (newer if knows_nftables() else [])


@pytest.fixture(params=attachments(), ids=str)
def case(
    request: pytest.FixtureRequest, bridge: Runtime, veth: Runtime, reference: Callable[[str], str]
) -> tuple[Runtime, Reference, dict[str, Any]]:
    kind, subnets, keys = request.param
    runtime = {"bridge": bridge, "ptp": veth}[kind]
    runtime.kind = kind
    conf = runtime.conf(cniVersion="1.0.0", **keys, ipam=runtime.ipam(*subnets))
    return runtime, Reference(runtime, reference(kind)), conf


def test_the_reference_deletes_what_we_added(case: tuple[Runtime, Reference, dict[str, Any]]):
    ours, theirs, conf = case
    ours.add(conf)

    theirs.call("DEL", conf)

    assert_nothing_is_left(ours)
    ours.delete(conf)


def test_we_delete_what_the_reference_added(case: tuple[Runtime, Reference, dict[str, Any]]):
    ours, theirs, conf = case
    theirs.add(conf)

    ours.delete(conf)

    assert_nothing_is_left(ours)
    theirs.call("DEL", conf)


def test_the_reference_finds_right_what_we_added(case: tuple[Runtime, Reference, dict[str, Any]]):
    ours, theirs, conf = case
    result = ours.add(conf)

    theirs.call("CHECK", conf | {"prevResult": convert.encode(result, "1.0.0")})


def test_we_find_right_what_the_reference_added(case: tuple[Runtime, Reference, dict[str, Any]]):
    ours, theirs, conf = case
    result = theirs.add(conf)

    ours.check(conf, result)


def test_both_add_the_same(case: tuple[Runtime, Reference, dict[str, Any]]):
    """The same result and the same state of both namespaces, but for names, MACs, and what §10 calls defects."""
    ours, theirs, conf = case
    expected = comparable(theirs.add(conf), ours)
    theirs.call("DEL", conf)
    for name in ours.data_dir.glob("*/last_reserved_ip.*"):
        name.unlink()
    ours.host.run("sh", "-c", "ip link del cni0 2>&-; nft flush ruleset; nft list ruleset")

    found = comparable(ours.add(conf), ours)

    assert found == expected


def comparable(result: Result, runtime: Runtime) -> dict[str, Any]:
    """What must not differ."""
    port = next(entry.name for entry in result.interfaces if entry.name.startswith("veth"))
    names = {port: "PORT"}
    encoded = convert.encode(result, "0.4.0")
    for interface in encoded["interfaces"]:
        interface["name"] = names.get(interface["name"], interface["name"])
        del interface["mac"]
    rules = [
        {"chain": rule["chain"], "comment": rule.get("comment"), "expr": json.dumps(rule["expr"])}
        for entry in runtime.host.nft()
        if (rule := entry.get("rule"))
    ]
    macs = {link["address"] for link in runtime.sandbox.ip_json("link")}
    for rule in rules:
        for text, name in (names | dict.fromkeys(macs, "MAC")).items():
            rule["expr"] = rule["expr"].replace(text, name)
    return {
        "result": encoded,
        "host": placed(runtime.host.routes(), names),
        "sandbox": placed(runtime.sandbox.routes(), names),
        "addresses": [runtime.sandbox.addresses("eth0"), runtime.host.addresses("cni0"), runtime.host.addresses(port)],
        "rules": rules,
    }


def placed(routes: list[dict[str, Any]], names: dict[str, str]) -> list[str]:
    """Routes without what differs by time."""
    kept = ("type", "dst", "gateway", "dev", "protocol", "scope", "prefsrc", "metric", "table")
    told = [{key: names.get(route[key], route[key]) for key in kept if key in route} for route in routes]
    return sorted(json.dumps(route) for route in told)


def assert_nothing_is_left(runtime: Runtime) -> None:
    assert [name for name in runtime.host.links() if name != "cni0"] == ["lo"]
    assert runtime.sandbox.links() == ["lo"]
    assert runtime.host.rules("masq_checks") == []
    assert runtime.host.state()["chains"] == []
    assert runtime.leases() == []
