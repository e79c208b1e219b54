"""Masquerading with iptables: chain, comment and rules are those of the reference plugins, so that either finds them.

They have one chain for each container of a network (pkg/ip/ipmasq_iptables_linux.go), which all of its interfaces on
that network share; it goes with the last of them. Which rules are an interface's own its addresses tell.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from cni.linux import addresses as link_addresses
from cni.linux import iptables, netns
from cni.linux.iptables import POSTROUTING, Nat, Rule
from cni.linux.links import Links
from cni.plugin.rollback import Teardown
from cni.spec.errors import CNIError
from cni.spec.request import Request
from delegates import addressing, host_veth

if TYPE_CHECKING:
    from cni.spec.model import IPAddress, IPInterface

PREFIX = "CNI-"
CHAIN_LENGTH = 28
COMMENT_BYTES = 255
"""What iptables takes."""
MULTICAST = {4: "224.0.0.0/4", 6: "ff00::/8"}


def apply(request: Request, addresses: Collection[IPInterface]) -> None:
    """Masquerade what comes from these addresses: one change for each family. Raises IptablesFailure."""
    for family in addressing.FAMILIES:
        ours = [address for address in addresses if address.version == family]
        if ours:
            table = iptables.nat(family)
            what = f'masquerade IPv{family} of "{request.ifname}" of network "{request.network}"'
            table.apply(what, _lines(table, request, ours))


def remove(request: Request, addresses: Collection[IPAddress] = ()) -> None:
    """Remove the rules of the attachment's addresses, and the chain with the last. Raises CNIError for all failures."""
    chain = chain_name(request.network, request.container_id)
    tables = iptables.holding(chain)
    if not tables:
        return
    own = addresses or _recorded(request) or _configured(request)
    if not own and _has_others(request):
        return  # whose the rules are cannot be told: they go with the container's last interface
    teardown = Teardown()
    for table in tables:
        with teardown.step():
            what = f'stop masquerading IPv{table.family} of "{request.ifname}" of network "{request.network}"'
            _apply(table, what, _removal(table, chain, own))
    teardown.finish(f'could not remove the iptables rules of "{request.ifname}" on network "{request.network}"')


def collect(network: str, valid: Collection[tuple[str, str]]) -> None:
    """Remove the chains of the network's containers none of whose attachments is valid. Raises IptablesFailure."""
    kept = {chain_name(network, container_id) for container_id, _ in valid}
    for table in iptables.holding(POSTROUTING):
        entries = table.rules(POSTROUTING, about=f"-j {PREFIX}")
        dead = [rule for rule in entries if _is_networks(rule, network) and rule.target not in kept]
        chains = dict.fromkeys(rule.target for rule in dead)
        lines = [*(rule.deletion for rule in dead), *(line for chain in chains for line in _chain_deletion(chain))]
        _apply(table, f'remove the iptables rules of network "{network}" that nobody needs', lines)


def sources(request: Request) -> list[str]:
    """The addresses that the container's chain masquerades. Raises KernelFailure."""
    chain = chain_name(request.network, request.container_id)
    entries = (
        rule
        for table in iptables.holding(chain)
        if table.rules(chain, about="-j MASQUERADE")
        for rule in table.rules(POSTROUTING, about=chain)
    )
    return [str(rule.source.network_address) for rule in entries if rule.source]


def chain_name(network: str, container_id: str) -> str:
    """The chain that a container's interfaces on a network share."""
    digest = hashlib.sha512(f"{network}{container_id}".encode(errors="surrogateescape")).hexdigest()
    return f"{PREFIX}{digest}"[:CHAIN_LENGTH]


def comment(network: str, container_id: str) -> str:
    """The remark on the container's rules, cut to what fits."""
    return f'{_comment_start(network)}{container_id}"'.encode()[:COMMENT_BYTES].decode(errors="ignore")


def _comment_start(network: str) -> str:
    return f'name: "{network}" id: "'


def _is_networks(rule: Rule, network: str) -> bool:
    return rule.target.startswith(PREFIX) and rule.comment.startswith(_comment_start(network))


def _lines(table: Nat, request: Request, ours: Iterable[IPInterface]) -> list[str]:
    """Write the chain anew, since those who share it are to keep their subnets: what comes last catches everything."""
    chain = chain_name(request.network, request.container_id)
    text = comment(request.network, request.container_id).replace("\\", "\\\\").replace('"', '\\"')
    remark = f'-m comment --comment "{text}"'
    entries = table.rules(POSTROUTING, about=chain)
    others = [rule.destination for rule in table.rules(chain, about="-j ACCEPT")] if entries else []
    subnets = dict.fromkeys([*others, *(address.network for address in ours)])
    wanted = dict.fromkeys(addressing.single(address.ip).network for address in ours)
    present = {rule.source for rule in entries}
    return [
        f":{chain} - [0:0]",
        *(f"-A {chain} -d {subnet} {remark} -j ACCEPT" for subnet in subnets),
        f"-A {chain} ! -d {MULTICAST[table.family]} {remark} -j MASQUERADE",
        *(f"-A {POSTROUTING} -s {source} {remark} -j {chain}" for source in wanted if source not in present),
    ]


def _removal(table: Nat, chain: str, own: Collection[IPAddress]) -> list[str]:
    """The lines that remove the rules of these addresses, of all where there are none, and the chain with its last."""
    entries = table.rules(POSTROUTING, about=chain)
    leaving = [rule for rule in entries if not own or _is_any_in(own, rule.source)]
    staying = [rule.source.network_address for rule in entries if rule not in leaving and rule.source]
    deletions = [rule.deletion for rule in leaving]
    if not staying:
        return [*deletions, *_chain_deletion(chain)]
    subnets = [rule for rule in table.rules(chain, about="-j ACCEPT") if _is_any_in(own, rule.destination)]
    return deletions + [rule.deletion for rule in subnets if not _is_any_in(staying, rule.destination)]


def _chain_deletion(chain: str) -> list[str]:
    return [f"-F {chain}", f"-X {chain}"]


def _apply(table: Nat, what: str, lines: list[str]) -> None:
    if lines:
        table.apply(what, lines)


def _is_any_in(addresses: Iterable[IPAddress], network: iptables.Network | None) -> bool:
    return network is not None and any(address in network for address in addresses)


def _recorded(request: Request) -> list[IPAddress]:
    """The attachment's addresses by prevResult, where there is one that can be read."""
    with contextlib.suppress(CNIError):
        result = request.prev_result
        if result is not None:
            named = [index for index, made in enumerate(result.interfaces) if made.name == request.ifname]
            inside = {index for index in named if result.interfaces[index].sandbox}
            return [ip.address.ip for ip in result.ips if ip.interface is None or ip.interface in inside]
    return []


def _configured(request: Request) -> list[IPAddress]:
    """The addresses that the interface has, where it still is there."""

    def look() -> list[IPAddress]:
        with Links() as links:
            link = links.find(request.ifname)
            return [found.address.ip for found in link_addresses.every(links, link)] if link else []

    with contextlib.suppress(CNIError):
        return netns.run_inside(request.netns, look) if request.netns else []
    return []


def _has_others(request: Request) -> bool:
    """Whether the container has another interface on the network, as the mark on its host's end tells."""
    with Links() as host:
        start = host_veth.alias(request.replace(ifname=""))
        return any(
            link.alias.startswith(start) and link.alias != host_veth.alias(request) for link in host.every("veth")
        )
