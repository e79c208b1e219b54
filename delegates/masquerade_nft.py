"""Masquerading with nftables.

Table, chains and comments are those of the reference plugins (pkg/ip/ipmasq_nftables_linux.go), so that either finds
the other's rules. Rules are found by the hash that their comment begins with; addresses are not needed.
"""

from __future__ import annotations

import hashlib
import ipaddress
import itertools
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from cni.linux import expressions, nft
from cni.linux.expressions import Expression
from cni.linux.nft import Chain, Change, Hook, Rule
from cni.spec.request import Request

if TYPE_CHECKING:
    from cni.spec.model import IPInterface

TABLE = "cni_plugins_masquerade"
CHECKS = Chain("inet", TABLE, "masq_checks")
POSTROUTING = Chain("inet", TABLE, "postrouting")
TABLE_COMMENT = "Masquerading for plugins from github.com/containernetworking/plugins"
CHECKS_COMMENT = "Masquerade traffic from certain IPs to any (non-multicast) IP outside their subnet"
HOOK = Hook("nat", 4, 100)
"""Of packets that leave, where sources are changed: NF_INET_POST_ROUTING, NF_IP_PRI_NAT_SRC."""
MULTICAST = ("224.0.0.0/4", "ff00::/8")
COMMENT_BYTES = 128
"""What the kernel keeps of a rule's comment."""


def apply(request: Request, addresses: Iterable[IPInterface]) -> None:
    """Masquerade what comes from these addresses, instead of any the attachment had before. Raises NftFailure."""
    added = [_checking_rule(request, address) for address in addresses]
    what = f'masquerade "{request.ifname}" of network "{request.network}"'
    nft.apply(what, lambda: [*_skeleton(), *own_removal(request), *added])


def remove(request: Request) -> None:
    """Stop masquerading the attachment. Raises NftFailure."""
    what = f'stop masquerading "{request.ifname}" of network "{request.network}"'
    nft.apply(what, lambda: own_removal(request))


def own_removal(request: Request) -> list[Change]:
    """What removes the attachment's rules, wherever they are. Raises KernelFailure."""
    return removal(nft.rules(CHECKS, about=mark(request)), request)


def removal(rules: Iterable[Rule], request: Request) -> list[Change]:
    """What removes the attachment's rules from among `rules`."""
    return [rule.deletion for rule in find(rules, request)]


def garbage(rules: Iterable[Rule], network: str, valid: Collection[tuple[str, str]]) -> list[Change]:
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
    steps = (pair for rule in find(rules, request) for pair in itertools.pairwise(rule.expressions))
    loads = [expressions.load_source(version) for version in (4, 6)]
    return [str(ipaddress.ip_address(compared.value)) for loaded, compared in steps if loaded in loads]


def comment(network: str, ifname: str, container_id: str) -> str:
    """The comment on an attachment's rules: a hash for us, then text for people, cut to what fits."""
    told = f"net: {network}, if: {ifname}, id: {container_id}".replace('"', "")
    text = f"{_instance_hash(network, ifname, container_id)}, {told}"
    return text.encode()[:COMMENT_BYTES].decode(errors="ignore")


def _instance_hash(network: str, ifname: str, container_id: str) -> str:
    return f"{_hash(network)}-{_hash(f'{ifname}:{container_id}')}"


def _hash(text: str) -> str:
    return hashlib.sha512(text.encode()).hexdigest()[:16]


def _skeleton() -> list[Change]:
    """The table, its chains and the few rules that lead into `masq_checks`; nothing where they are as they should be.

    To remove rules without need would have the kernel clear away for a hundredth of a second, for which others wait.
    """
    wanted = [*(_exemption(net) for net in MULTICAST), [expressions.verdict(expressions.GOTO, CHECKS.name)]]
    if nft.find_hook(POSTROUTING) == HOOK and [rule.expressions for rule in nft.rules(POSTROUTING)] == wanted:
        return []
    return [
        nft.table(CHECKS.family, TABLE, comment=TABLE_COMMENT),
        CHECKS.addition(comment=CHECKS_COMMENT),
        POSTROUTING.addition(HOOK),
        POSTROUTING.emptying,
        *(POSTROUTING.rule(*rule) for rule in wanted),
    ]


def _exemption(net: str) -> list[Expression]:
    network = ipaddress.ip_network(net)
    to_it = expressions.compare_destination(expressions.EQUAL, network)
    return [*expressions.is_ip(network.version), *to_it, expressions.verdict(expressions.RETURN)]


def _checking_rule(request: Request, address: IPInterface) -> Change:
    steps = [
        *expressions.is_ip(address.version),
        expressions.load_source(address.version),
        expressions.compare(expressions.EQUAL, address.ip.packed),
        *expressions.compare_destination(expressions.UNEQUAL, address.network),
        expressions.masquerade(),
    ]
    return CHECKS.rule(*steps, comment=comment(request.network, request.ifname, request.container_id))
