"""Gateways, default routes and the places in a chain's result."""

from typing import Any

import pytest

from cni.spec import model
from cni.spec.errors import InvalidConfiguration
from cni.spec.result import Result
from delegates import addressing


def leases(*ips: str | dict[str, str], routes: list[dict[str, Any]] | None = None) -> Result:
    given = [ip if isinstance(ip, dict) else {"address": ip} for ip in ips]
    return model.parse(Result, {"ips": given, "routes": routes or []}, "a result")


GATEWAYS = [
    ("10.1.2.7/24", "10.1.2.1"),
    ("2001:db8::7/64", "2001:db8::1"),
    ("10.1.2.7/30", "10.1.2.5"),
]


@pytest.mark.parametrize(("address", "gateway"), GATEWAYS)
def test_the_gateway_is_the_subnets_first_address(address: str, gateway: str):
    assert str(addressing.with_gateways(leases(address)).ips[0].gateway) == gateway


def test_the_gateway_that_ipam_named_stays():
    given = leases({"address": "10.1.2.7/24", "gateway": "10.1.2.99"})

    assert addressing.with_gateways(given) == given


@pytest.mark.parametrize("address", ["255.255.255.255/32", "10.0.0.1/32", "fd00::1/128"])
def test_a_subnet_of_one_address_has_no_gateway(address: str):
    with pytest.raises(InvalidConfiguration) as caught:
        addressing.with_gateways(leases(address))

    assert caught.value.id == "PLX-GATEWAY"


V4 = {"address": "10.1.2.7/24", "gateway": "10.1.2.1"}
V6 = {"address": "fd00::7/64", "gateway": "fd00::1"}
DEFAULTS: list[tuple[list[dict[str, str]], list[dict[str, Any]], list[tuple[str, str | None]]]] = [
    ([V4], [], [("0.0.0.0/0", "10.1.2.1")]),
    ([V4, V6], [], [("0.0.0.0/0", "10.1.2.1"), ("::/0", "fd00::1")]),
    ([V4], [{"dst": "0.0.0.0/0", "gw": "10.1.2.9"}], [("0.0.0.0/0", "10.1.2.9")]),
    ([V4], [{"dst": "0.0.0.0/0"}], [("0.0.0.0/0", "10.1.2.1")]),
    ([V4, V6], [{"dst": "::/0"}], [("::/0", "fd00::1"), ("0.0.0.0/0", "10.1.2.1")]),
    ([V4], [{"dst": "0.0.0.0/0", "table": 100}], [("0.0.0.0/0", None), ("0.0.0.0/0", "10.1.2.1")]),
    ([V4], [{"dst": "10.0.0.0/8"}], [("10.0.0.0/8", None), ("0.0.0.0/0", "10.1.2.1")]),
]


@pytest.mark.parametrize(("ips", "routes", "expected"), DEFAULTS)
def test_each_family_has_one_default_route(
    ips: list[dict[str, str]], routes: list[dict[str, Any]], expected: list[tuple[str, str | None]]
):
    found = addressing.with_default_routes(leases(*ips, routes=routes)).routes

    assert [(str(route.dst), str(route.gw) if route.gw else None) for route in found] == expected


ROUTES: list[tuple[dict[str, Any], str | None]] = [
    ({"dst": "10.9.0.0/16"}, "10.1.2.1"),
    ({"dst": "10.9.0.0/16", "gw": "10.1.2.9"}, "10.1.2.9"),
    ({"dst": "10.9.0.0/16", "scope": 0}, "10.1.2.1"),
    ({"dst": "10.9.0.0/16", "scope": 253}, None),
    ({"dst": "10.9.0.0/16", "scope": 254}, None),
    ({"dst": "10.9.0.0/16", "scope": 253, "gw": "10.1.2.9"}, "10.1.2.9"),
    ({"dst": "fd00:9::/48"}, "fd00::1"),
]


@pytest.mark.parametrize(("route", "gateway"), ROUTES)
def test_a_route_leads_to_its_familys_gateway_unless_it_says_otherwise(route: dict[str, Any], gateway: str | None):
    [planned] = addressing.planned_routes(leases(V4, V6, routes=[route]))

    assert (str(planned.gateway) if planned.gateway else None) == gateway


def test_what_a_route_says_of_itself_is_kept():
    route = {"dst": "10.9.1.1/16", "mtu": 1300, "advmss": 1200, "priority": 5, "table": 7, "scope": 0}

    [planned] = addressing.planned_routes(leases(V4, routes=[route]))

    assert str(planned.dst) == "10.9.0.0/16"
    assert (planned.mtu, planned.advmss, planned.priority, planned.table, planned.scope) == (1300, 1200, 5, 7, 0)


def test_gateways_are_told_once_with_their_subnets_prefix():
    twice = leases(V4, {"address": "10.1.2.8/24", "gateway": "10.1.2.1"}, V6)

    assert [str(found) for found in addressing.gateway_addresses(twice)] == ["10.1.2.1/24", "fd00::1/64"]


def test_indices_move_on_past_what_earlier_plugins_made():
    earlier = model.parse(
        Result,
        {"interfaces": [{"name": "a"}, {"name": "b"}], "ips": [{"address": "192.0.2.1/24", "interface": 1}]},
        "a result",
    )
    ours = addressing.on_interface(leases(V4), 2).replace(interfaces=earlier.interfaces)

    found = addressing.after(earlier, ours)

    assert [ip.interface for ip in found.ips] == [1, 4]
    assert len(found.interfaces) == 4
    assert addressing.after(None, ours) is ours
