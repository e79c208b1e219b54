"""A machine to test on: namespaces, a runtime that calls delegates there, and changes that fail.

Everything is read with `ip`, `bridge` and `nft`, never with the code under test.
"""

import contextlib
import importlib.util
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import by_daemon
import pytest

from cni.linux import kernel, netns
from cni.plugin import invoke
from cni.spec import convert
from cni.spec.errors import CNIError, KernelFailure
from cni.spec.request import Request
from cni.spec.result import Result

REFERENCE = os.environ.get("CNI_REFERENCE_DIR") or "/usr/lib/cni"
BUILT_IN_IPAM = importlib.util.find_spec("ipam.host_local") is not None
REAL_CHANGE = kernel.change


@dataclass(frozen=True)
class Namespace:
    """A network namespace made for one test."""

    name: str

    @property
    def path(self) -> str:
        return f"/run/netns/{self.name}"

    def run(self, *command: str, ok: bool = True) -> str:
        done = subprocess.run(
            ["nsenter", f"--net={self.path}", *command], capture_output=True, text=True, check=False, timeout=30
        )
        assert not ok or done.returncode == 0, f"{' '.join(command)}: {done.stderr or done.stdout}"
        return done.stdout

    def ip(self, command: str) -> str:
        return self.run("ip", *command.split())

    def ip_json(self, command: str) -> list[dict[str, Any]]:
        inside = ["nsenter", f"--net={self.path}", "ip", "-json", *command.split()]
        done = subprocess.run(inside, capture_output=True, text=True, check=False, timeout=30)
        # `ip` fails where it is asked for a link or a table that does not exist.
        return [entry for entry in json.loads(done.stdout or "[]") if entry] if done.returncode == 0 else []

    def link(self, name: str) -> dict[str, Any]:
        found = self.ip_json(f"-d link show dev {name}")
        assert found, f"no link {name} in {self.links()}"
        return found[0]

    def links(self) -> list[str]:
        return sorted(entry["ifname"] for entry in self.ip_json("link"))

    def addresses(self, name: str) -> list[str]:
        found = self.ip_json(f"addr show dev {name}")
        return [
            f"{entry['local']}/{entry['prefixlen']}"
            for link in found
            for entry in link["addr_info"]
            if not entry["local"].startswith("fe80:")
        ]

    def routes(self, *, table: str = "main") -> list[dict[str, Any]]:
        found = self.ip_json(f"-4 route show table {table}") + self.ip_json(f"-6 route show table {table}")
        return [entry for entry in found if not str(entry["dst"]).startswith(("fe80:", "ff00:"))]

    def nft(self) -> list[dict[str, Any]]:
        return json.loads(self.run("nft", "-j", "list", "ruleset"))["nftables"]

    def rules(self, chain: str) -> list[dict[str, Any]]:
        return [entry["rule"] for entry in self.nft() if entry.get("rule", {}).get("chain") == chain]

    def can_filter_vlans(self) -> bool:
        command = [
            "nsenter",
            f"--net={self.path}",
            "ip",
            "link",
            "add",
            "vlans",
            "type",
            "bridge",
            "vlan_filtering",
            "1",
        ]
        made = subprocess.run(command, capture_output=True, check=False).returncode == 0
        if made:
            self.ip("link del vlans")
        return made

    def sysctl(self, key: str) -> str:
        return self.run("cat", f"/proc/sys/{key}").strip()

    def pings(self, address: str) -> bool:
        """Whether an answer comes; the first packet may get lost while the neighbour's address is asked for."""
        return self._ping(address, wait="1") or self._ping(address, wait="1")

    def hears_nothing_from(self, address: str) -> bool:
        """Whether no answer comes to a packet, where one would come at once."""
        return not self._ping(address, wait="0.4")

    def _ping(self, address: str, *, wait: str) -> bool:
        command = ["nsenter", f"--net={self.path}", "ping", "-n", "-c1", f"-W{wait}", address]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def state(self, *, without: str = "") -> dict[str, Any]:
        """What a failed ADD must not change: links, addresses, routes, rules; `without` one link itself."""
        links = self.ip_json("-d addr")
        rules = [entry for entry in self.nft() if "rule" in entry and entry["rule"]["chain"] != "postrouting"]
        chains = [
            entry for entry in self.nft() if entry.get("chain", {}).get("name", "").startswith(("cni-br", "CNI-"))
        ]
        return {
            "links": sorted(link["ifname"] for link in links if link["ifname"] != without),
            "addresses": {
                (link["ifname"], entry["local"], entry["prefixlen"])
                for link in links
                for entry in link["addr_info"]
                if not entry["local"].startswith("fe80:")
            },
            "routes": sorted(
                json.dumps(entry, sort_keys=True)
                for entry in self.routes(table="all")
                if entry.get("table") != "local" or entry.get("dev") != without
            ),
            "rules": rules,
            "chains": chains,
        }


