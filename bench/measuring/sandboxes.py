"""Sandboxes: namespaces of the throw-away host that the work is done on."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator

from measuring.call import ENVIRON


def ip(*words: str, stdin: str = "") -> str:
    """Run ip."""
    done = subprocess.run(
        ["ip", *words], env=ENVIRON, input=stdin, capture_output=True, text=True, check=True, timeout=300
    )
    return done.stdout


@contextlib.contextmanager
def sandboxes(*names: str) -> Iterator[None]:
    """Have sandboxes of these names for the block."""
    made = []
    try:
        for name in names:
            ip("netns", "add", name)
            made.append(name)
        yield
    finally:
        for name in made:
            ip("netns", "delete", name)


def links(sandbox: str) -> list[str]:
    """The interfaces in a sandbox but loopback."""
    found = json.loads(ip("-json", "-netns", sandbox, "link", "show"))
    return sorted(link["ifname"] for link in found if link["ifname"] != "lo")
