"""The first code of every installed executable: standard library only, nothing of ours before it is known what for."""

from __future__ import annotations

import importlib
import os
import sys


def main(name: str) -> int:
    """Be the executable `name`: the plugin of that name, or the operator's command; return the exit status.

    `plexus-bridge` is the plugin `bridge` under a name that no other vendor uses. Only `plexus` itself is a command
    too: when it has arguments and no runtime is calling, which a runtime tells by CNI_COMMAND.
    """
    status: int
    if name == "plexus" and len(sys.argv) > 1 and not os.environ.get("CNI_COMMAND"):
        status = importlib.import_module("cni.cli.command").main(sys.argv[1:])
    else:
        status = importlib.import_module("cni.plugin.skel").main(name.removeprefix("plexus-"))
    return status
