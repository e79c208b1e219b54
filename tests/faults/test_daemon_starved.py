"""A daemon without memory, or without descriptors: launchers finish alone, and nothing is lost or done twice.

The daemon declines what it cannot serve, or is killed over it; it never answers that all is well with less than all.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from comparison import columns
from installed import tools
from node_daemon import until
from pieces import ALL, Daemons, Node
from throwaway import Host, throwaway_host

NIGHTLY = os.environ.get("PLEXUS_TESTS_NIGHTLY") == "1"
CALLERS = 4
LARGE = "x" * (6 << 20)
"""What nobody reads; it is some memory."""
MEBIBYTE = 1 << 20
CGROUPS = Path("/sys/fs/cgroup")
DESCRIPTORS = range(30) if NIGHTLY else range(0, 30, 3)
"""How many a daemon may have besides those that it has."""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")


@pytest.fixture
def host() -> Iterator[Host]:
    tools("ip", "openssl", "unshare", "nsenter")
    with throwaway_host() as host:
        yield host


@pytest.fixture
def node(host: Host, tmp_path: Path) -> Iterator[Node]:
    made = Node(host, tmp_path)
    made.put_all({})
    yield made
    made.api.stop()


@pytest.fixture
def daemons(node: Node, tmp_path: Path) -> Iterator[Daemons]:
    made = Daemons(node, tmp_path / "daemons")
    yield made
    made.close()


@pytest.fixture
def dependent(node: Node, tmp_path: Path) -> Path:
    """Launchers that do not work alone, to see whether the daemon serves."""
    made = tmp_path / "dependent"
    made.mkdir()
    return columns.install(made, columns.DEPENDENT, called=str(node.bin_dir))


@contextlib.contextmanager
def little_memory(pid: int) -> Iterator[None]:
    """Have a control group that lets the process have hardly any memory more than it has, and the kernel kill it."""
    version_1 = CGROUPS / "memory" / "cgroup.procs"
    parent, limit = (version_1.parent, "memory.limit_in_bytes") if version_1.exists() else (CGROUPS, "memory.max")
    group = parent / f"plexus-tests-starved-{os.getpid()}"
    group.mkdir()
    try:
        if not (group / limit).exists():
            pytest.skip("this kernel has no memory controller for the control groups that can be made here")
        (group / limit).write_text(str(MEBIBYTE))
        (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        until(lambda: not (group / "cgroup.procs").read_text().split())
        group.rmdir()


def is_dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1] in ("Z", "X")
    except OSError:
        return True


def come_and_go(node: Node, sandbox: Host, number: int, **keys: str) -> None:
    """Have a container with all of its networks, and then nothing of it any more."""
    added = node.call("ADD", f"container{number}", sandbox=sandbox, **keys)
    assert added.code == 0, added.data
    assert sandbox.links() == ALL
    deleted = node.call("DEL", f"container{number}", sandbox=sandbox, **keys)
    assert (deleted.code, sandbox.links()) == (0, ["lo"]), deleted.data


def crowd(node: Node) -> None:
    """Have several containers at the same time, whose configurations take some memory to read."""
    sandboxes = [node.host.namespace(f"crowd{number}") for number in range(CALLERS)]
    with ThreadPoolExecutor(CALLERS) as threads:
        list(threads.map(lambda number: come_and_go(node, sandboxes[number], number, padding=LARGE), range(CALLERS)))


def test_a_daemon_that_the_kernel_kills_for_its_memory_loses_nothing(node: Node, daemons: Daemons, dependent: Path):
    daemons.have("live")
    come_and_go(node, node.sandbox, 100)
    with little_memory(daemons.pid):
        crowd(node)
        until(lambda: is_dead(daemons.pid))
    daemons.pid = 0
    assert node.left() == []
    daemons.have("live")
    assert node.call("STATUS", bin_dir=dependent).code == 0


def test_a_daemon_that_gets_no_memory_any_more_leaves_launchers_to_themselves_and_serves_on(
    node: Node, daemons: Daemons, dependent: Path
):
    daemons.have("live")
    come_and_go(node, node.sandbox, 100)
    unlimited = resource.prlimit(daemons.pid, resource.RLIMIT_AS)
    status = Path(f"/proc/{daemons.pid}/status").read_text()
    size = int(status.partition("VmSize:")[2].split()[0]) << 10
    for more in (MEBIBYTE, 8 * MEBIBYTE, 20 * MEBIBYTE):
        resource.prlimit(daemons.pid, resource.RLIMIT_AS, (size + more, unlimited[1]))
        come_and_go(node, node.sandbox, more, padding=LARGE)
    assert not is_dead(daemons.pid)
    resource.prlimit(daemons.pid, resource.RLIMIT_AS, unlimited)
    assert node.left() == []
    assert node.call("STATUS", bin_dir=dependent).code == 0


def test_a_daemon_without_descriptors_declines_or_serves_and_serves_again(
    node: Node, daemons: Daemons, dependent: Path
):
    daemons.have("live")
    come_and_go(node, node.sandbox, 100)
    usual = resource.prlimit(daemons.pid, resource.RLIMIT_NOFILE)
    for more in DESCRIPTORS:
        highest = max(map(int, os.listdir(f"/proc/{daemons.pid}/fd")))
        resource.prlimit(daemons.pid, resource.RLIMIT_NOFILE, (highest + 1 + more, usual[1]))
        come_and_go(node, node.sandbox, more)
    assert not is_dead(daemons.pid)
    resource.prlimit(daemons.pid, resource.RLIMIT_NOFILE, usual)
    assert node.left() == []
    assert node.call("STATUS", bin_dir=dependent).code == 0
