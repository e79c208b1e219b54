"""Results on the wire: JSON of any version of the specification, to and from the newest shape.

The order of keys, the indent and the escaping are those of the reference plugins, so that outputs can be compared.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cni.spec import document, model, versions
from cni.spec.errors import DecodingFailure
from cni.spec.result import DNS, Interface, IPConfig, Result, Route

ONE_IP_PER_FAMILY = ("0.1.0", "0.2.0")
IP_WITH_VERSION = ("0.3.0", "0.3.1", "0.4.0")
NEWEST_SHAPE = ("1.0.0", "1.1.0")
SHAPES = (ONE_IP_PER_FAMILY, IP_WITH_VERSION, NEWEST_SHAPE)

ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def to_json(result: Result, version: str) -> str:
    """The text a plugin prints for `result` under a configuration of `version`. Raises DecodingFailure."""
    return dump(encode(result, version))


def dump(value: Mapping[str, Any]) -> str:
    """JSON as the reference plugins print it: four spaces, `<>&` escaped, no newline at the end."""
    text = json.dumps(value, indent=4, ensure_ascii=False).translate(ESCAPES)
    return text.encode("utf-8", "replace").decode()  # half of a surrogate pair, which JSON can say, is not UTF-8


def encode(result: Result, version: str) -> dict[str, Any]:
    """The JSON object for `result` in `version` ("" is 0.1.0).

    Raises DecodingFailure when that version is unknown or cannot express it.
    """
    version = version or versions.UNSTATED
    shape = _shape(version)
    if shape is NEWEST_SHAPE:
        encoded = _newest(result)
    elif shape is IP_WITH_VERSION:
        encoded = _with_ip_version(result)
    else:
        encoded = _one_ip_per_family(result)
    return {"cniVersion": version} | encoded


def decode(data: Mapping[str, Any], default_version: str, what: str = "the result") -> Result:
    """Read a result that may omit its cniVersion, which then is `default_version`.

    Raises DecodingFailure for an unknown version, InvalidField for a bad value.
    """
    version = document.lookup(data, "cniVersion") or default_version or versions.UNSTATED
    if _shape(version) is ONE_IP_PER_FAMILY:
        data = _flatten(data, what)
    return model.parse(Result, data, what)


def decode_prev_result(data: Any, conf_version: str) -> Result:
    """Read the prevResult of a configuration: its version must be of the same shape. Raises DecodingFailure."""
    conf_version = conf_version or versions.UNSTATED
    if not isinstance(data, Mapping):
        raise DecodingFailure("could not parse prevResult", f"it must be an object, not {document.kind(data)}")
    version = document.lookup(data, "cniVersion") or conf_version
    shape = _shape(conf_version)
    if version not in shape:
        raise DecodingFailure(
            f"could not parse prevResult: result type supports [{' '.join(shape)}]"
            f' but unmarshalled CNIVersion is "{version}"'
        )
    return decode(data, conf_version, "prevResult")


def _shape(version: Any) -> tuple[str, ...]:
    for shape in SHAPES:
        if version in shape:
            return shape
    raise DecodingFailure(f'unsupported CNI result version "{version}"', f"known are {', '.join(versions.SUPPORTED)}")


def _newest(result: Result) -> dict[str, Any]:
    return _drop_empty(
        {
            "dns": _sorted(encode_dns(result.dns)),
            "interfaces": [_sorted(_interface(interface)) for interface in result.interfaces],
            "ips": [_sorted(_ip(ip)) for ip in result.ips],
            "routes": [_sorted(_route(route)) for route in result.routes],
        }
    )


def _with_ip_version(result: Result) -> dict[str, Any]:
    lists = {
        "interfaces": [_legacy_interface(interface) for interface in result.interfaces],
        "ips": [{"version": str(ip.address.version)} | _ip(ip) for ip in result.ips],
        "routes": [_route(route) for route in result.routes],
    }
    return _drop_empty(lists) | {"dns": encode_dns(result.dns)}


def _one_ip_per_family(result: Result) -> dict[str, Any]:
    if not result.ips:
        raise DecodingFailure(
            "cannot convert: no valid IP addresses",
            "a result of CNI 0.1.0 or 0.2.0 needs one; write a newer cniVersion in the network configuration",
        )
    encoded: dict[str, Any] = {}
    for family in (4, 6):
        for ip in result.addresses(family)[:1]:
            routes = [_legacy_route(route) for route in result.routes if route.family == family]
            encoded[f"ip{family}"] = _drop_empty(
                {"ip": str(ip.address), "gateway": _text(ip.gateway), "routes": routes}
            )
    return encoded | {"dns": encode_dns(result.dns)}


def _interface(interface: Interface) -> dict[str, Any]:
    return _legacy_interface(interface) | _drop_empty(
        {"mtu": interface.mtu, "socketPath": interface.socket_path, "pciID": interface.pci_id}
    )


def _legacy_interface(interface: Interface) -> dict[str, Any]:
    return {"name": interface.name} | _drop_empty({"mac": interface.mac, "sandbox": interface.sandbox})


def _ip(ip: IPConfig) -> dict[str, Any]:
    encoded: dict[str, Any] = {} if ip.interface is None else {"interface": ip.interface}
    return encoded | {"address": str(ip.address)} | _drop_empty({"gateway": _text(ip.gateway)})


def _route(route: Route) -> dict[str, Any]:
    sizes = {"mtu": route.mtu, "advmss": route.advmss, "priority": route.priority}
    places = {"table": route.table, "scope": route.scope}
    return (
        _legacy_route(route) | _drop_empty(sizes) | {key: place for key, place in places.items() if place is not None}
    )


def _legacy_route(route: Route) -> dict[str, Any]:
    return {"dst": str(route.dst)} | _drop_empty({"gw": _text(route.gw)})


def encode_dns(dns: DNS) -> dict[str, Any]:
    """The JSON object for `dns`: what is empty is left out."""
    return _drop_empty(
        {
            "nameservers": list(dns.nameservers),
            "domain": dns.domain,
            "search": list(dns.search),
            "options": list(dns.options),
        }
    )


def _flatten(data: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Turn ip4 and ip6, each with its routes, into the lists of later versions. Raises InvalidField."""
    ips: list[Any] = []
    routes: list[Any] = []
    for key in ("ip4", "ip6"):
        family = document.lookup(data, key)
        if family is None:
            continue
        if not isinstance(family, Mapping):
            raise model.InvalidField(what, key, f"must be an object, not {document.kind(family)}")
        ips.append({"address": document.lookup(family, "ip"), "gateway": document.lookup(family, "gateway")})
        its_routes = document.lookup(family, "routes")
        if not isinstance(its_routes, list | None):
            raise model.InvalidField(what, f"{key}.routes", f"must be a list, not {document.kind(its_routes)}")
        routes += its_routes or []
    return {"ips": ips, "routes": routes, "dns": document.lookup(data, "dns")}


def _text(address: Any) -> str:
    return str(address) if address is not None else ""


def _drop_empty(items: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in items.items() if value}


def _sorted(items: dict[str, Any]) -> dict[str, Any]:
    return dict(sorted(items.items()))
