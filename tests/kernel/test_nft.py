"""Transactions of nftables: what they leave is what `nft` would have made, and `nft` lists it."""

import errno
import ipaddress
from collections.abc import Sequence
from typing import Any

import pytest
from machine import Namespace

from cni.linux import expressions, netns, nft
from cni.linux.expressions import Expression
from cni.linux.nft import Chain, Change, Hook, NftFailure, Rule

CHAIN = Chain("inet", "plexus-test", "first")
OTHER = Chain("bridge", "plexus-test", "other")
DROP = expressions.verdict(expressions.DROP)
EQUAL, UNEQUAL = expressions.EQUAL, expressions.UNEQUAL


def apply(host: Namespace, *changes: Change) -> None:
    netns.run_inside(host.path, lambda: nft.apply("change the rules", lambda: changes))


def rules(host: Namespace, *chains: Chain, about: str = "") -> list[Rule]:
    return netns.run_inside(host.path, lambda: nft.rules(*chains, about=about))


def made(*chains: Chain) -> list[Change]:
    return [change for chain in chains for change in (nft.table(chain.family, chain.table), chain.addition())]


def to(network: str, operator: int = EQUAL) -> list[Expression]:
    net = ipaddress.ip_network(network)
    return [*expressions.is_ip(net.version), *expressions.compare_destination(operator, net)]


def of(address: str) -> list[Expression]:
    ip = ipaddress.ip_address(address)
    return [*expressions.is_ip(ip.version), expressions.load_source(ip.version), expressions.compare(EQUAL, ip.packed)]


def by(name: bytes) -> list[Expression]:
    return [expressions.meta(expressions.IIFNAME), expressions.compare(EQUAL, name.ljust(16, b"\0"))]


MAC = [expressions.load_source_mac(), expressions.compare(EQUAL, bytes.fromhex("020000000001"))]
SAME = [
    *((CHAIN, f"ip daddr != 10.0.0.0/{bits}", to(f"10.0.0.0/{bits}", UNEQUAL)) for bits in (7, 8, 12, 16, 24, 31, 32)),
    *((CHAIN, f"ip6 daddr != fd00::/{bits}", to(f"fd00::/{bits}", UNEQUAL)) for bits in (8, 61, 64, 127, 128)),
    (CHAIN, "ip daddr != 0.0.0.0/0", to("0.0.0.0/0", UNEQUAL)),
    (CHAIN, "ip daddr 224.0.0.0/4", to("224.0.0.0/4")),
    (CHAIN, "ip saddr 10.1.2.3", of("10.1.2.3")),
    (CHAIN, "ip6 saddr fd00:1::2", of("fd00:1::2")),
    (OTHER, "iifname veth0", by(b"veth0")),
    (OTHER, "ether saddr 02:00:00:00:00:01", MAC),
]


@pytest.mark.parametrize(("chain", "text", "written"), SAME, ids=lambda value: value if isinstance(value, str) else "")
def test_a_rule_is_as_nft_writes_it(chain: Chain, text: str, written: Sequence[Expression], host: Namespace):
    apply(host, *made(CHAIN, OTHER), chain.rule(*written, DROP, comment="some words"))

    host.run("nft", f'add rule {chain.family} {chain.table} {chain.name} {text} drop comment "some words"')

    ours, theirs = rules(host, chain)
    assert (ours.expressions, ours.comment) == (theirs.expressions, theirs.comment)
    assert ours.expressions == [*written, DROP]


VERDICTS = {
    "return": expressions.verdict(expressions.RETURN),
    "jump target": expressions.verdict(expressions.JUMP, "target"),
    "goto target": expressions.verdict(expressions.GOTO, "target"),
    "masquerade": expressions.masquerade(),
}


@pytest.mark.parametrize("text", VERDICTS)
def test_what_becomes_of_a_packet_is_as_nft_writes_it(text: str, host: Namespace):
    hook, target = Hook("nat", 4, 100), Chain(CHAIN.family, CHAIN.table, "target")
    apply(
        host, nft.table(CHAIN.family, CHAIN.table), target.addition(), CHAIN.addition(hook), CHAIN.rule(VERDICTS[text])
    )

    host.run("nft", f"add rule inet plexus-test first {text}")

    ours, theirs = rules(host, CHAIN)
    assert ours.expressions == theirs.expressions == [VERDICTS[text]]


def chain_of(host: Namespace, name: str) -> dict[str, Any]:
    return next(entry["chain"] for entry in host.nft() if entry.get("chain", {}).get("name") == name)


def test_a_chain_is_hooked_where_nft_hooks_it(host: Namespace):
    hook = Hook("filter", 0, -300)
    apply(host, nft.table("bridge", "plexus-test"), OTHER.addition(hook))
    host.run("nft", "add chain bridge plexus-test theirs { type filter hook prerouting priority -300; }")

    ours, theirs = chain_of(host, "other"), chain_of(host, "theirs")

    names = ("name", "handle")
    assert {key: ours[key] for key in ours if key not in names} == {
        key: theirs[key] for key in theirs if key not in names
    }
    chains = (OTHER, Chain("bridge", "plexus-test", "theirs"), Chain("bridge", "plexus-test", "none"))
    assert netns.run_inside(host.path, lambda: [nft.find_hook(chain) for chain in chains]) == [hook, hook, None]


