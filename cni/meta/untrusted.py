"""What a definition, or a pod, may not say to a plugin: they are written by those who use the node, not by its owner.

A plugin runs as root on the host, so that a path in its configuration is a file of the host that somebody else chose.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Any

import pydantic

from cni.plugin import invoke
from cni.spec.document import Document
from cni.spec.errors import InvalidConfiguration
from cni.spec.netconf import NetConfList

LONGEST = 32 * 1024
"""Characters of a definition's configuration: long ones have four thousand."""
LONGEST_CHAIN = 16
"""Plugins."""
DEEPEST = 32
"""Objects and lists inside each other."""
SHOWN = 80

PATH = re.compile(r"\s*(?:/|(?i:unix\w*|file):|[A-Za-z][\w+.-]*:/(?:/{2}|(?!/)))")
"""How a path begins, or a URL that is one: `unix:/run/x`, `file:///x`, but not `https://host/x`."""
SCHEME = re.compile(r"\s*[A-Za-z][\w+.-]*:(?:(?=/)|//)?")
CLIMBING = re.compile(r"(?:^|/)\s*\.\.\s*(?:/|$)")
PREFIX_LENGTH = re.compile(r"/\d{1,3}")
"""Looks like a path, and is a size, say `node_slice_size` of whereabouts."""
PATH_KEYS = frozenset(
    {
        "datadir",
        "resolvconf",
        "kubeconfig",
        "logfile",
        "confdir",
        "bindir",
        "cnidir",
        "subnetfile",
        "shareddir",
        "socketfile",
        "daemonsocketpath",
        "manifests",
        "kernelpath",
        "cnideviceinfofile",
    }
)
"""Keys whose values are paths however they begin, folded; besides those that PATH_NAMES finds."""
PATH_NAMES = re.compile(
    r"(?:(?:^|[_-])(?i:dir|directory|path|file|socket|sock)|(?<=[a-z\d])(?:Dir|Directory|Path|File|Socket|Sock))$"
)

USUAL = frozenset(
    {
        ("datadir", "/var/lib/cni/networks"),
        ("kubeconfig", "/etc/cni/net.d/whereabouts.d/whereabouts.kubeconfig"),
        ("server_socket", "/run/openvswitch/kube-ovn-daemon.sock"),
    }
)
"""Keys, folded, and paths that definitions have everywhere: where host-local, whereabouts and kube-ovn look anyhow."""

LAST_WORDS = ("dir", "directory", "path", "file", "socket", "sock")
"""What a key ends with that PATH_NAMES finds."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with a value, under which id, and where the value stands."""

    id: str
    reason: str
    path: str = ""

    def below(self, step: str) -> Problem:
        """The same, seen from one object or list further out."""
        return replace(self, path=step + self.path)


def _host_path(text: str) -> str:
    if not text.startswith("/") or CLIMBING.search(text):
        raise ValueError(f'"{text}" must be an absolute path without ".."')
    return "/" + "/".join(_parts(text))


HostPath = Annotated[str, pydantic.AfterValidator(_host_path)]
"""A file of the host, or a directory with all that is below, without needless slashes."""


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns is the name's; `*` stands for any characters."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def check_length(text: str, what: str) -> None:
    """Raise InvalidConfiguration for a configuration that is too long to be read."""
    if len(text) > LONGEST:
        raise _too_large(what, f"spec.config has {len(text)} characters, and at most {LONGEST} are read")


def check_conf(conf: NetConfList, allowed: Collection[str], what: str) -> None:
    """Raise InvalidConfiguration for what no definition may hold; `allowed` are paths of the host that it may name."""
    if len(conf.plugins) > LONGEST_CHAIN:
        raise _too_large(what, f"it has {len(conf.plugins)} plugins, and at most {LONGEST_CHAIN} make a chain")
    for index, plugin in enumerate(conf.plugins):
        check(plugin, allowed, what, f"plugins[{index}]." if len(conf.plugins) > 1 else "")


def check(data: Document, allowed: Collection[str], what: str, place: str = "") -> None:
    """The same for one object: a plugin's configuration, or what a pod adds to it."""
    found = _in_object(data, allowed, 1)
    if found is not None:
        path = place + found.path.removeprefix(".")
        raise InvalidConfiguration(f"could not use {what}", f"{_shown(path)} {found.reason}", id=found.id)


def names_host_path(key: str, text: str) -> bool:
    """Whether `text` under `key` is a path of the host: by how it is written, or because the key's values are paths."""
    if ("/" in text or ":" in text) and PATH.match(text) and not PREFIX_LENGTH.fullmatch(text):
        return True
    if ".." in text and CLIMBING.search(text):
        return True
    folded = key.casefold()
    return folded in PATH_KEYS or (folded.endswith(LAST_WORDS) and PATH_NAMES.search(key) is not None)


def is_allowed(text: str, allowed: Collection[str]) -> bool:
    """Whether one of the paths in `allowed` is what `text` names, or above it."""
    path = SCHEME.sub("", text, count=1).strip()
    if not path.startswith("/") or CLIMBING.search(path):
        return False
    parts = _parts(path)
    return any(parts[: len(above)] == above for above in map(_parts, allowed))


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _in_object(data: Document, allowed: Collection[str], depth: int) -> Problem | None:
    for key, value in data.items():
        found = _in_key(key, allowed) or _in_value(value, key, allowed, depth)
        if found is not None:
            return found.below(f".{key}")
    return None


def _in_value(value: Any, key: str, allowed: Collection[str], depth: int) -> Problem | None:
    if isinstance(value, str):
        return _in_text(value, key, allowed) if value else None
    if isinstance(value, dict | list) and depth >= DEEPEST:
        return Problem("PLX-TOO-LARGE", f"is nested more than {DEEPEST} deep")
    if isinstance(value, dict):
        return _in_object(value, allowed, depth + 1)
    if isinstance(value, list):
        return _in_list(value, key, allowed, depth + 1)
    return None


def _in_list(values: list[Any], key: str, allowed: Collection[str], depth: int) -> Problem | None:
    for index, value in enumerate(values):
        found = _in_value(value, key, allowed, depth)
        if found is not None:
            return found.below(f"[{index}]")
    return None


def _in_key(key: str, allowed: Collection[str]) -> Problem | None:
    """A plugin may make a path of a key, as `tuning` does of those of `sysctl`."""
    if "/" in key and (key.startswith("/") or CLIMBING.search(key)) and not is_allowed(key, allowed):
        return _path(key)
    return None


def _in_text(text: str, key: str, allowed: Collection[str]) -> Problem | None:
    if key.lower() == "type":
        if "/" in text or "\0" in text or text in (".", ".."):
            reason = f"is no plugin's file name: invalid plugin name: {_shown(text)}"
            return Problem("PLX-PLUGIN-TYPE", reason)
        if text in invoke.META:
            return Problem("PLX-RECURSION", f'is "{text}": the meta plugin cannot be its own delegate')
    if not names_host_path(key, text) or (key.casefold(), text) in USUAL or is_allowed(text, allowed):
        return None
    return _path(text)


def _path(text: str) -> Problem:
    return Problem(
        "PLX-HOST-PATH",
        f"names {_shown(text)} on the host, which only the node's own configuration may: leave it out, or have the"
        " path added to `hostPaths` there",
    )


def _too_large(what: str, reason: str) -> InvalidConfiguration:
    return InvalidConfiguration(f"could not use {what}", reason, id="PLX-TOO-LARGE")


def _shown(text: str) -> str:
    return f'"{text if len(text) <= SHOWN else text[:SHOWN] + "…"}"'
