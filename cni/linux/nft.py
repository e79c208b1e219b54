"""nftables, by the `nft` binary with JSON on stdin: each change is one transaction, and nothing else runs `nft`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cni.linux import kernel
from cni.spec.errors import KernelFailure

Command = Mapping[str, Any]
"""One command of libnftables-json(5), for example {"add": {"table": {…}}}."""

SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin"
"""Searched too, because a runtime's PATH need not hold them."""
TIMEOUT = 60.0
"""Seconds after which a hanging `nft` is given up."""


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
    return _binary() is not None


def apply(what: str, commands: Iterable[Command]) -> None:
    """Make one change, all or nothing, described by `what`. Raises NftFailure."""
    kernel.change(what, _run, what, list(commands))


def rules(*chains: Chain) -> list[Rule]:
    """The rules of these chains; a chain that does not exist has none, nor has any where `nft` is not installed.

    Raises NftFailure.
    """
    if not is_installed():
        return []
    present = _present({chain.family for chain in chains})
    return [rule for chain in chains if chain in present for rule in _rules(chain)]


def _rules(chain: Chain) -> list[Rule]:
    # One chain at a time: asked for two, nft 1.0 looks for both in the table of one.
    answer = _run(f'list the nftables chain "{chain.name}"', [{"list": chain.as_object()}])
    return [_rule(entry["rule"]) for entry in answer if "rule" in entry]


def _present(families: Iterable[str]) -> set[Chain]:
    commands = [{"list": {"chains": {"family": family}}} for family in sorted(families)]
    answer = _run("list nftables chains", commands)
    found = (entry["chain"] for entry in answer if "chain" in entry)
    return {Chain(chain["family"], chain["table"], chain["name"]) for chain in found}


def _run(what: str, commands: Sequence[Command]) -> list[dict[str, Any]]:
    binary = _binary()
    if binary is None:
        raise NftFailure(f"could not {what}", "nft is not installed: install nftables", id="PLX-NFT-MISSING")
    process = subprocess.run(
        [binary, "-j", "-f", "-"],
        input=json.dumps({"nftables": list(commands)}).encode(),
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
    )
    if process.returncode != 0:
        lines = process.stderr.decode(errors="replace").strip().splitlines()
        raise NftFailure(f"could not {what}", lines[0] if lines else "nft gave no reason", id="PLX-NFT")
    # One JSON object a line for each `list` command.
    return [entry for line in process.stdout.splitlines() if line for entry in json.loads(line)["nftables"]]


def _rule(data: Mapping[str, Any]) -> Rule:
    chain = Chain(data["family"], data["table"], data["chain"])
    return Rule(chain, data["handle"], data.get("comment", ""), tuple(data.get("expr", ())))


def _binary() -> str | None:
    return shutil.which("nft", path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}")
