"""nftables, by the `nft` binary with JSON on stdin: each change is one transaction, and nothing else runs `nft`."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cni.linux import kernel, messages, netlink, program, wire
from cni.spec.errors import KernelFailure

Command = Mapping[str, Any]
"""One command of libnftables-json(5), for example {"add": {"table": {…}}}."""

GET_CHAIN, GET_RULE = 10 << 8 | 4, 10 << 8 | 7
"""Types of messages, from <linux/netfilter/nf_tables.h>."""
FAMILIES = {"inet": 1, "ip": 2, "bridge": 7, "ip6": 10}
"""From <linux/netfilter.h>."""
UNKNOWN = (errno.EINVAL, errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT)
"""What a kernel answers that has no nftables, or not for this family."""


class NftFailure(KernelFailure):
    """`nft` refused a transaction, or could not be run; the details are its own first line."""


@dataclass(frozen=True)
class Chain:
    """A chain by its place."""

    family: str
    table: str
    name: str

    @property
    def place(self) -> dict[str, str]:
        """How a command names it."""
        return {"family": self.family, "table": self.table, "chain": self.name}

    def as_object(self, **more: Any) -> dict[str, Any]:
        """How a command makes it."""
        return {"chain": {"family": self.family, "table": self.table, "name": self.name} | more}


@dataclass(frozen=True)
class Rule:
    """A rule of a chain; `handle` is what the kernel calls it."""

    chain: Chain
    handle: int
    comment: str
    expr: tuple[Mapping[str, Any], ...]

    @property
    def deletion(self) -> Command:
        """The command that removes it."""
        return {"delete": {"rule": self.chain.place | {"handle": self.handle}}}


def is_installed() -> bool:
    """Whether there is an `nft` to run."""
    return program.find("nft") is not None


def works() -> bool:
    """Whether there is an `nft` to run, on a kernel that has nftables. Raises KernelFailure."""
    if not is_installed():
        return False
    try:
        with _open() as kernel_socket:
            _look_up(kernel_socket, Chain("inet", "plexus", "any"))
    except KernelFailure as error:
        if error.errno in UNKNOWN:
            return False
        if error.errno != errno.ENOENT:
            raise
    return True


def present(chains: Iterable[Chain]) -> set[Chain]:
    """Those of the chains that exist.

    The kernel itself is asked: a tenth of a millisecond, where running `nft` takes three. Raises KernelFailure.
    """
    try:
        with _open() as kernel_socket:
            return {chain for chain in chains if _exists(kernel_socket, chain)}
    except KernelFailure as error:
        if error.errno in UNKNOWN:
            return set()
        raise


def apply(what: str, commands: Iterable[Command]) -> None:
    """Make one change, all or nothing, described by `what`. Raises NftFailure."""
    kernel.change(what, _run, what, list(commands))


def about(text: str, *chains: Chain) -> list[Rule]:
    """The rules of these chains with `text` in their comments, to be removed: what they do is left out.

    Also of chains that do not exist, and where `nft` is not installed, as with `rules`. The kernel itself is asked: a
    tenth of a millisecond, where running `nft` takes three, and more with every rule. Raises KernelFailure.
    """
    found = [rule for chain in chains for rule in _about(text, chain)]
    return found if found and is_installed() else []


def rules(*chains: Chain) -> list[Rule]:
    """The rules of these chains; a chain that does not exist has none, nor has any where `nft` is not installed.

    Raises NftFailure.
    """
    if not is_installed():
        return []
    existing = present(chains)
    return [rule for chain in chains if chain in existing for rule in _rules(chain)]


def _rules(chain: Chain) -> list[Rule]:
    # One chain at a time: asked for two, nft 1.0 looks for both in the table of one.
    answer = _run(f'list the nftables chain "{chain.name}"', [{"list": chain.as_object()}])
    return [_rule(entry["rule"]) for entry in answer if "rule" in entry]


def _about(text: str, chain: Chain) -> list[Rule]:
    named = (("NFTA_RULE_TABLE", chain.table), ("NFTA_RULE_CHAIN", chain.name))
    wanted = netlink.message(
        messages.load("nfnetlink.nftsocket").nft_rule_msg, *named, nfgen_family=FAMILIES[chain.family]
    )
    what = f'list the nftables chain "{chain.name}"'
    try:
        with _open() as kernel_socket:
            found = kernel.ask(what, kernel_socket.dump, GET_RULE, wanted, about=text.encode())
    except KernelFailure as error:
        if error.errno in (errno.ENOENT, *UNKNOWN):
            return []
        raise
    marked = [_marked(chain, wire.Attributes.of(rule)) for rule in found]
    return [rule for rule in marked if text in rule.comment]


def _marked(chain: Chain, attributes: wire.Attributes) -> Rule:
    return Rule(chain, attributes.get("NFTA_RULE_HANDLE"), str(attributes.get("NFTA_RULE_USERDATA", "")), ())


def _open() -> netlink.Socket:
    return kernel.ask("open a netlink socket for nftables", netlink.Socket, netlink.NETFILTER)


def _exists(kernel_socket: netlink.Socket, chain: Chain) -> bool:
    try:
        _look_up(kernel_socket, chain)
        return True
    except KernelFailure as error:
        if error.errno not in (errno.ENOENT, *UNKNOWN):
            raise
        return False


def _look_up(kernel_socket: netlink.Socket, chain: Chain) -> None:
    kernel.ask(f'look up the nftables chain "{chain.name}"', kernel_socket.ask, GET_CHAIN, _message(chain))


def _message(chain: Chain) -> Any:
    named = (("NFTA_CHAIN_TABLE", chain.table), ("NFTA_CHAIN_NAME", chain.name))
    return netlink.message(
        messages.load("nfnetlink.nftsocket").nft_chain_msg, *named, nfgen_family=FAMILIES[chain.family]
    )


def _run(what: str, commands: Sequence[Command]) -> list[dict[str, Any]]:
    binary = program.find("nft")
    if binary is None:
        raise NftFailure(f"could not {what}", "nft is not installed: install nftables", id="PLX-NFT-MISSING")
    printed, failure = program.run([binary, "-j", "-f", "-"], json.dumps({"nftables": list(commands)}).encode())
    if failure:
        raise NftFailure(f"could not {what}", failure, id="PLX-NFT")
    # One JSON object a line for each `list` command.
    return [entry for line in printed.splitlines() if line for entry in json.loads(line)["nftables"]]


def _rule(data: Mapping[str, Any]) -> Rule:
    chain = Chain(data["family"], data["table"], data["chain"])
    return Rule(chain, data["handle"], data.get("comment", ""), tuple(data.get("expr", ())))
