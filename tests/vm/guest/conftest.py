"""The fixtures of tests/kernel, for tests that need bridge VLAN filtering and VLAN interfaces."""

import contextlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

KERNEL = Path(__file__).parents[2] / "kernel"
sys.path.insert(0, str(KERNEL))

from machine import Namespace, Runtime  # noqa: E402 - it is there


def _load(path: Path) -> ModuleType:
    """Import a conftest under another name than this one's."""
    spec = importlib.util.spec_from_file_location("kernel_fixtures", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fixtures = _load(KERNEL / "conftest.py")
namespace, host, sandbox, bridge = fixtures.namespace, fixtures.host, fixtures.sandbox, fixtures.bridge
reference = fixtures.reference


@pytest.fixture(scope="module")
def machine_for_many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """A runtime for tests that leave nothing behind: two namespaces take half a second where these tests run."""
    host, sandbox = (Namespace(f"px{os.getpid()}-many-{role}") for role in ("host", "sandbox"))
    with contextlib.ExitStack() as made:
        for namespace in (host, sandbox):
            subprocess.run(["ip", "netns", "add", namespace.name], check=True)
            made.callback(subprocess.run, ["ip", "netns", "del", namespace.name], check=True)
        yield Runtime(host, sandbox, tmp_path_factory.mktemp("many") / "networks", "bridge")


@pytest.fixture
def clean_bridge(machine_for_many: Runtime) -> Iterator[Runtime]:
    """A runtime on that machine, where no test finds what another has left."""
    yield machine_for_many
    for namespace in (machine_for_many.host, machine_for_many.sandbox):
        for name in namespace.links():
            if name != "lo":
                namespace.run("ip", "link", "del", name, ok=False)  # a veth may have gone with its peer


@pytest.fixture
def another(bridge, namespace) -> Callable[..., object]:
    """Make a runtime for one more sandbox on the same host; or, as `apart`, on a host of its own."""

    def make(container_id: str, *, apart: bool = False, external: frozenset[str] = frozenset()):
        host = namespace(f"host-{container_id}") if apart else bridge.host
        data_dir = bridge.data_dir.with_name(container_id) if apart else bridge.data_dir
        sandbox = namespace(container_id)
        return replace(
            bridge, host=host, sandbox=sandbox, container_id=container_id, data_dir=data_dir, external=external
        )

    return make