@dataclass(frozen=True)
class FakeIpam:
    """An executable IPAM plugin that answers ADD with a fixed result, and notes how it was called."""

    directory: Path
    kind: str = "fake-ipam"

    def answers(self, **result: Any) -> dict[str, Any]:
        """The `ipam` of a configuration for which it gives this result."""
        text = json.dumps({"cniVersion": "1.1.0"} | result)
        script = f'#!/bin/sh\necho "$CNI_COMMAND" >>{self.log}\n[ "$CNI_COMMAND" != ADD ] || cat <<"."\n{text}\n.\n'
        executable = self.directory / self.kind
        executable.write_text(script)
        executable.chmod(0o755)
        return {"type": self.kind}

    @property
    def log(self) -> Path:
        return self.directory / "calls"

    def calls(self) -> list[str]:
        return self.log.read_text().split() if self.log.exists() else []


@dataclass
class Runtime:
    """Calls a delegate in the host's namespace, as a runtime does, but in this process."""

    host: Namespace
    sandbox: Namespace
    data_dir: Path
    kind: str
    container_id: str = "c1"
    path: tuple[str, ...] = (REFERENCE,)
    """CNI_PATH."""

    external: frozenset[str] = frozenset() if BUILT_IN_IPAM else frozenset({"host-local"})

    def conf(self, **keys: Any) -> dict[str, Any]:
        """A configuration of the network "net"."""
        return {"cniVersion": "1.1.0", "name": "net", "type": self.kind} | keys

    def ipam(self, *subnets: str, **keys: Any) -> dict[str, Any]:
        """An `ipam` that leases one address of each subnet."""
        ranges = [[{"subnet": subnet}] for subnet in subnets]
        return {"type": "host-local", "dataDir": str(self.data_dir), "ranges": ranges} | keys

    def request(self, command: str, conf: dict[str, Any], **fields: Any) -> Request:
        given = {
            "command": command,
            "container_id": self.container_id,
            "netns": self.sandbox.path,
            "ifname": "eth0",
            "path": self.path,
            "environ": dict(os.environ),
            "external": self.external,
        }
        return Request(**given | fields).with_conf(conf)

    def call(self, command: str, conf: dict[str, Any], **fields: Any) -> Result | None:
        request = self.request(command, conf, **fields)
        # Only the meta plugin says what is `external`; a runtime cannot.
        serve = by_daemon.call if by_daemon.WANTED and not request.external else invoke.call
        return netns.run_inside(self.host.path, partial(serve, self.kind, request))

    def add(self, conf: dict[str, Any], **fields: Any) -> Result:
        result = self.call("ADD", conf, **fields)
        assert result is not None
        return result

    def delete(self, conf: dict[str, Any], **fields: Any) -> None:
        self.call("DEL", conf, **fields)

    def check(self, conf: dict[str, Any], result: Result | None, **fields: Any) -> None:
        previous = {} if result is None else {"prevResult": convert.encode(result, conf["cniVersion"])}
        self.call("CHECK", conf | previous, **fields)

    def gc(self, conf: dict[str, Any], *valid: tuple[str, str]) -> None:
        attachments = [{"containerID": container_id, "ifname": ifname} for container_id, ifname in valid]
        fields = {"container_id": "", "netns": "", "ifname": ""}
        self.call("GC", conf | {"cni.dev/valid-attachments": attachments}, **fields)

    def fails(self, command: str, conf: dict[str, Any], **fields: Any) -> CNIError:
        """The error that a call gives."""
        with pytest.raises(CNIError) as caught:
            self.call(command, conf, **fields)
        return caught.value

    def port(self, alias: str = "plexus:net:c1:eth0") -> str:
        """The name of the host's end that has this alias."""
        return next(link["ifname"] for link in self.host.ip_json("link") if link.get("ifalias") == alias)

    def leases(self) -> list[str]:
        """The addresses that host-local has given out."""
        found = (path.name for path in self.data_dir.glob("*/*"))
        return sorted(name for name in found if name != "lock" and not name.startswith("last_reserved"))

    def state(self, *, without: str = "") -> list[Any]:
        """All that a failed ADD must leave as it was."""
        return [self.host.state(without=without), self.sandbox.state(), self.leases()]


@dataclass
class Failing:
    """Makes one change to the kernel fail: the one with number `at`."""

    at: int
    seen: int = 0
    failed: str = ""

    def change(self, what: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.seen += 1
        if self.seen == self.at:
            self.failed = what
            raise KernelFailure(f"could not {what}", "it was made to fail", errno=5)
        return REAL_CHANGE(what, call, *args, **kwargs)


@contextlib.contextmanager
def fail_at(step: int) -> Iterator[Failing]:
    """Make the change to the kernel with this number fail, counted from 1 within the block; 0 for none."""
    failing = Failing(step)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "change", failing.change)
        yield failing
