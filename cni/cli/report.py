"""What `plexus attach` made, for people (a table) and for programs (JSON)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from cni.cli import table
from cni.plugin.chain import Attachment
from cni.plugin.invoke import META
from cni.plugin.ledger import Ledger
from cni.spec.netconf import NetConfList, plugin_type
from cni.spec.result import Interface, Result


@dataclass(frozen=True, kw_only=True)
class Row:
    """One attachment; the fields are named as in the JSON."""

    network: str
    interface: str
    ips: list[str]
    mac: str
    mtu: int
    hostInterface: str  # noqa: N815 - a key of the JSON
    bridge: str
    default: bool


HEADINGS = ("NETWORK", "INTERFACE", "IP", "MAC", "HOST VETH", "BRIDGE")


def rows(network: NetConfList, attachment: Attachment, result: Result | None) -> list[Row]:
    """One row per attachment the meta plugin recorded; where it is not in the chain, one for the result.

    Raises DamagedRecord, IOFailure.
    """
    ledger = find_ledger(network)
    record = ledger.find(attachment.container_id, attachment.ifname) if ledger else None
    if record is None:
        return [_row(network.name, attachment.ifname, result or Result(), default=True)]
    return [
        _row(entry.network, entry.ifname, entry.get_result() or Result(), default=entry.default)
        for entry in record.entries
    ]


def find_ledger(network: NetConfList) -> Ledger | None:
    """Where the meta plugin of the chain records what it attaches; None when there is none in it.

    Raises InvalidConfiguration.
    """
    from cni.meta.config import MetaConf
    from cni.spec import model

    for plugin in network.plugins:
        if plugin_type(plugin) in META:
            conf = model.parse(MetaConf, plugin, f'the configuration of network "{network.name}"')
            return Ledger(conf.ledger_directory)
    return None


def as_json(made: list[Row]) -> str:
    """The rows as a list of objects."""
    return json.dumps([asdict(row) for row in made], indent=4, ensure_ascii=False)


def as_table(made: list[Row]) -> str:
    """A heading, and the rows below it in columns."""
    return "\n".join(table.lines(HEADINGS, [_cells(row) for row in made]))


def _cells(row: Row) -> tuple[str, ...]:
    return row.network, row.interface, ",".join(row.ips), row.mac, row.hostInterface, row.bridge


def _row(network: str, ifname: str, result: Result, *, default: bool) -> Row:
    own = _index_in_sandbox(result, ifname)
    made = Interface(name=ifname) if own is None else result.interfaces[own]
    bridge, host = _on_host(result)
    return Row(
        network=network,
        interface=made.name,
        ips=[str(ip.address) for ip in result.ips if ip.interface in (None, own)],
        mac=made.mac,
        mtu=made.mtu,
        hostInterface=host,
        bridge=bridge,
        default=default,
    )


def _index_in_sandbox(result: Result, ifname: str) -> int | None:
    """The index of the container's interface: of that name, or else the first in a sandbox."""
    inside = [index for index, interface in enumerate(result.interfaces) if interface.sandbox]
    named = [index for index in inside if result.interfaces[index].name == ifname]
    return next(iter(named + inside), None)


def _on_host(result: Result) -> tuple[str, str]:
    """The names of the bridge and of the host's end: a result lists them in this order, before the container's.

    There is no bridge where only one comes before it.
    """
    before = []
    for interface in result.interfaces:
        if interface.sandbox:
            break
        before.append(interface.name)
    bridge = before[0] if len(before) > 1 else ""
    return bridge, before[-1] if before else ""
