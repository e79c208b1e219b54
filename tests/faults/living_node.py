"""A node whose containers live on while its state is damaged or its resources run out.

Each call runs in a forked child of its own, in the host's namespace, with a limit to its time. What is seen of the
kernel is read with `ip`.
"""

from __future__ import annotations

import ctypes
import faulthandler
import importlib
import io
import json
import os
import pickle
import pkgutil
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import seen

import delegates
import ipam
from cni import cli, linux, meta
from cni.cli import command
from cni.linux import living
from cni.plugin import skel

LONGEST = 30
"""Seconds for one call; the slowest takes one on a busy machine."""
NETWORKS = ("second", "third")
CODES = {1, 2, 3, 4, 5, 6, 7, 8, 11, 50, 51, 101, 102, 103, 104}
ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")
EXECUTED = """#!/bin/sh
conf=$(cat)
file=$(printf %s "$conf" | sed -n 's/.*"CNIDeviceInfoFile":"\\([^"]*\\)".*/\\1/p')
[ "$CNI_COMMAND" != ADD ] || {{ mkdir -p "${{file%/*}}"; echo '{{"type":"pci","version":"1.1.0"}}' >"$file"; }}
[ "$CNI_COMMAND" != ADD ] || echo '{{"cniVersion":"1.0.0","interfaces":[{{"name":"lo","sandbox":"'$CNI_NETNS'"}}]}}'
"""
"""A plugin that tells of a device, as the NPWG has it."""


def import_all() -> None:
    """Have everything imported that children would import, each for itself."""
    for package in (cli, delegates, ipam, linux, meta):
        for module in pkgutil.iter_modules(package.__path__):
            if not module.name.startswith("_"):
                importlib.import_module(f"{package.__name__}.{module.name}")
    importlib.import_module("yaml")


import_all()


@dataclass(frozen=True)
class Answer:
    """How a call ended."""

    status: int
    out: str
    err: str

    @property
    def error(self) -> dict[str, Any]:
        return json.loads(self.out) if self.status else {}

    @property
    def text(self) -> str:
        return self.out + self.err


