"""Anti-spoofing (`macspoofchk`): a bridge drops what an attachment sends from any MAC but its own.

Table, chains and comments are those of the reference plugins (pkg/link/spoofcheck.go), so that either finds the
other's rules.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from typing import Any

from cni.linux import nft
from cni.linux.nft import Chain, Command, Rule
from cni.spec.request import Request

FAMILY, TABLE = "bridge", "nat"
PREROUTING = Chain(FAMILY, TABLE, "PREROUTING")
DSTNAT = -300
COMMENT = "macspoofchk-"
LONGEST_ID = 100
"""Characters of an identity that are safe in a rule's comment."""


def apply(request: Request, host_ifname: str, mac: str) -> None:
    """Drop what comes in by `host_ifname` from another MAC than `mac`. Raises NftFailure."""
    identity = _identity(request.container_id, request.ifname)
    stale = removal(nft.about(mark(request), PREROUTING), request)
    enter = [{"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": host_ifname}}]
    source = {"payload": {"protocol": "ether", "field": "saddr"}}
    check = [{"match": {"op": "==", "left": source, "right": mac}}, {"return": None}]
    of_port, of_mac = _chains(identity)
    hook = {"type": "filter", "hook": "prerouting", "prio": DSTNAT, "policy": "accept"}
    commands: list[Command] = [
        {"add": {"table": {"family": FAMILY, "name": TABLE}}},
        {"add": PREROUTING.as_object(**hook)},
        *stale,
        *({"add": chain.as_object()} for chain in (of_port, of_mac)),
        *({"flush": chain.as_object()} for chain in (of_port, of_mac)),
        _rule(identity, PREROUTING, [*enter, {"jump": {"target": of_port.name}}]),
        _rule(identity, of_port, [{"jump": {"target": of_mac.name}}]),
        _rule(identity, of_mac, check),
        _rule(identity, of_mac, [{"drop": None}]),
    ]
    nft.apply(f'check the source MAC of "{request.ifname}" of network "{request.network}"', commands)


def remove(request: Request) -> None:
    """Stop checking the attachment. Raises NftFailure."""
    commands = removal(nft.about(mark(request), PREROUTING), request)
    if commands:
        nft.apply(f'stop checking the source MAC of "{request.ifname}" of network "{request.network}"', commands)


def removal(rules: Iterable[Rule], request: Request) -> list[Command]:
    """What removes the attachment's rules and chains, if it is among `rules`."""
    found = find(rules, request)
    return _removal(found, _identity(request.container_id, request.ifname)) if found else []


def garbage(rules: Iterable[Rule], links: Collection[str], valid: Collection[tuple[str, str]]) -> list[Command]:
    """What removes the rules of attachments, (container ID, ifname), that are not `valid` and have no link any more.

    The rules do not say of which network they are: one whose link is none of `links` belongs to nobody.
    """
    kept = {COMMENT + _identity(container_id, ifname) for container_id, ifname in valid}
    dead = [rule for rule in _bases(rules) if rule.comment not in kept and _ifname(rule) not in links]
    return [command for rule in dead for command in _removal([rule], rule.comment.removeprefix(COMMENT))]


def mark(request: Request) -> str:
    """The comment of the attachment's rules; that of others may begin with it."""
    return COMMENT + _identity(request.container_id, request.ifname)


def find(rules: Iterable[Rule], request: Request) -> list[Rule]:
    """The rules by which the attachment's frames come to be checked, among `rules`."""
    return [rule for rule in _bases(rules) if rule.comment == mark(request)]


def _bases(rules: Iterable[Rule]) -> list[Rule]:
    return [rule for rule in rules if rule.chain == PREROUTING and rule.comment.startswith(COMMENT)]


def _removal(bases: Iterable[Rule], identity: str) -> list[Command]:
    of_port, of_mac = _chains(identity)
    # The chains are emptied first: one that another jumps to cannot be deleted. Adding spares us to ask for them.
    return [
        *(rule.deletion for rule in bases),
        *({"add": chain.as_object()} for chain in (of_port, of_mac)),
        *({"flush": chain.as_object()} for chain in (of_port, of_mac)),
        *({"delete": chain.as_object()} for chain in (of_port, of_mac)),
    ]


def _ifname(base: Rule) -> str:
    matches = (statement["match"] for statement in base.expr if "match" in statement)
    return next((str(match["right"]) for match in matches if match["left"] == {"meta": {"key": "iifname"}}), "")


def _chains(identity: str) -> tuple[Chain, Chain]:
    name = f"cni-br-iface-{identity}"
    return Chain(FAMILY, TABLE, name), Chain(FAMILY, TABLE, f"{name}-mac")


def _identity(container_id: str, ifname: str) -> str:
    text = f"{container_id}-{ifname}"
    return text if len(text) <= LONGEST_ID else hashlib.sha512(text.encode()).hexdigest()[:LONGEST_ID]


def _rule(identity: str, chain: Chain, expr: list[Any]) -> Command:
    return {"add": {"rule": chain.place | {"expr": expr, "comment": COMMENT + identity}}}
