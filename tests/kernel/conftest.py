"""Throw-away namespaces that play the host, the sandbox and a neighbour of the machine."""

import itertools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from machine import REFERENCE, FakeIpam, Namespace, Runtime

NEEDED = ("ip", "bridge", "nft", "nsenter", "ping")

numbers = itertools.count(1)


@pytest.fixture(scope="session", autouse=True)
def _a_machine_that_can_run_these() -> None:
    if os.geteuid() != 0:
        pytest.skip("kernel tests need root")
    missing = [tool for tool in NEEDED if not shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")]
    if missing:
        pytest.skip(f"missing tools: {', '.join(missing)}")


@pytest.fixture
def namespace() -> Iterator[Callable[[str], Namespace]]:
    """Make a namespace; it is removed at the end."""
    made: list[Namespace] = []

    def make(role: str) -> Namespace:
        found = Namespace(f"px{os.getpid()}-{next(numbers)}-{role}")
        subprocess.run(["ip", "netns", "add", found.name], check=True)
        made.append(found)
        found.ip("link set lo up")
        return found

    yield make
    for found in made:
        subprocess.run(["ip", "netns", "del", found.name], check=False, capture_output=True)


@pytest.fixture
def host(namespace: Callable[[str], Namespace]) -> Namespace:
    """The machine's side."""
    return namespace("host")


@pytest.fixture
def sandbox(namespace: Callable[[str], Namespace]) -> Namespace:
    """A container's namespace."""
    return namespace("sandbox")


@pytest.fixture
def bridge(host: Namespace, sandbox: Namespace, tmp_path: Path) -> Runtime:
    """A runtime that calls `bridge`."""
    return Runtime(host, sandbox, tmp_path / "networks", "bridge")


@pytest.fixture
def fake_ipam(bridge: Runtime, veth: Runtime, tmp_path: Path) -> FakeIpam:
    """An IPAM plugin that both runtimes find in CNI_PATH."""
    bridge.path = veth.path = (str(tmp_path), REFERENCE)
    return FakeIpam(tmp_path)


@pytest.fixture
def veth(host: Namespace, sandbox: Namespace, tmp_path: Path) -> Runtime:
    """A runtime that calls `veth`."""
    return Runtime(host, sandbox, tmp_path / "networks", "veth")


@pytest.fixture
def outside(host: Namespace, namespace: Callable[[str], Namespace]) -> Namespace:
    """A neighbour of the machine, at 203.0.113.2 and 2001:db8:113::2, that knows no way to any container."""
    found = namespace("outside")
    host.ip(f"link add uplink type veth peer name wire netns {found.name}")
    for where, link, number in ((host, "uplink", 1), (found, "wire", 2)):
        where.run("sh", "-c", f"echo 0 > /proc/sys/net/ipv6/conf/{link}/accept_dad")
        where.ip(f"addr add 203.0.113.{number}/24 dev {link}")
        where.ip(f"addr add 2001:db8:113::{number}/64 dev {link}")
        where.ip(f"link set {link} up")
    return found


@pytest.fixture(scope="session")
def reference() -> Callable[[str], str]:
    """The directory of the reference plugins, if it holds a plugin."""

    def find(plugin: str) -> str:
        if not Path(REFERENCE, plugin).is_file():
            pytest.skip(f"no reference {plugin} in {REFERENCE}: set CNI_REFERENCE_DIR")
        return REFERENCE

    return find
