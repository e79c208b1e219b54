"""Anti-spoofing (`macspoofchk`): a bridge drops what an attachment sends from any MAC but its own.

Table, chains and comments are those of the reference plugins (pkg/link/spoofcheck.go), so that either finds the
other's rules.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from cni.linux import expressions, nft
from cni.linux.expressions import Expression
from cni.linux.nft import Chain, Change, Hook, Rule
from cni.spec.request import Request

FAMILY, TABLE = "bridge", "nat"
PREROUTING = Chain(FAMILY, TABLE, "PREROUTING")
HOOK = Hook("filter", 0, -300)
"""Of frames that arrive, before anything changes them: NF_BR_PRE_ROUTING, NF_BR_PRI_NAT_DST_BRIDGED."""
IFNAME_BYTES = 16
"""IFNAMSIZ: so much of a name is compared, with zeros after it."""
COMMENT = "macspoofchk-"
LONGEST_ID = 100
"""Characters of an identity that are safe in a rule's comment."""


def apply(request: Request, host_ifname: str, mac: str) -> None:
    """Drop what comes in by `host_ifname` from another MAC than `mac`. Raises NftFailure."""
    identity = _identity(request.container_id, request.ifname)
    of_port, of_mac = _chains(identity)
    name = host_ifname.encode().ljust(IFNAME_BYTES, b"\0")
    incoming = [expressions.meta(expressions.IIFNAME), expressions.compare(expressions.EQUAL, name)]
    own = [expressions.load_source_mac(), expressions.compare(expressions.EQUAL, bytes.fromhex(mac.replace(":", "")))]
    added = [
        *(chain.addition() for chain in (of_port, of_mac)),
        *(chain.emptying for chain in (of_port, of_mac)),
        _rule(identity, PREROUTING, *incoming, expressions.verdict(expressions.JUMP, of_port.name)),
        _rule(identity, of_port, expressions.verdict(expressions.JUMP, of_mac.name)),
        _rule(identity, of_mac, *own, expressions.verdict(expressions.RETURN)),
        _rule(identity, of_mac, expressions.verdict(expressions.DROP)),
    ]
    what = f'check the source MAC of "{request.ifname}" of network "{request.network}"'
    nft.apply(what, lambda: [*_skeleton(), *own_removal(request), *added])


def remove(request: Request) -> None:
    """Stop checking the attachment. Raises NftFailure."""
    what = f'stop checking the source MAC of "{request.ifname}" of network "{request.network}"'
    nft.apply(what, lambda: own_removal(request))


def own_removal(request: Request) -> list[Change]:
    """What removes the attachment's rules, wherever they are. Raises KernelFailure."""
    return removal(nft.rules(PREROUTING, about=mark(request)), request)


def removal(rules: Iterable[Rule], request: Request) -> list[Change]:
    """What removes the attachment's rules and chains, if it is among `rules`."""
    found = find(rules, request)
    return _removal(found, _identity(request.container_id, request.ifname)) if found else []


def garbage(rules: Iterable[Rule], links: Collection[str], valid: Collection[tuple[str, str]]) -> list[Change]:
    """What removes the rules of attachments, (container ID, ifname), that are not `valid` and have no link any more.

    The rules do not say of which network they are: one whose link is none of `links` belongs to nobody.
    """
    kept = {_identity(container_id, ifname) for container_id, ifname in valid}
    dead = [stray for stray in strays(rules, links) if stray.identity not in kept]
    return [command for stray in dead for command in stray.removal]


@dataclass(frozen=True)
class Stray:
    """An attachment's rule whose link is gone."""

    rule: Rule
    link: str

    @property
    def identity(self) -> str:
        """Whose it was, as far as it says so."""
        return self.rule.comment.removeprefix(COMMENT)

    @property
    def removal(self) -> list[Change]:
        """What removes it, and the chains that it leads to."""
        return _removal([self.rule], self.identity)


def strays(rules: Iterable[Rule], links: Collection[str]) -> list[Stray]:
    """Those that check a link which is none of `links`."""
    found = [Stray(rule, _ifname(rule)) for rule in _bases(rules)]
    # a rule that we do not understand is not ours to judge
    return [stray for stray in found if stray.link and stray.link not in links]


def mark(request: Request) -> str:
    """The comment of the attachment's rules; that of others may begin with it."""
    return COMMENT + _identity(request.container_id, request.ifname)


def find(rules: Iterable[Rule], request: Request) -> list[Rule]:
    """The rules by which the attachment's frames come to be checked, among `rules`."""
    return [rule for rule in _bases(rules) if rule.comment == mark(request)]


def _bases(rules: Iterable[Rule]) -> list[Rule]:
    return [rule for rule in rules if rule.chain == PREROUTING and rule.comment.startswith(COMMENT)]


def _removal(bases: Iterable[Rule], identity: str) -> list[Change]:
    of_port, of_mac = _chains(identity)
    # The chains are emptied first: one that another jumps to cannot be deleted. Adding spares us to ask for them.
    return [
        *(rule.deletion for rule in bases),
        *(chain.addition() for chain in (of_port, of_mac)),
        *(chain.emptying for chain in (of_port, of_mac)),
        *(chain.deletion for chain in (of_port, of_mac)),
    ]


def _ifname(base: Rule) -> str:
    steps = itertools.pairwise(base.expressions)
    names = (compared.value for loaded, compared in steps if loaded == expressions.meta(expressions.IIFNAME))
    return next(names, b"").rstrip(b"\0").decode(errors="replace")


def _skeleton() -> list[Change]:
    """The chain that everything comes into, and its table; nothing where it is there."""
    return [] if nft.find_hook(PREROUTING) == HOOK else [nft.table(FAMILY, TABLE), PREROUTING.addition(HOOK)]


def _chains(identity: str) -> tuple[Chain, Chain]:
    name = f"cni-br-iface-{identity}"
    return Chain(FAMILY, TABLE, name), Chain(FAMILY, TABLE, f"{name}-mac")


def _identity(container_id: str, ifname: str) -> str:
    text = f"{container_id}-{ifname}"
    return text if len(text) <= LONGEST_ID else hashlib.sha512(text.encode()).hexdigest()[:LONGEST_ID]


def _rule(identity: str, chain: Chain, *steps: Expression) -> Change:
    return chain.rule(*steps, comment=COMMENT + identity)