def test_a_chain_that_nothing_comes_into_by_itself_has_no_hook(host: Namespace):
    apply(host, *made(CHAIN))

    assert netns.run_inside(host.path, lambda: nft.find_hook(CHAIN)) is None


def test_a_comment_may_have_bytes_that_are_no_text(host: Namespace):
    comment = b"macspoofchk-c1-eth\xff".decode(errors="surrogateescape")
    apply(host, *made(CHAIN), CHAIN.rule(DROP, comment=comment))

    assert [rule.comment for rule in rules(host, CHAIN, about=comment)] == [comment]


def test_tables_and_chains_keep_comments(host: Namespace):
    comment = "what it is for"
    apply(host, nft.table("inet", "plexus-test", comment=comment), CHAIN.addition(comment=comment))

    told = host.run("nft", "list", "ruleset")

    assert told.count(f'comment "{comment}"') == 2


def test_a_transaction_is_all_or_nothing_and_the_change_that_is_refused_is_named(host: Namespace):
    with pytest.raises(NftFailure) as caught:
        apply(host, *made(OTHER), CHAIN.rule(DROP), OTHER.rule(DROP))

    assert caught.value.msg == "could not change the rules"
    assert caught.value.details == 'could not add a rule to the chain "first": No such file or directory [PLX-NFT]'
    assert caught.value.errno == errno.ENOENT
    assert [entry for entry in host.nft() if "table" in entry] == []


def test_rules_of_chains_that_do_not_exist_are_none(host: Namespace):
    assert rules(host, CHAIN, OTHER) == []
    apply(host, *made(CHAIN, OTHER), *(chain.rule(DROP, comment="mine") for chain in (CHAIN, OTHER)))

    found = rules(host, CHAIN, OTHER)

    assert [(rule.chain, rule.comment, rule.expressions) for rule in found] == [
        (CHAIN, "mine", [DROP]),
        (OTHER, "mine", [DROP]),
    ]
    apply(host, *(rule.deletion for rule in found))
    assert rules(host, CHAIN, OTHER) == []


def test_rules_about_something_are_found_by_their_comments_alone(host: Namespace):
    assert rules(host, CHAIN, OTHER, about="mine") == []
    comments = ("mine", "not yours, mine: and more", "yours", "")
    apply(host, *made(CHAIN), *(CHAIN.rule(DROP, comment=comment) for comment in comments))

    found = rules(host, CHAIN, OTHER, about="mine")

    assert [(rule.chain, rule.comment) for rule in found] == [(CHAIN, comments[0]), (CHAIN, comments[1])]
    apply(host, *(rule.deletion for rule in found))
    assert [rule["comment"] for rule in host.rules(CHAIN.name) if "comment" in rule] == ["yours"]


def test_what_went_between_looking_and_changing_is_looked_for_again(host: Namespace):
    apply(host, *made(CHAIN), *(CHAIN.rule(DROP, comment=comment) for comment in ("gone", "still there")))
    removed: list[Rule] = []

    def plan() -> list[Change]:
        found = nft.rules(CHAIN)
        if not removed:  # another process is quicker, once
            removed.append(found[0])
            host.run("nft", "delete", "rule", "inet", "plexus-test", "first", "handle", str(found[0].handle))
        return [rule.deletion for rule in found]

    netns.run_inside(host.path, lambda: nft.apply("remove rules", plan))

    assert rules(host, CHAIN) == []


def test_what_never_is_there_is_given_up(host: Namespace):
    asked: list[int] = []

    def plan() -> list[Change]:
        asked.append(1)
        return [CHAIN.rule_deletion(77)]

    with pytest.raises(NftFailure, match="could not remove rules"):
        netns.run_inside(host.path, lambda: nft.apply("remove rules", plan))

    assert len(asked) == nft.TRIES


def test_thousands_of_rules_are_changed_at_once(host: Namespace):
    apply(host, *made(CHAIN), *(CHAIN.rule(*to(f"10.0.{n // 250}.{n % 250}"), DROP) for n in range(3000)))
    assert len(rules(host, CHAIN)) == 3000

    apply(host, *(rule.deletion for rule in rules(host, CHAIN)))

    assert rules(host, CHAIN) == []


def test_a_socket_is_used_again_in_the_own_namespace_alone(host: Namespace):
    """Closing one waits until the kernel has cleared away what was deleted, and whoever changes something waits too."""
    before = list(nft._idle)
    rules(host, CHAIN)
    assert list(nft._idle) == before

    nft.works()
    first = list(nft._idle)
    nft.works()

    assert list(nft._idle) == first
    assert len(first) >= 1
