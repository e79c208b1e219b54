"""pyroute2's messages, without the rest of pyroute2, whose import takes four times as long and is never used."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType

PACKAGE = "pyroute2"
USED = ("rtnl.ifinfmsg", "rtnl.ifaddrmsg", "rtnl.rtmsg", "rtnl.br_vlan")
"""What is asked for anywhere; each when it is needed first, but for a process that lives on."""


def load(name: str) -> ModuleType:
    """Import `pyroute2.netlink.<name>`, and of the package no more than that module asks for itself."""
    module = f"{PACKAGE}.netlink.{name}"
    if module in sys.modules:
        return sys.modules[module]
    try:
        sys.modules.setdefault(PACKAGE, _bare())
        return importlib.import_module(module)
    except (ImportError, AttributeError):  # a version that needs what the package itself defines
        for loaded in list(_loaded()):
            del sys.modules[loaded]
        return importlib.import_module(module)


def load_all() -> None:
    """Import everything that may be asked for."""
    for name in USED:
        load(name)


def _bare() -> ModuleType:
    """The package without what its `__init__` would put into it: a place where its modules are found."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {PACKAGE!r}", name=PACKAGE)
    return importlib.util.module_from_spec(spec)


def _loaded() -> Iterator[str]:
    return (name for name in sys.modules if name == PACKAGE or name.startswith(f"{PACKAGE}."))