class Node:
    """A host with a meta plugin's directories; its pods have a cluster network and three of their own."""

    def __init__(self, directory: Path, **keys: Any) -> None:
        self.directory = directory
        self.name = f"pxf{os.getpid()}-{time.monotonic_ns() % 10**9}"
        self.sandboxes: dict[str, str] = {}
        self.results: dict[str, Any] = {}
        for name in ("manifests", "net.d", "bin"):
            (directory / name).mkdir(parents=True)
        (directory / "bin" / "described").write_text(EXECUTED.format())
        (directory / "bin" / "described").chmod(0o755)
        self.define("second", self.bridge("second", "10.2.0.0/24"))
        self.define("third", self.bridge("third", "10.3.0.0/24", type="veth"))
        self.define(
            "described", {"name": "described", "type": "described", "capabilities": {"CNIDeviceInfoFile": True}}
        )
        self.conf = {
            "cniVersion": "1.1.0",
            "name": "plexus",
            "type": "plexus",
            "manifests": str(directory / "manifests"),
            "cniDir": str(directory / "state"),
            "deviceInfoDir": str(directory / "devinfo"),
            "binDir": str(directory / "bin"),
            "hostPaths": [str(directory)],
            "logFile": str(directory / "log" / "plexus.log"),
            "logLevel": "verbose",
            "logToStderr": False,
            "delegates": [self.bridge("cluster", "10.1.0.0/24", isDefaultGateway=True)],
        } | keys
        listed = {key: value for key, value in self.conf.items() if key not in ("cniVersion", "name")}
        text = json.dumps({"cniVersion": "1.1.0", "name": "plexus", "plugins": [listed]})
        (directory / "net.d" / "10-plexus.conflist").write_text(text)
        self.host = self.namespace("host")

    def bridge(self, name: str, subnet: str, **keys: Any) -> dict[str, Any]:
        ipam = {"type": "host-local", "dataDir": str(self.directory / "leases"), "subnet": subnet}
        return {"cniVersion": "1.0.0", "name": name, "type": "bridge", "bridge": f"br-{name}", "ipam": ipam} | keys

    def define(self, name: str, conf: dict[str, Any]) -> None:
        spec = {"config": json.dumps({"cniVersion": "1.0.0"} | conf)}
        data = {"kind": "NetworkAttachmentDefinition", "metadata": {"name": name}, "spec": spec}
        (self.directory / "manifests" / f"nad-{name}.json").write_text(json.dumps(data))

    def namespace(self, role: str) -> str:
        name = f"{self.name}-{role}"
        subprocess.run(["ip", "netns", "add", name], check=True)
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        return f"/run/netns/{name}"

    def pod(self, name: str, networks: str = "second,third,described") -> None:
        self.sandboxes[name] = self.namespace(name)
        metadata = {"name": name, "annotations": {"k8s.v1.cni.cncf.io/networks": networks}}
        (self.directory / "manifests" / f"pod-{name}.json").write_text(
            json.dumps({"kind": "Pod", "metadata": metadata})
        )

    def close(self) -> None:
        for path in (self.host, *self.sandboxes.values()):
            subprocess.run(["ip", "netns", "del", os.path.basename(path)], check=False, capture_output=True)

    def call(self, verb: str, pod: str = "", **keys: Any) -> Answer:
        """One call of the runtime, in this process, which must be on the host."""
        environ = {"CNI_COMMAND": verb, "CNI_PATH": str(self.directory / "bin"), "PATH": os.environ["PATH"]}
        if pod:
            args = f"IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod}"
            environ |= {
                "CNI_CONTAINERID": pod,
                "CNI_NETNS": self.sandboxes[pod],
                "CNI_IFNAME": "eth0",
                "CNI_ARGS": args,
            }
        if verb in ("DEL", "CHECK") and pod in self.results:
            keys = {"prevResult": self.results[pod]} | keys
        out, err = io.StringIO(), io.StringIO()
        with redirect_stderr(err):
            stdin = io.BytesIO(json.dumps(self.conf | keys).encode())
            status = skel.run("plexus", environ, stdin, out, err)
        return Answer(status, out.getvalue(), err.getvalue())

    def collect(self, *living: str) -> Answer:
        """GC, with the runtime's list."""
        valid = [{"containerID": name, "ifname": "eth0"} for name in living]
        return self.call("GC", **{"cni.dev/valid-attachments": valid})

    def command(self, *words: str) -> Answer:
        """The operator's command, in this process."""
        os.environ["NETCONFPATH"] = str(self.directory / "net.d")
        os.environ["CNI_PATH"] = str(self.directory / "bin")
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            status = command.main([*words, "--cache-dir", str(self.directory / "cache")])
        return Answer(status, out.getvalue(), err.getvalue())

    def run(self, work: Callable[[], Any], *, longest: float = LONGEST) -> Any:
        """What `work` returns, of a child that is on the host; fails where it takes too long."""
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            _be_child(self.host, work, writing)
        os.close(writing)
        content = b""
        try:
            end = time.monotonic() + longest
            while select.select([reading], [], [], max(0.0, end - time.monotonic()))[0]:
                more = os.read(reading, 1 << 20)
                content += more
                if not more:
                    break
            else:
                os.kill(pid, signal.SIGUSR1)  # has it tell where it is
                time.sleep(0.5)
                os.kill(pid, signal.SIGKILL)
                raise AssertionError(f"a call took more than {longest} seconds: {os.read(reading, 1 << 20).decode()}")
        finally:
            os.close(reading)
            os.waitpid(pid, 0)
        assert content, "the child died without an answer"
        value = pickle.loads(content)
        if isinstance(value, BaseException):
            raise value
        return value

    def add(self, pod: str) -> Answer:
        """ADD, whose result is told to CHECK and DEL."""
        answer = self.run(lambda: self.call("ADD", pod))
        if not answer.status:
            self.results[pod] = json.loads(answer.out)
        return answer

    def addresses(self, pod: str) -> list[str]:
        """What the pod's sandbox has, by `ip`."""
        command = ["ip", "-n", os.path.basename(self.sandboxes[pod]), "-json", "-4", "addr"]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        return sorted(
            f"{link['ifname']} {entry['local']}"
            for link in found
            for entry in link["addr_info"]
            if link["ifname"] != "lo"
        )

    def links(self) -> list[str]:
        """The host's, but for bridges."""
        command = ["ip", "-n", os.path.basename(self.host), "-json", "link"]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        return sorted(link["ifname"] for link in found if not link["ifname"].startswith(("br-", "lo")))

    def tree(self) -> dict[str, str]:
        """Every file below the node's directory, by what it is, with addresses and stamps left out."""
        paths = (path for path in self.directory.rglob("*") if not path.is_dir() or path.is_symlink())
        return {str(path.relative_to(self.directory)): "" for path in paths}


def _be_child(host: str, work: Callable[[], Any], writing: int) -> None:
    """Do the work and tell; never returns."""
    status = 1
    try:
        faulthandler.register(signal.SIGUSR1, file=os.fdopen(os.dup(writing), "wb"), all_threads=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        enter(host)
        living.network_namespaces = seen.network_namespaces
        try:
            value = work()
        except BaseException as error:  # noqa: BLE001 - the parent raises it
            value = AssertionError(f"{type(error).__name__}: {error}")
            value.__cause__ = None
        with os.fdopen(writing, "wb", closefd=False) as file:
            pickle.dump(value, file)
        status = 0
    finally:
        sys.stdout = sys.stderr = io.StringIO()
        os._exit(status)


def enter(host: str) -> None:
    """Be on the host, with mounts that nobody else sees."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(host, os.O_RDONLY)
    assert libc.setns(descriptor, 0) == 0, os.strerror(ctypes.get_errno())
    os.close(descriptor)
