"""The machine that a cluster runs on: network, mounts, processes and control groups are its own.

What runs on it sees an empty /opt, /run and /var/lib, may write to /etc without a trace, and sees of the control groups
only those below one of its own. All of it is gone when the block ends, whatever still runs there.
"""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from installed import PATH
from throwaway import Host

CGROUPS = Path("/sys/fs/cgroup")
UNIFIED = CGROUPS / "unified"
"""Where a machine of control groups version 1 also has version 2, which nothing here uses."""
ADDRESS = "10.99.0.1"
"""Of the node."""
SERVICE = "10.96.0.1"
"""Of the API server, as its service has it: the machine has the address itself, since there is no kube-proxy."""
KEPT_SYSCTLS = ("kernel/panic", "kernel/panic_on_oops", "vm/overcommit_memory", "vm/panic_on_oom")
"""What the kubelet sets for the whole machine: here it sets files that lie over them."""

ENTER_GROUP = """
for group in "$@"; do echo $$ >"$group/cgroup.procs"; done
exec setpriv --pdeathsig KILL \\
    unshare --mount --net --pid --cgroup --ipc --uts --fork --kill-child --mount-proc sh -euc "$BEGIN"
"""
BEGIN = """
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib
mount -t tmpfs tmpfs /var/log
mount --bind "$OPT" /opt
mkdir -p /run/etc/upper /run/etc/work
mount -t overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work overlay /etc
mount -t tmpfs tmpfs /sys/fs/cgroup
if [ "$HIERARCHIES" ]; then
    for hierarchy in $HIERARCHIES; do
        case $hierarchy in systemd) options=none,name=systemd ;; *) options=$hierarchy ;; esac
        mkdir "/sys/fs/cgroup/$hierarchy"
        mount -t cgroup -o "$options" cgroup "/sys/fs/cgroup/$hierarchy"
    done
else
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    mkdir /sys/fs/cgroup/init
    echo 1 >/sys/fs/cgroup/init/cgroup.procs
    for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
        echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
    done
fi
for key in $KEPT_SYSCTLS; do
    mkdir -p "/run/sysctl/${key%/*}"
    cat "/proc/sys/$key" >"/run/sysctl/$key"
    mount --bind "/run/sysctl/$key" "/proc/sys/$key"
done
# The first use mounts /run/netns over itself, which hides the mounts that are there already.
ip netns add first
ip netns delete first
hostname localhost
ip link set lo up
for address in $ADDRESSES; do ip address add "$address/32" dev lo; done
echo ready
exec sleep infinity
"""


def seen(host: Host, path: str) -> Path:
    """Where we see what is a path on the machine."""
    return Path(f"/proc/{host.pid}/root{path}")


@contextlib.contextmanager
def machine(directory: Path) -> Iterator[Host]:
    """Have a machine for the block; its /opt is in the directory, since files in memory count as their writer's."""
    opt = directory / "opt"
    opt.mkdir()
    with _control_groups(f"plexus-tests-{os.getpid()}-{directory.name}") as groups:
        hierarchies = [group.parent.name for group in groups if group.parent != CGROUPS]
        environ = {
            "PATH": PATH,
            "BEGIN": BEGIN,
            "OPT": str(opt),
            "HIERARCHIES": " ".join(hierarchies),
            "KEPT_SYSCTLS": " ".join(KEPT_SYSCTLS),
            "ADDRESSES": f"{ADDRESS} {SERVICE}",
        }
        begin = ["sh", "-euc", ENTER_GROUP, "sh", *map(str, groups)]
        with subprocess.Popen(begin, env=environ, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout
                assert process.stdout.readline() == "ready\n", "the machine did not begin"
                yield Host(process.pid, attended=False)
            finally:
                process.kill()


@contextlib.contextmanager
def _control_groups(name: str) -> Iterator[list[Path]]:
    """Have a control group of this name in each hierarchy for the block."""
    hierarchies = sorted(path.parent for path in CGROUPS.glob("*/cgroup.procs") if path.parent != UNIFIED)
    if (CGROUPS / "cgroup.controllers").exists():
        hierarchies = [CGROUPS]
    groups = [hierarchy / name for hierarchy in hierarchies]
    try:
        for group in groups:
            group.mkdir()
            _open_cpuset(group)
        yield groups
    finally:
        for group in groups:
            _remove(group)


def _open_cpuset(group: Path) -> None:
    """In version 1 a new group has no processors, and cannot take a process, until it is given some."""
    for key in ("cpuset.cpus", "cpuset.mems"):
        if group.parent.name == "cpuset":
            (group / key).write_text((group.parent / key).read_text())


def _remove(group: Path) -> None:
    """Remove a control group and those in it, once the last of their processes has ended."""
    deadline = time.monotonic() + 30
    while group.is_dir():
        below: Sequence[Path] = sorted(path for path in group.rglob("*") if path.is_dir())
        try:
            for path in (*reversed(below), group):
                path.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


JOIN = """
echo $$ >"$0"
for group in /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/init/cgroup.procs; do
    [ ! -e "$group" ] || echo $$ >"$group"
done
exec "$@"
"""
"""Notes the process's ID, and has it be in the machine's control groups, which entering namespaces does not."""


@dataclass
class Service:
    """A program that runs on the machine until it is stopped; its output goes to a file."""

    host: Host
    name: str
    words: Sequence[str]
    log: Path
    environ: dict[str, str]
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; whether it works is for the caller to find out."""
        assert self._process is None, f"{self.name} runs already"
        joining = ["sh", "-euc", JOIN, str(self._pid_file), *self.words]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.host.command(*joining),
                env={"PATH": PATH} | self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def stop(self, signal: str = "TERM") -> None:
        """Have it end by a signal, and wait until it has."""
        assert self._process is not None, f"{self.name} does not run"
        if self._process.poll() is None:
            self.host.call("kill", f"-{signal}", self._pid_file.read_text().strip())
        self._process.wait(timeout=60)
        self._process = None

    def restart(self, signal: str = "TERM") -> None:
        """Stop it and start it again."""
        self.stop(signal)
        self.start()

    def is_running(self) -> bool:
        """Whether it was started, and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def _pid_file(self) -> Path:
        return self.log.with_suffix(".pid")
