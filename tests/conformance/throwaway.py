"""A host of its own: network, mounts and processes are private, and all of it is gone when the block ends.

Whatever writes to /run or /var/lib there (libcni's cache, the plugins' state, names of namespaces) writes to an empty
tmpfs, so that nothing of the machine is seen or touched, and tests run in parallel. With PLEXUS_TESTS_DAEMON=1 there
is a node daemon on each for the launchers of a test.
"""

import atexit
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import installed
from installed import DAEMON_WANTED, PATH
from node_daemon import Nursery

BEGIN = """
# crun refuses a machine that has both versions of cgroups.
if mountpoint --quiet /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi
mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib && ip link set lo up && echo ready && exec sleep infinity
"""
SERVER = """
import socket, sys
server = socket.create_server(("", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
while True:
    connection, peer = server.accept()
    connection.sendall(f"you are {peer[0].removeprefix('::ffff:')}".encode())
    connection.close()
"""
CLIENT = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=float(sys.argv[3])) as connection:
    print(connection.recv(100).decode(), end="")
"""
TIMEOUT = 60


class Daemons:
    """One for each directory of launchers on each host, from the first command on that runs there."""

    def __init__(self) -> None:
        self._nursery: Nursery | None = None
        self._there: set[tuple[int, Path]] = set()

    def attend(self, host: int) -> None:
        """Have them all on the host with this process."""
        for directory in installed.with_launchers:
            if (host, directory) not in self._there and directory.exists():
                self._there.add((host, directory))
                self._born().put(directory / "plexus.sock", host)

    def _born(self) -> Nursery:
        if self._nursery is None:
            self._nursery = Nursery(Path(tempfile.mkdtemp(prefix="plexus-daemons-")))
            atexit.register(self._end)
        return self._nursery

    def _end(self) -> None:
        assert self._nursery
        self._nursery.close()
        shutil.rmtree(self._nursery.notify.parent)


daemons = Daemons()


@dataclass(frozen=True)
class Host:
    """The host's side; a sandbox or a neighbour of it is the same with a namespace's name."""

    pid: int
    name: str = ""
    attended: bool = DAEMON_WANTED
    """Whether it is to have daemons for a test's launchers."""

    @property
    def path(self) -> str:
        """The namespace, as the host's processes name it."""
        return f"/run/netns/{self.name}"

    def command(self, *words: str) -> list[str]:
        """The command line that runs another one here."""
        proc = f"/proc/{self.pid}/ns"
        spaces = {"mount": "mnt", "net": "net", "cgroup": "cgroup", "pid": "pid_for_children"}
        enter = ["nsenter", *(f"--{name}={proc}/{file}" for name, file in spaces.items()), "--"]
        inside = ["nsenter", f"--net={self.path}", "--"] if self.name else []
        return [*enter, *inside, *words]

    def call(
        self, *words: str, stdin: str = "", environ: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        env = {"PATH": PATH} | dict(environ or {})
        if self.attended:
            daemons.attend(self.pid)
        return subprocess.run(
            self.command(*words), input=stdin, env=env, capture_output=True, text=True, check=False, timeout=TIMEOUT
        )

    def run(self, *words: str, stdin: str = "", environ: Mapping[str, str] | None = None) -> str:
        done = self.call(*words, stdin=stdin, environ=environ)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr or done.stdout}"
        return done.stdout

    def ip(self, command: str) -> str:
        return self.run("ip", *command.split())

    def ip_json(self, command: str) -> list[dict[str, Any]]:
        found = self.call("ip", "-json", *command.split())
        # `ip` fails where it is asked for a link or a table that does not exist.
        return [entry for entry in json.loads(found.stdout or "[]") if entry] if found.returncode == 0 else []

    def namespace(self, name: str) -> "Host":
        """Make a namespace on this host."""
        self.run("ip", "netns", "add", name)
        made = Host(self.pid, name, self.attended)
        made.ip("link set lo up")
        return made

    def neighbour(self) -> "Host":
        """Make a neighbour at 203.0.113.2 and 2001:db8:113::2, that knows no way to any sandbox; the host is 1."""
        made = self.namespace("neighbour")
        self.ip("link add uplink type veth peer name wire netns neighbour")
        for host, link, number in ((self, "uplink", 1), (made, "wire", 2)):
            host.ip(f"addr add 203.0.113.{number}/24 dev {link}")
            host.ip(f"addr add 2001:db8:113::{number}/64 dev {link} nodad")
            host.ip(f"link set {link} up")
        return made

    def links(self) -> list[str]:
        return sorted(entry["ifname"] for entry in self.ip_json("link"))

    def link(self, name: str) -> dict[str, Any]:
        return self.ip_json(f"-d link show dev {name}")[0]

    def addresses(self, name: str) -> list[str]:
        found = [entry for link in self.ip_json(f"addr show dev {name}") for entry in link["addr_info"]]
        return [f"{entry['local']}/{entry['prefixlen']}" for entry in found if entry["scope"] == "global"]

    def qdiscs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.run("tc", "-json", "qdisc", "show"))
        return found

    def policy_rules(self) -> list[dict[str, Any]]:
        """Those that choose a routing table, besides the three that every namespace has."""
        found = self.ip_json("-4 rule") + self.ip_json("-6 rule")
        return [rule for rule in found if rule["table"] not in ("local", "main", "default")]

    def firewall(self) -> str:
        """All rules, as each of the tools shows them."""
        return "".join(
            self.run(*words) for words in (["iptables-save"], ["ip6tables-save"], ["nft", "list", "ruleset"])
        )

    def sysctl(self, key: str) -> str:
        return self.run("cat", f"/proc/sys/{key}").strip()

    def files(self, directory: str) -> list[str]:
        """Every file below a directory."""
        return sorted(self.call("find", directory, "-type", "f").stdout.split())

    def pings(self, address: str) -> bool:
        """Whether an answer comes; it may take seconds until an address is settled, as the reference's gateway's."""
        return any(self._ping(address, wait="1") for _ in range(5))

    def hears_nothing_from(self, address: str) -> bool:
        """Whether no answer comes to a packet, where one would come at once."""
        return not self._ping(address, wait="0.4")

    def _ping(self, address: str, *, wait: str) -> bool:
        return self.call("ping", "-n", "-c1", f"-W{wait}", address).returncode == 0

    @contextlib.contextmanager
    def serving(self, port: int) -> Iterator[None]:
        """Tell everybody who connects to the port which address they have, until the host ends."""
        words = self.command(sys.executable, "-IS", "-c", SERVER, str(port))
        with _running(words):
            yield

    def hears(self, address: str, port: int, *, wait: float = 2) -> str:
        """What the server at the address tells, or "" when it cannot be reached."""
        return self.call(sys.executable, "-IS", "-c", CLIENT, address, str(port), str(wait)).stdout


@contextlib.contextmanager
def throwaway_host() -> Iterator[Host]:
    """Have a host for the block; whatever still runs on it at the end is killed."""
    begin = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", BEGIN]
    with _running(begin) as pid:
        yield Host(pid)


@contextlib.contextmanager
def _running(words: list[str]) -> Iterator[int]:
    with subprocess.Popen(words, env={"PATH": PATH}, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "ready\n", "it did not begin"
            yield process.pid
        finally:
            process.kill()
