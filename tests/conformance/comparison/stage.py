"""Where a case happens: a throw-away host and its sandboxes, a directory, and names for what is random there."""

import contextlib
import itertools
import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import snapshot

HOST, SANDBOX = "host", "sandbox"
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
NOWHERE = "/nonexistent/ns"
"""The namespace of plugins that enter none."""

UNNAMED = re.compile(r"\bveth[0-9a-f]{8}\b")
"""An end of a pair that never was, or that is gone again."""

LINK_LOCAL = re.compile(r"\bfe80::[0-9a-f:]+")
"""An address that is made of a random MAC."""

numbers = itertools.count(1)


@dataclass
class Stage:
    """Namespaces by role; none, for a case in which no plugin enters one."""

    directory: Path
    namespaces: dict[str, str] = field(default_factory=dict)
    """Paths, by role."""

    symbols: dict[str, str] = field(default_factory=dict)
    """What to call a name, a MAC or a path that is another one every time."""

    @property
    def has_kernel(self) -> bool:
        """Whether there are namespaces."""
        return bool(self.namespaces)

    def netns(self, role: str) -> str:
        """The path of a namespace."""
        return self.namespaces.get(role, NOWHERE)

    def enter(self, role: str) -> list[str]:
        """What to put before a command to have it run in a namespace."""
        return ["nsenter", f"--net={self.namespaces[role]}"] if self.has_kernel else []

    def run(self, role: str, command: str) -> None:
        """Change something by hand. The command may use the names of `look`."""
        words = [*self.enter(role), "sh", "-ec", self.actual(command)]
        done = subprocess.run(
            words, env=os.environ | {"PATH": PATH}, capture_output=True, text=True, check=False, timeout=30
        )
        assert done.returncode == 0, f"{role}: {command}: {done.stderr or done.stdout}"

    def look(self) -> dict[str, Any]:
        """All namespaces as they are now; random names and MACs get their symbols here."""
        seen = {role: snapshot.take(path) for role, path in self.namespaces.items()}
        if seen:
            self._name_ports()
            for role in sorted(seen, key=lambda role: role == HOST):
                self._name_macs(role, seen[role])
        return seen

    def symbolic(self, value: Any) -> Any:
        """The value with symbols for everything that has one."""
        text = json.dumps(value, ensure_ascii=False)
        for actual in sorted(self.symbols, key=len, reverse=True):
            text = text.replace(actual, self.symbols[actual])
        return json.loads(LINK_LOCAL.sub("fe80::(?)", UNNAMED.sub("veth(?)", text)))

    def actual(self, text: str) -> str:
        """The text with symbols replaced by what they stand for now."""
        for actual, symbol in reversed(self.symbols.items()):
            text = text.replace(symbol, actual)  # of two names of one symbol the newer is there
        return text

    def _name_ports(self) -> None:
        """Call each end of a pair that is on the host by its other end: veth(eth0)."""
        on_host = snapshot.ends(self.namespaces[HOST])
        for role in self.namespaces.keys() - {HOST}:
            prefix = "" if role == SANDBOX else f"{role}."
            for inside, (index, other) in snapshot.ends(self.namespaces[role]).items():
                for name, ends in on_host.items():
                    if ends == (other, index) and re.fullmatch(r"veth[0-9a-f]{8}", name):
                        self.symbols.setdefault(name, f"veth({prefix}{inside})")

    def _name_macs(self, role: str, seen: dict[str, Any]) -> None:
        prefix = "" if role in (HOST, SANDBOX) else f"{role}."
        for name, mac in snapshot.macs(seen).items():
            if int(mac[:2], 16) & 2 and not mac.startswith("02:00:00:"):
                self.symbols.setdefault(mac, f"mac({prefix}{self.symbols.get(name, name)})")


@contextlib.contextmanager
def opened(directory: Path, sandboxes: tuple[str, ...]) -> Iterator[Stage]:
    """Have a stage for the block, with a host if there are sandboxes."""
    stage = Stage(directory, symbols={str(directory): "@DIR@"})
    made = []
    try:
        for role in (HOST, *sandboxes) if sandboxes else ():
            name = f"pc{os.getpid()}-{next(numbers)}-{role}"
            subprocess.run(["ip", "netns", "add", name], check=True)
            made.append(name)
            stage.namespaces[role] = f"/run/netns/{name}"
            stage.symbols[stage.namespaces[role]] = f"@{role.upper()}@"
            subprocess.run([*stage.enter(role), "ip", "link", "set", "lo", "up"], check=True)
        yield stage
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
