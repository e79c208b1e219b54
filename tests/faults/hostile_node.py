"""A node on which somebody lives, and a tenant who may write definitions and annotations, and nothing else."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bad_delegates import RESULT, Answer, BadNode
from machine import Namespace

SPY = """#!/bin/sh
[ $CNI_COMMAND != DEL ] || {{ cat >/dev/null; exit 0; }}
cat >{told}.$CNI_COMMAND
env >{environ}
[ $CNI_COMMAND != ADD ] || echo '{result}'
"""
HARMLESS = ("/proc/", "/dev/", "/run/xtables.lock")
"""Where a call writes besides: sysctls of a namespace, which are compared by themselves."""


class Watch:
    """Sees which files this process makes, writes or removes: Python tells of each."""

    TOLD = ("os.mkdir", "os.rename", "os.remove", "os.link", "os.symlink", "os.chmod", "os.chown", "os.rmdir")

    def __init__(self) -> None:
        self.allowed: tuple[str, ...] = ()
        self.active = False
        self.seen: list[str] = []
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: Any) -> None:
        if not self.active:
            return
        if event in self.TOLD or (event == "open" and self._writes(arguments[2])):
            self._look(event, arguments[0])

    def _writes(self, flags: Any) -> bool:
        return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))

    def _look(self, event: str, path: Any) -> None:
        if isinstance(path, int) or "/" not in os.fsdecode(path):
            return  # relative to a descriptor; or to the working directory, which is looked at afterwards
        text = os.path.abspath(os.fsdecode(path))
        if not text.startswith((*HARMLESS, *self.allowed)):
            self.seen.append(f"{event} {text}")

    @contextmanager
    def only_below(self, *allowed: Path) -> Iterator[None]:
        """Assert that the block writes nowhere else."""
        self.allowed, self.seen, self.active = tuple(f"{path}" for path in allowed), [], True
        try:
            yield
        finally:
            self.active = False
        assert self.seen == [], self.seen


WATCH = Watch()


class HostileNode(BadNode):
    """The host has an uplink, and one container that lives, on the cluster network and on a bridge of its own."""

    def __init__(self, host: Namespace, sandbox: Namespace, survivor: Namespace, directory: Path) -> None:
        super().__init__(host, sandbox, directory)
        self.survivor = survivor
        self.told, self.told_environ = directory / "told", directory / "environ"
        self.write("spy", SPY.format(told=self.told, environ=self.told_environ, result=RESULT))
        cluster = self.bridge("cluster", "cni0", "10.244.0.0/24", isDefaultGateway=True, ipMasq=True)
        self.conf |= {"delegates": [cluster], "hostPaths": [str(directory / "leases")]}
        host.ip("link add uplink type veth peer name wire")
        host.ip("addr add 203.0.113.1/24 dev uplink")
        host.ip("link set uplink up")
        host.ip("route add default via 203.0.113.254")
        host.ip("link set wire up")
        host.ip("link add spare type veth peer name spare-wire")
        assert self.call_for(survivor, "ADD").status == 0

    def ask(self, definition: Any, selection: dict[str, Any] | str | None = None) -> None:
        """Have the tenant's pod want a network of this definition; or whatever the annotation says."""
        self.define("evil", definition)
        asked = [{"name": "evil"} | selection] if isinstance(selection, dict) else selection or "evil"
        self.run(asked)

    def network(self, **keys: Any) -> dict[str, Any]:
        """A definition that would do, but for the keys."""
        return self.bridge("evil", "evil0", "10.66.0.0/24") | keys

    def ipam(self, **keys: Any) -> dict[str, Any]:
        return {"type": "host-local", "dataDir": str(self.directory / "leases")} | keys

    def call(self, verb: str, **keys: Any) -> Answer:
        with WATCH.only_below(self.directory / "state", self.directory / "leases", self.log):
            return super().call(verb, **keys)

    def everybody_elses(self) -> dict[str, Any]:
        """The host but for bridges that were made for the tenant, the survivor, and what is remembered of him."""
        links = self.host.ip_json("-d addr")
        tenants = {link["ifname"] for link in links if link.get("ifalias") == "plexus:bridge"} - {"cni0"}
        lasting = ("ifname", "address", "mtu", "flags", "addr_info", "ifalias", "master", "promiscuity", "link_netnsid")
        shown = [{key: link.get(key) for key in lasting} for link in links if link["ifname"] not in tenants]
        for link in shown:
            link["addr_info"] = [
                (entry["local"], entry["prefixlen"]) for entry in link["addr_info"] if entry["scope"] == "global"
            ]
        state = self.directory / "state" / "containers"
        return {
            "host": shown,
            "routes": [route for route in self.host.routes() if route.get("dev") not in tenants],
            "rules": [rule["expr"] for rule in self.host.rules("postrouting")],
            "survivor": [
                (link["ifname"], link["address"], link["flags"], [entry["local"] for entry in link["addr_info"]])
                for link in self.survivor.ip_json("addr")
            ],
            "his routes": self.survivor.routes(),
            "his leases": [str(path) for path in self.leases() if path.read_text().startswith("c0")],
            "records": {path.name: path.read_text() for path in state.glob("c0@*")},
            "files": sorted(str(path) for path in self.directory.rglob("*") if self._is_others(path)),
        }

    def leases(self) -> list[Path]:
        return [path for path in (self.directory / "leases").rglob("*") if path.name[0].isdigit()]

    def left(self) -> list[str]:
        """What there is of the tenant's pod."""
        links = [link["ifname"] for link in self.host.ip_json("link") if ":c1:" in link.get("ifalias", "")]
        leases = [str(path) for path in self.leases() if path.read_text().startswith("c1")]
        return [*links, *leases, *([str(self.record)] if self.record.exists() else [])]

    def spied(self, verb: str = "ADD") -> dict[str, Any]:
        """What the executed plugin was told."""
        found: dict[str, Any] = json.loads(Path(f"{self.told}.{verb}").read_text())
        return found

    def _is_others(self, path: Path) -> bool:
        places = [self.directory / name for name in ("state", "leases", "manifests")]
        mine = (self.log, self.told, self.told_environ)
        return not any(str(path).startswith(str(place)) for place in (*places, *mine))
