"""The rows about default-route: what it makes of an attachment's routes, in the kernel and in the result."""

from __future__ import annotations

import json

import pytest
from plexus_node import read
from vectors import cases

from cni.meta import default_route
from cni.meta.plan import Planned
from cni.meta.selection import NetworkSelection
from cni.plugin.ledger import Entry
from cni.spec import convert
from cni.spec.errors import CNIError

ROWS = [pytest.param(row, id=row["id"]) for row in cases.load("multus_gateway")]
NAMES = {
    4: {
        "default": "0.0.0.0/0",
        "far": "10.99.0.0/16",
        "gw": "10.0.0.1",
        "gw2": "10.0.0.2",
        "own": "10.0.0.9/24",
        "other": "fd00::1",
    },
    6: {
        "default": "::/0",
        "far": "fd99::/64",
        "gw": "fd00::1",
        "gw2": "fd00::2",
        "own": "fd00::9/64",
        "other": "10.0.0.1",
    },
}


def _written(row, family):
    """The row with the names of one family."""
    text = json.dumps(row)
    for name, value in NAMES[family].items():
        text = text.replace(f"{{{name}}}", value)
    return json.loads(text)


def _planned(ifname, asks):
    wanted = NetworkSelection(name=ifname, default_route=None if asks is None else tuple(asks))
    return Planned(Entry(network=ifname, conf="{}", ifname=ifname), wanted)


def _result(given, family):
    if given["version"] == "0.2.0":
        data = {f"ip{family}": {"ip": NAMES[family]["own"], "routes": given["routes"]}}
    else:
        data = {"ips": [{"address": NAMES[family]["own"]}], "routes": given["routes"]}
    return convert.decode({"cniVersion": given["version"]} | data, given["version"])


def _routes(sandbox, family):
    """The routes that are not the kernel's own, as `ip` is told of them."""
    found = read(sandbox.path, "ip", "-json", f"-{family}", "route", "show", "table", "all")
    made = [route for route in found if route.get("gateway")]
    return sorted(_text(route, family) for route in made)


def _text(route, family):
    dst = NAMES[family]["default"] if route["dst"] == "default" else route["dst"]
    table = f" table {route['table']}" if "table" in route else ""
    return f"{dst} via {route['gateway']}{table}"


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("row", ROWS)
def test_the_routes_are_what_the_row_says_in_the_kernel_and_in_the_result(row, family, sandbox):
    row = _written(row, family)
    given, expected = row["given"], row["expected"]
    if "error" in expected:
        with pytest.raises(CNIError, match=expected["error"]):
            _result(given, family)
        return
    sandbox.ip("link add net1 type bridge")
    sandbox.ip("link set net1 up")
    sandbox.ip(f"addr add {NAMES[family]['own']} dev net1" + (" nodad" if family == 6 else ""))
    for route in given["kernel"]:
        sandbox.ip(f"-{family} route add {route} dev net1")
    this, other = _planned("net1", given["asks"]), _planned("net2", given["others"])

    result = default_route.apply(sandbox.path, this, [this, other], _result(given, family))

    assert _routes(sandbox, family) == sorted(expected["kernel"])
    encoded = convert.encode(result, given["version"])
    routes = encoded[f"ip{family}"].get("routes", []) if given["version"] == "0.2.0" else encoded.get("routes", [])
    assert routes == expected["routes"]
