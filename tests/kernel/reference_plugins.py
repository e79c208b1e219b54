"""The reference plugins, to compare ours with, and to have undo what ours did."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from machine import REFERENCE, Runtime

from cni.spec import convert
from cni.spec.result import Result


def knows_nftables() -> bool:
    """Whether the reference plugins that are here can masquerade with nftables, as those since 1.6 can."""
    plugin = Path(REFERENCE, "bridge")
    return plugin.is_file() and b"cni_plugins_masquerade" in plugin.read_bytes()


class Reference:
    """The reference plugins, executed in the host's namespace."""

    def __init__(self, runtime: Runtime, directory: str) -> None:
        self.runtime = runtime
        self.directory = directory

    def call(self, command: str, conf: dict[str, Any], ifname: str = "eth0") -> str:
        env = {
            "PATH": os.environ["PATH"],
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": self.runtime.container_id,
            "CNI_NETNS": self.runtime.sandbox.path,
            "CNI_IFNAME": ifname,
            "CNI_PATH": self.directory,
        }
        done = subprocess.run(
            ["nsenter", f"--net={self.runtime.host.path}", f"{self.directory}/{self.runtime.kind}"],
            env=env,
            input=json.dumps(conf),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout or done.stderr
        return done.stdout

    def add(self, conf: dict[str, Any]) -> Result:
        return convert.decode(json.loads(self.call("ADD", conf)), conf["cniVersion"])
