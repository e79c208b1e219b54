"""Masquerading with nftables.

Table, chains and comments are those of the reference plugins (pkg/ip/ipmasq_nftables_linux.go), so that either finds
the other's rules. Rules are found by the hash that their comment begins with; addresses are not needed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from cni.linux import nft
from cni.linux.nft import Chain, Command, Rule
from cni.spec.request import Request

if TYPE_CHECKING:
    from cni.spec.model import IPInterface

TABLE = "cni_plugins_masquerade"
CHECKS = Chain("inet", TABLE, "masq_checks")
POSTROUTING = Chain("inet", TABLE, "postrouting")
TABLE_COMMENT = "Masquerading for plugins from github.com/containernetworking/plugins"
CHECKS_COMMENT = "Masquerade traffic from certain IPs to any (non-multicast) IP outside their subnet"
SRCNAT = 100
MULTICAST = {"ip": ("224.0.0.0", 4), "ip6": ("ff00::", 8)}
COMMENT_BYTES = 128
"""What the kernel keeps of a rule's comment."""


def apply(request: Request, addresses: Iterable[IPInterface]) -> None:
    """Masquerade what comes from these addresses, instead of any the attachment had before. Raises NftFailure."""
    stale = removal(nft.about(mark(request), CHECKS), request)
    added = [_checking_rule(request, address) for address in addresses]
    nft.apply(f'masquerade "{request.ifname}" of network "{request.network}"', [*_skeleton(), *stale, *added])


def remove(request: Request) -> None:
    """Stop masquerading the attachment. Raises NftFailure."""
    commands = removal(nft.about(mark(request), CHECKS), request)
    if commands:
        nft.apply(f'stop masquerading "{request.ifname}" of network "{request.network}"', commands)


def removal(rules: Iterable[Rule], request: Request) -> list[Command]:
    """What removes the attachment's rules from among `rules`."""
    return [rule.deletion for rule in find(rules, request)]


def garbage(rules: Iterable[Rule], network: str, valid: Collection[tuple[str, str]]) -> list[Command]:
    """What removes the network's rules of attachments, given as (container ID, ifname), that are not `valid`."""
    kept = {_instance_hash(network, ifname, container_id) for container_id, ifname in valid}
    ours = [rule for rule in rules if rule.chain == CHECKS and rule.comment.startswith(f"{_hash(network)}-")]
    return [rule.deletion for rule in ours if rule.comment.partition(",")[0] not in kept]


def mark(request: Request) -> str:
    """What the comments of the attachment's rules begin with, and no others."""
    return _instance_hash(request.network, request.ifname, request.container_id)


def find(rules: Iterable[Rule], request: Request) -> list[Rule]:
    """The attachment's rules among `rules`."""
    return [rule for rule in rules if rule.chain == CHECKS and rule.comment.startswith(mark(request))]


def sources(rules: Iterable[Rule], request: Request) -> list[str]:
    """The addresses that the attachment's rules among `rules` masquerade."""
    matches = (statement["match"] for rule in find(rules, request) for statement in rule.expr if "match" in statement)
    return [str(match["right"]) for match in matches if match["left"].get("payload", {}).get("field") == "saddr"]


def comment(network: str, ifname: str, container_id: str) -> str:
    """The comment on an attachment's rules: a hash for us, then text for people, cut to what fits."""
    told = f"net: {network}, if: {ifname}, id: {container_id}".replace('"', "")
    text = f"{_instance_hash(network, ifname, container_id)}, {told}"
    return text.encode()[:COMMENT_BYTES].decode(errors="ignore")


def _instance_hash(network: str, ifname: str, container_id: str) -> str:
    return f"{_hash(network)}-{_hash(f'{ifname}:{container_id}')}"


def _hash(text: str) -> str:
    return hashlib.sha512(text.encode()).hexdigest()[:16]


def _skeleton() -> list[Command]:
    """The table and its chains, made where missing, with the few rules that lead into `masq_checks`."""
    # `nft` 1.0 reads the comments of tables and chains, but does not pass them on; later ones do.
    table = {"family": "inet", "name": TABLE, "comment": TABLE_COMMENT}
    hook = {"type": "nat", "hook": "postrouting", "prio": SRCNAT}
    multicast = [
        _rule(POSTROUTING, [_match("==", _field(family, "daddr"), _prefix(*net)), {"return": None}])
        for family, net in MULTICAST.items()
    ]
    return [
        {"add": {"table": table}},
        {"add": CHECKS.as_object(comment=CHECKS_COMMENT)},
        {"add": POSTROUTING.as_object(**hook)},
        {"flush": POSTROUTING.as_object()},
        *multicast,
        _rule(POSTROUTING, [{"goto": {"target": CHECKS.name}}]),
    ]


def _checking_rule(request: Request, address: IPInterface) -> Command:
    family = "ip" if address.version == 4 else "ip6"
    net = address.network
    expr = [
        _match("==", _field(family, "saddr"), str(address.ip)),
        _match("!=", _field(family, "daddr"), _prefix(str(net.network_address), net.prefixlen)),
        {"masquerade": None},
    ]
    return _rule(CHECKS, expr, comment=comment(request.network, request.ifname, request.container_id))


def _rule(chain: Chain, expr: list[Any], **more: Any) -> Command:
    return {"add": {"rule": chain.place | {"expr": expr} | more}}


def _match(operator: str, left: Any, right: Any) -> dict[str, Any]:
    return {"match": {"op": operator, "left": left, "right": right}}


def _field(family: str, name: str) -> dict[str, Any]:
    return {"payload": {"protocol": family, "field": name}}


def _prefix(address: str, length: int) -> dict[str, Any]:
    return {"prefix": {"addr": address, "len": length}}
