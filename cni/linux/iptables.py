"""iptables' nat table, by the programs `iptables` and `iptables-restore`: each change is one transaction.

There may be two nat tables for each family: one that iptables-nft keeps in nftables, and the old kernel interface's,
which iptables-legacy knows. `iptables` is either of the two programs.
"""

from __future__ import annotations

import ipaddress
import itertools
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from cni.linux import kernel, nft, program
from cni.linux.nft import Chain
from cni.spec.errors import KernelFailure

TABLE = "nat"
POSTROUTING = "POSTROUTING"
PROGRAMS = {4: "iptables", 6: "ip6tables"}
NFT_FAMILIES = {4: "ip", 6: "ip6"}
LEGACY_TABLES = {4: "/proc/thread-self/net/ip_tables_names", 6: "/proc/thread-self/net/ip6_tables_names"}
"""The tables of the old kernel interface that are loaded in a namespace, one a line."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class IptablesFailure(KernelFailure):
    """`iptables` refused a change, or could not be run; the details are its own first line."""


@dataclass(frozen=True)
class Rule:
    """A rule as `iptables -S` prints it."""

    line: str

    @property
    def deletion(self) -> str:
        """The line for `Nat.apply` that removes it."""
        return f"-D{self.line.removeprefix('-A')}"

    @property
    def source(self) -> Network | None:
        """The network that packets must come from."""
        return self._network("-s")

    @property
    def destination(self) -> Network | None:
        """The network that packets must go to, or must not go to."""
        return self._network("-d")

    @property
    def target(self) -> str:
        """The chain, or the verdict, that it leads to."""
        return self._options.get("-j", "")

    @property
    def comment(self) -> str:
        """Its remark."""
        return self._options.get("--comment", "")

    def _network(self, option: str) -> Network | None:
        text = self._options.get(option)
        return ipaddress.ip_network(text, strict=False) if text else None

    @cached_property
    def _options(self) -> Mapping[str, str]:
        words = shlex.split(self.line)
        return dict(itertools.pairwise(words))


@dataclass(frozen=True)
class Nat:
    """The nat table of one family (4 or 6), as `path` has it, a program named `iptables…` or `ip6tables…`."""

    family: int
    path: str

    def rules(self, chain: str, *, about: str) -> list[Rule]:
        """The rules of a chain that exists, as far as they mention `about`. Raises IptablesFailure."""
        lines = self._list(f'list the iptables chain "{chain}"', chain)
        return [Rule(line) for line in lines if line.startswith("-A ") and about in line]

    def has(self, chain: str) -> bool:
        """Whether the chain exists; all of the table is read to find out. Raises IptablesFailure."""
        return any(line.split()[:2] in (["-N", chain], ["-P", chain]) for line in self._list("list the nat table"))

    def apply(self, what: str, lines: Iterable[str]) -> None:
        """Make one change, all or nothing: `lines` as in iptables-restore's input. Raises IptablesFailure.

        The line `:CHAIN - [0:0]` makes a chain, or empties it.
        """
        text = "\n".join([f"*{TABLE}", *lines, "COMMIT", ""])
        command = [f"{self.path}-restore", "--noflush", "--wait"]
        kernel.change(what, self._run, what, command, text.encode())

    def _list(self, what: str, *chain: str) -> list[str]:
        printed = self._run(what, [self.path, "--wait", "-t", TABLE, "-S", *chain])
        return printed.decode(errors="replace").splitlines()

    def _run(self, what: str, command: list[str], stdin: bytes = b"") -> bytes:
        printed, failure = program.run(command, stdin)
        if failure:
            raise IptablesFailure(f"could not {what}", failure, id="PLX-IPTABLES")
        return printed


def is_installed(family: int = 4) -> bool:
    """Whether there is an `iptables`, or `ip6tables`, to run."""
    return program.find(PROGRAMS[family]) is not None


def nat(family: int) -> Nat:
    """The nat table that `iptables` itself works on. Raises IptablesFailure when it is not installed."""
    path = program.find(PROGRAMS[family])
    if path is None:
        raise IptablesFailure(
            f"could not masquerade IPv{family}",
            f'{PROGRAMS[family]} is not installed: install iptables, or write `"ipMasqBackend": "nftables"`',
            id="PLX-IPTABLES-MISSING",
        )
    return Nat(family, path)


def holding(chain: str) -> list[Nat]:
    """The nat tables that have a chain of this name.

    On most machines no program is run to find out: what iptables-nft keeps the kernel is asked for by its name, and
    iptables-legacy is run only where its table is loaded. Without either it costs a millisecond. Raises KernelFailure.
    """
    sought = {Chain(name, TABLE, chain): family for family, name in NFT_FAMILIES.items()}
    found = [_nat(sought[present], "nft") for present in nft.present(sought)]
    legacy = [_nat(family, "legacy") for family in PROGRAMS if _is_legacy_loaded(family)]
    return [table for table in found if table] + [table for table in legacy if table and table.has(chain)]


def _nat(family: int, variant: str) -> Nat | None:
    path = program.find(f"{PROGRAMS[family]}-{variant}") or program.find(PROGRAMS[family])
    return Nat(family, path) if path else None


def _is_legacy_loaded(family: int) -> bool:
    try:
        with open(LEGACY_TABLES[family], encoding="ascii") as file:
            return TABLE in file.read().split()
    except OSError:
        return False  # the kernel has no such interface
