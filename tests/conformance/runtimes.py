"""Who plays the container runtime for a namespace and a list of plugins: our command, or the real cnitool."""

import hashlib
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from throwaway import Host


@dataclass(frozen=True)
class Runtime:
    """One command on one host, with the configurations of a directory and the plugins of some others."""

    executable: Path
    host: Host
    conf_dir: Path
    path: tuple[Path, ...]
    """CNI_PATH."""

    @property
    def name(self) -> str:
        return self.executable.name

    def configure(self, network: str, *plugins: dict[str, Any], version: str = "1.0.0") -> None:
        """Write a list of that name."""
        self.conf_dir.mkdir(exist_ok=True)
        conf = {"cniVersion": version, "name": network, "plugins": plugins}
        (self.conf_dir / f"{network}.conflist").write_text(json.dumps(conf))

    def call(self, verb: str, network: str, sandbox: Host, **environ: str) -> subprocess.CompletedProcess[str]:
        env = {"NETCONFPATH": str(self.conf_dir), "CNI_PATH": os.pathsep.join(map(str, self.path))} | environ
        return self.host.call(str(self.executable), verb, network, sandbox.path, environ=env)

    def run(self, verb: str, network: str, sandbox: Host, **environ: str) -> str:
        done = self.call(verb, network, sandbox, **environ)
        assert done.returncode == 0, f"{self.name} {verb} {network}: {done.stderr or done.stdout}"
        return done.stdout

    def add(self, network: str, sandbox: Host, **environ: str) -> dict[str, Any]:
        result: dict[str, Any] = json.loads(self.run("add", network, sandbox, **environ))
        return result


def container_id(sandbox: Host) -> str:
    """What both call the sandbox's container."""
    return f"cnitool-{hashlib.sha512(sandbox.path.encode()).hexdigest()[:20]}"


def bridge(directory: Path, *subnets: str, **keys: Any) -> dict[str, Any]:
    """A `bridge` in a list, with an address of each subnet and the routes to the rest of the world."""
    ranges = [[{"subnet": subnet}] for subnet in subnets]
    ipam = {"type": "host-local", "dataDir": str(directory / "leases"), "ranges": ranges}
    return {"type": "bridge", "isDefaultGateway": True, "ipam": ipam} | keys


def leases(directory: Path) -> list[str]:
    """The addresses that host-local has given out."""
    found = (path.name for path in directory.glob("leases/*/*"))
    return sorted(name for name in found if name != "lock" and not name.startswith("last_reserved"))
