"""nftables, by messages to the kernel: each change is one transaction, and `nft` is not run.

Messages and attributes are those of <linux/netfilter/nf_tables.h>; chains and rules become what `nft` makes of them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from cni.linux import attributes, expressions, kernel, netlink, netns
from cni.linux.attributes import joined
from cni.linux.expressions import Expression
from cni.spec.errors import KernelFailure

SUBSYSTEM = 10
NEW_TABLE, NEW_CHAIN, GET_CHAIN, DEL_CHAIN = 0xA00, 0xA03, 0xA04, 0xA05
NEW_RULE, GET_RULE, DEL_RULE = 0xA06, 0xA07, 0xA08
"""Types of messages: subsystem and number."""
TABLE_NAME, TABLE_USERDATA = 1, 6
CHAIN_TABLE, CHAIN_NAME, CHAIN_HOOK, CHAIN_POLICY, CHAIN_TYPE, CHAIN_USERDATA = 1, 3, 4, 5, 7, 12
HOOK_HOOKNUM, HOOK_PRIORITY = 1, 2
RULE_TABLE, RULE_CHAIN, RULE_HANDLE, RULE_EXPRESSIONS, RULE_USERDATA = 1, 2, 3, 4, 7
UDATA_COMMENT = 0
ACCEPT = 1
FAMILIES = {"inet": 1, "ip": 2, "bridge": 7, "ip6": 10}
"""From <linux/netfilter.h>, as are hooks."""
NFGEN = struct.Struct("=BBH")
MISSING = (errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT)
"""What a kernel answers that has no nftables, or not for this family."""
UNKNOWN = (errno.EINVAL, *MISSING)
"""What it may answer where something is looked up."""
TRIES = 3
PROCESS = "/proc/self/ns/net"
ANSWERED = (KernelFailure, netlink.Refused)

_idle: deque[netlink.Socket] = deque()


class NftFailure(KernelFailure):
    """The kernel refused a transaction; the details are what in it, and its reason."""


@dataclass(frozen=True)
class Change:
    """One message of a transaction."""

    what: str
    """What it changes, for people."""

    kind: int
    family: str
    content: bytes

    @property
    def message(self) -> tuple[int, int, bytes]:
        """Its type, flags and bytes."""
        flags = netlink.CREATE | netlink.APPEND if self.kind in (NEW_TABLE, NEW_CHAIN, NEW_RULE) else 0
        return self.kind, flags, _message(self.family, self.content)


@dataclass(frozen=True)
class Hook:
    """Where packets come into a chain from."""

    type: str
    number: int
    priority: int


@dataclass(frozen=True)
class Chain:
    """A chain by its place."""

    family: str
    table: str
    name: str

    def addition(self, hook: Hook | None = None, *, comment: str = "") -> Change:
        """What makes it, unless it is there."""
        more: list[tuple[int, attributes.Value]] = []
        if hook:
            place = joined((HOOK_HOOKNUM, hook.number), (HOOK_PRIORITY, hook.priority))
            more += [(CHAIN_HOOK, place), (CHAIN_POLICY, ACCEPT), (CHAIN_TYPE, hook.type)]
        if comment:
            more += [(CHAIN_USERDATA, _remark(comment))]
        return self._change("add", NEW_CHAIN, (CHAIN_TABLE, self.table), (CHAIN_NAME, self.name), *more)

    def rule(self, *parts: Expression, comment: str = "") -> Change:
        """What appends a rule."""
        remark = [(RULE_USERDATA, _remark(comment))] if comment else []
        return self._rule_change("add a rule to", NEW_RULE, (RULE_EXPRESSIONS, expressions.pack(parts)), *remark)

    @property
    def emptying(self) -> Change:
        """What removes its rules."""
        return self._rule_change("empty", DEL_RULE)

    @property
    def deletion(self) -> Change:
        """What removes it, which must be empty."""
        return self._change("delete", DEL_CHAIN, (CHAIN_TABLE, self.table), (CHAIN_NAME, self.name))

    def rule_deletion(self, handle: int) -> Change:
        """What removes the rule that the kernel calls so."""
        return self._rule_change("delete a rule of", DEL_RULE, (RULE_HANDLE, handle.to_bytes(8, "big")))

    def _rule_change(self, verb: str, kind: int, *more: tuple[int, attributes.Value]) -> Change:
        return self._change(verb, kind, (RULE_TABLE, self.table), (RULE_CHAIN, self.name), *more)

    def _change(self, verb: str, kind: int, *content: tuple[int, attributes.Value]) -> Change:
        return Change(f'{verb} the chain "{self.name}"', kind, self.family, joined(*content))


@dataclass(frozen=True)
class Rule:
    """A rule of a chain; `handle` is what the kernel calls it."""

    chain: Chain
    handle: int
    comment: str
    packed: bytes = b""
    """Its expressions."""

    @property
    def expressions(self) -> list[Expression]:
        """What it does."""
        return expressions.unpack(self.packed)

    @property
    def deletion(self) -> Change:
        """What removes it."""
        return self.chain.rule_deletion(self.handle)


def table(family: str, name: str, *, comment: str = "") -> Change:
    """What makes a table, unless it is there."""
    remark = [(TABLE_USERDATA, _remark(comment))] if comment else []
    return Change(f'add the table "{name}"', NEW_TABLE, family, joined((TABLE_NAME, name), *remark))


def works() -> bool:
    """Whether the kernel has nftables. Raises KernelFailure."""
    try:
        with _socket() as kernel_socket:
            _look_up(kernel_socket, Chain("inet", "plexus", "any"))
    except KernelFailure as error:
        if error.errno in UNKNOWN:
            return False
        if error.errno != errno.ENOENT:
            raise
    return True


def present(chains: Iterable[Chain]) -> set[Chain]:
    """Those of the chains that exist. Raises KernelFailure."""
    try:
        with _socket() as kernel_socket:
            return {chain for chain in chains if _exists(kernel_socket, chain)}
    except KernelFailure as error:
        if error.errno in UNKNOWN:
            return set()
        raise


def find_hook(chain: Chain) -> Hook | None:
    """Where packets come into the chain from, if it exists, and they do. Raises KernelFailure."""
    try:
        with _socket() as kernel_socket:
            [answer] = _look_up(kernel_socket, chain)
    except KernelFailure as error:
        if error.errno in (errno.ENOENT, *UNKNOWN):
            return None
        raise
    told = _attributes(answer)
    if CHAIN_HOOK not in told:
        return None
    place = {kind: int.from_bytes(value, "big", signed=True) for kind, value in attributes.read(told[CHAIN_HOOK])}
    return Hook(attributes.text(told[CHAIN_TYPE]), place[HOOK_HOOKNUM], place[HOOK_PRIORITY])


def apply(what: str, plan: Callable[[], Sequence[Change]]) -> None:
    """Make the changes that `plan` finds are to be made, all or none, described by `what`; there may be none.

    Where something that they delete went meanwhile, it is asked again. Raises NftFailure.
    """
    for left in reversed(range(TRIES)):
        changes = plan()
        try:
            if changes:
                kernel.change(what, _transact, what, changes)
            return
        except NftFailure as error:
            if not left or error.errno != errno.ENOENT:
                raise


def rules(*chains: Chain, about: str = "") -> list[Rule]:
    """The rules of these chains, those with `about` in their comments; a chain that does not exist has none.

    Raises KernelFailure.
    """
    found = [rule for chain in chains for rule in _rules(chain, about)]
    return [rule for rule in found if about in rule.comment]


def _rules(chain: Chain, about: str) -> list[Rule]:
    wanted = _message(chain.family, joined((RULE_TABLE, chain.table), (RULE_CHAIN, chain.name)))
    what = f'list the nftables chain "{chain.name}"'
    try:
        with _socket() as kernel_socket:
            told = kernel.ask(what, kernel_socket.dump_raw, GET_RULE, wanted, about=attributes.encoded(about))
    except KernelFailure as error:
        if error.errno in (errno.ENOENT, *UNKNOWN):
            return []
        raise
    return [_rule(chain, message) for message in told]


def _rule(chain: Chain, message: bytes) -> Rule:
    told = _attributes(message)
    handle = int.from_bytes(told[RULE_HANDLE], "big")
    return Rule(chain, handle, _read_remark(told.get(RULE_USERDATA, b"")), told.get(RULE_EXPRESSIONS, b""))


def _attributes(answer: bytes) -> dict[int, bytes]:
    return dict(attributes.read(answer[netlink.HEADER.size + NFGEN.size :]))


def _remark(comment: str) -> bytes:
    """Bytes that the kernel keeps, and `nft` shows as a comment: type, length and text."""
    text = attributes.content(comment)
    return bytes((UDATA_COMMENT, len(text))) + text


def _read_remark(userdata: bytes) -> str:
    while len(userdata) > 2:
        end = 2 + userdata[1]
        if userdata[0] == UDATA_COMMENT:
            return attributes.text(userdata[2:end])
        userdata = userdata[end:]
    return ""


def _exists(kernel_socket: netlink.Socket, chain: Chain) -> bool:
    try:
        _look_up(kernel_socket, chain)
        return True
    except KernelFailure as error:
        if error.errno not in (errno.ENOENT, *UNKNOWN):
            raise
        return False


def _look_up(kernel_socket: netlink.Socket, chain: Chain) -> list[bytes]:
    wanted = _message(chain.family, joined((CHAIN_TABLE, chain.table), (CHAIN_NAME, chain.name)))
    return kernel.ask(f'look up the nftables chain "{chain.name}"', kernel_socket.ask_raw, GET_CHAIN, wanted)


def _message(family: str, content: bytes) -> bytes:
    return NFGEN.pack(FAMILIES[family], 0, 0) + content


def _transact(what: str, changes: Sequence[Change]) -> None:
    try:
        with _socket() as kernel_socket:
            kernel_socket.change_all(SUBSYSTEM, [change.message for change in changes])
    except netlink.Refused as error:
        refused = [change.what for position, change in enumerate(changes) if position == error.position]
        reason = ": ".join([*(f"could not {change}" for change in refused), str(error.strerror)])
        raise _failure(what, error.errno or 0, reason) from error
    except KernelFailure as error:
        raise _failure(what, error.errno, os.strerror(error.errno)) from error


def _failure(what: str, number: int, reason: str) -> NftFailure:
    if number not in MISSING:
        return NftFailure(f"could not {what}", reason, id="PLX-NFT", errno=number)
    advice = f"{reason}: the kernel needs its module nf_tables, with nft_chain_nat and nft_masq"
    return NftFailure(f"could not {what}", advice, id="PLX-NFT-MISSING", errno=number)


@contextlib.contextmanager
def _socket() -> Iterator[netlink.Socket]:
    """A socket, used again where we are in the process's own namespace.

    The kernel closes one only when everything that anybody deleted is cleared away, which takes a hundredth of a second
    in which nobody can change anything (docs/performance.md).
    """
    if not netns.is_own(PROCESS):
        with _open() as opened:
            yield opened
        return
    try:
        opened = _idle.pop()
    except IndexError:
        opened = _open()
    try:
        yield opened
    except ANSWERED:
        _idle.append(opened)
        raise
    except BaseException:
        opened.close()  # there may be more to come of an answer
        raise
    _idle.append(opened)


def _open() -> netlink.Socket:
    return kernel.ask("open a netlink socket for nftables", netlink.Socket, netlink.NETFILTER)
