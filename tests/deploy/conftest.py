"""What the tests of deploying have: the bundle, and a host that has nothing."""

import os
from collections.abc import Iterator
from pathlib import Path

import bundled
import pytest
from bundled import BareHost
from installed import tools
from throwaway import Host, throwaway_host


@pytest.fixture(scope="session")
def bundle() -> Path:
    """The bundle, at the place where it was assembled."""
    return bundled.ensure()


@pytest.fixture
def host() -> Iterator[Host]:
    """A host with a network of its own."""
    if os.geteuid() != 0:
        pytest.skip("namespaces need root")
    tools("ip", "nft", "unshare", "nsenter", "chroot")
    with throwaway_host() as host:
        yield host


@pytest.fixture
def bare(host: Host, bundle: Path, tmp_path: Path) -> BareHost:
    """A host with neither Python nor a C library."""
    return BareHost(host, bundled.make_root(tmp_path / "root"), bundle)
