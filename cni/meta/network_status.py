"""network-status: what a pod was attached to, for whoever reads its annotations (NPWG standard, section 5)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cni.plugin.ledger import Entry, Record
from cni.spec import convert, document
from cni.spec.result import Interface, IPConfig, Result


def build(record: Record) -> str:
    """The JSON text of the list: one object per interface in the sandbox, in the order of attachment."""
    statuses = [status for entry in record.entries for status in _of_entry(entry)]
    return "[" + ",".join(convert.dump(status) for status in statuses) + "]"


def _of_entry(entry: Entry) -> Iterator[dict[str, Any]]:
    result = entry.get_result()
    if result is None:
        return
    inside = [(index, interface) for index, interface in enumerate(result.interfaces) if interface.sandbox]
    if not inside and not _makes_nothing(entry, result):
        yield _status(entry, result, Interface(name=entry.ifname), result.ips, is_default=entry.default)
    default = _default_interface(result, [index for index, _ in inside])
    last = inside[-1][0] if inside else None
    for index, interface in inside:
        ips = tuple(ip for ip in result.ips if (last if ip.interface is None else ip.interface) == index)
        yield _status(entry, result, interface, ips, is_default=entry.default and index == default)


def _makes_nothing(entry: Entry, result: Result) -> bool:
    """Whether it is a chain that makes no interface, as the auxiliary one: nobody would find what it was called."""
    conf = document.decode(entry.conf, "the recorded configuration")
    first = next(iter(document.lookup(conf, "plugins") or [conf]))
    return not result.ips and document.lookup(first, "type") == "passthru"


def _status(
    entry: Entry, result: Result, interface: Interface, ips: tuple[IPConfig, ...], *, is_default: bool
) -> dict[str, Any]:
    defaults = [route.gw or result.gateway(route.family) for route in result.routes if route.is_default]
    gateways = [str(gateway) for gateway in defaults if gateway is not None]
    status = {
        "name": entry.network,
        "interface": interface.name,
        "ips": [str(ip.address.ip) for ip in ips],
        "mac": interface.mac,
        "mtu": interface.mtu,
        "default": is_default,
    }
    present = {key: value for key, value in status.items() if value}
    described = {"device-info": entry.device_info} if entry.device_info else {}
    return present | {"dns": convert.encode_dns(result.dns)} | described | ({"gateway": gateways} if gateways else {})


def _default_interface(result: Result, inside: list[int]) -> int | None:
    """The interface that owns the first address with a gateway, else the first in the sandbox."""
    owners = [ip.interface for ip in result.ips if ip.gateway is not None and ip.interface in inside]
    return next(iter(owners + inside), None)
