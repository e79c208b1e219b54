"""What the tests have that execute plugins on a host of their own."""

import os
from collections.abc import Iterator

import pytest
from installed import tools
from throwaway import Host, throwaway_host


@pytest.fixture
def host() -> Iterator[Host]:
    """The host's side."""
    if os.geteuid() != 0:
        pytest.skip("namespaces need root")
    tools("ip", "tc", "nft", "iptables", "ping", "unshare", "nsenter")
    with throwaway_host() as host:
        yield host


@pytest.fixture
def sandbox(host: Host) -> Host:
    """A container's namespace."""
    return host.namespace("sandbox")
