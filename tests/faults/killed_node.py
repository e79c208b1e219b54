"""A node with a pod that lives and one that is to be killed over, as a runtime sees it, and all that is there of both.

It is for the first process of namespaces of its own, which has everything loaded: each call is a fork of it.
"""

import json
import os
import posix
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cni.node import launcher
from cni.plugin import lock
from ipam import index

REFERENCE = os.environ.get("CNI_REFERENCE_DIR") or "/usr/lib/cni"
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
BRIDGES = {"cluster": "br-cluster", "guarded": "br-guarded"}
GATEWAYS = {"cluster": ("10.1.0.1", "fd00:1::1"), "guarded": ("10.2.0.1",), "cable": (), "routed": ("10.4.0.1",)}
"""As a sandbox sees them."""
MEMORY = ("lock", "last_reserved_ip.0", "last_reserved_ip.1", lock.NAME)
"""Where host-local was and how calls take turns; not who has what."""
OF_LINKS = ("fe80:", "ff00:")
"""Addresses that the kernel gives each link when it thinks fit."""
SHOWN = 3000


@dataclass
class Called:
    """A process of plexus."""

    pid: int
    gate: int
    stdout: int
    stderr: int
    status: int | None = None
    reader: int | None = None
    """Where its output goes to a pipe: who reads it."""

    def begin(self) -> None:
        """Let it go on from its very beginning."""
        os.close(self.gate)

    def hang_up(self) -> None:
        """Have nobody read its output any more."""
        if self.reader is not None:
            os.close(self.reader)

    def end(self) -> "Called":
        """Wait for it."""
        self.status = os.waitpid(self.pid, 0)[1]
        return self

    @property
    def answer(self) -> dict[str, Any]:
        return json.loads(_content(self.stdout) or b"{}")

    @property
    def why(self) -> str:
        """How it ended, and what it said."""
        said = (_content(self.stdout) + _content(self.stderr)).decode(errors="replace")
        return f"status {self.status}: {said[-SHOWN:]}"

    def close(self) -> None:
        os.close(self.stdout)
        os.close(self.stderr)


@dataclass(frozen=True)
class Container:
    """One that a runtime has made for a pod."""

    name: str
    pod: str
    sandbox: str

    @property
    def netns(self) -> str:
        return f"/run/netns/{self.sandbox}"


class Node:
    """Directories, configuration, two pods."""

    def __init__(self, directory: Path, networks: list[str]) -> None:
        self.directory = directory
        self.gateways = [gateway for network in networks for gateway in GATEWAYS[network]]
        self.socket = f"{directory}/plexus.sock"
        manifests = directory / "manifests"
        for made in (directory, manifests, directory / "net.d"):
            made.mkdir()
        for name in networks[1:]:
            self._write(manifests / f"{name}.json", "NetworkAttachmentDefinition", name, spec=self.network(name))
        for number, pod in enumerate(("stays", "dies"), 1):
            asked = [{"name": name} | self._asked(name, number) for name in networks[1:]]
            self._write(manifests / f"{pod}.json", "Pod", pod, {"k8s.v1.cni.cncf.io/networks": json.dumps(asked)})
        self.conf = {
            "cniVersion": "1.1.0",
            "name": "plexus",
            "type": "plexus",
            "manifests": str(manifests),
            "cniDir": f"{directory}/state",
            "hostPaths": [str(directory)],
            "binDir": REFERENCE,
            "external": ["ptp"],
            "delegates": [self.network(networks[0])],
        }
        (directory / "net.d" / "10-plexus.conf").write_text(json.dumps(self.conf))

    def network(self, name: str) -> dict[str, Any]:
        conf: dict[str, Any] = {
            "cluster": {"type": "bridge", "isDefaultGateway": True, "ipMasq": True},
            "guarded": {"type": "bridge", "isGateway": True, "macspoofchk": True, "capabilities": {"mac": True}},
            "cable": {"type": "veth"},
            "routed": {"type": "ptp"},
        }[name]
        number = ("cluster", "guarded", "cable", "routed").index(name) + 1
        subnets = [f"10.{number}.0.0/24", *([f"fd00:{number}::/64"] if name == "cluster" else [])]
        ranges = [[{"subnet": subnet}] for subnet in subnets]
        ipam = {"type": "host-local", "dataDir": f"{self.directory}/leases", "ranges": ranges}
        bridge = {"bridge": BRIDGES[name]} if name in BRIDGES else {}
        return {"cniVersion": "1.0.0", "name": name, "ipam": ipam} | bridge | conf

    def _asked(self, network: str, number: int) -> dict[str, Any]:
        return {"mac": f"02:00:00:00:00:{number:02x}"} if network == "guarded" else {}

    def _write(self, path: Path, kind: str, name: str, annotations: Any = None, spec: Any = None) -> None:
        metadata = {"name": name, "namespace": "default", "annotations": annotations or {}}
        path.write_text(json.dumps({"kind": kind, "metadata": metadata, "spec": {"config": json.dumps(spec)}}))

    def call(
        self, verb: str, container: Container, told: Mapping[str, Any] | None = None, *, by_pipe: bool = False
    ) -> Called:
        """Have a launcher ready to call the plugin; the runtime has been `told` this result by its ADD."""
        environ = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": container.name,
            "CNI_NETNS": container.netns,
            "CNI_IFNAME": "eth0",
            "CNI_PATH": REFERENCE,
            "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={container.pod}",
        }
        return self._process([], environ, json.dumps(self.conf | ({"prevResult": told} if told else {})), by_pipe)

    def clean_up(self) -> Called:
        """Have `plexus gc` ready; there is nobody who is only just beginning, so it need not wait between its looks."""
        words = ["gc", "--grace", "0", "-o", "json", "--cache-dir", f"{self.directory}/cache"]
        return self._process(words, {"NETCONFPATH": f"{self.directory}/net.d"}, "")

    def _process(self, words: list[str], environ: Mapping[str, str], stdin: str, by_pipe: bool = False) -> Called:
        gate, ours = os.pipe()
        given, stderr = (os.memfd_create(name) for name in ("stdin", "stderr"))
        reader, stdout = os.pipe() if by_pipe else (None, os.memfd_create("stdout"))
        os.write(given, stdin.encode())
        os.lseek(given, 0, os.SEEK_SET)
        pid = os.fork()
        if not pid:
            for descriptor in filter(None, (ours, reader)):
                os.close(descriptor)
            os.read(gate, 1)
            for number, descriptor in enumerate((given, stdout, stderr)):
                os.dup2(descriptor, number)
            _be_launcher(words, {"PATH": PATH} | environ, self.socket)
        os.close(gate)
        os.close(given)
        return Called(pid, ours, stdout, stderr, reader=reader)

    def add_sandbox(self, name: str) -> None:
        run("ip", "netns", "add", name)
        run("ip", "-n", name, "link", "set", "lo", "up")

    def pings(self, container: Container) -> list[str]:
        """Those that a container does not reach, of who it should."""
        ping = ["nsenter", f"--net={container.netns}", "ping", "-n", "-c1", "-W5"]
        return [to for to in self.gateways if subprocess.run([*ping, to], capture_output=True, check=False).returncode]

    def addresses(self, container: Container) -> set[str]:
        links = json.loads(run("ip", "-n", container.sandbox, "-json", "addr"))
        return {entry["local"] for link in links for entry in link["addr_info"] if entry["scope"] == "global"}

    def host_links(self) -> list[str]:
        return [link["ifname"] for link in json.loads(run("ip", "-json", "link"))]

    def inside(self, container: Container) -> list[Any]:
        """What there is in a sandbox."""
        return _links_and_routes("-n", container.sandbox)

    def state(self) -> dict[str, Any]:
        """All that attachments can leave on the host: links, addresses, routes, rules, files."""
        links, routes = _links_and_routes()
        ruleset = json.loads(run("nft", "-j", "list", "ruleset"))["nftables"]
        rules = [json.dumps(_without_handles(entry), sort_keys=True) for entry in ruleset if "metainfo" not in entry]
        return {"links": links, "routes": routes, "rules": sorted(rules), "files": self.files()}

    def files(self) -> dict[str, str]:
        """The content of every file of state, the temporary ones too."""
        index_suffix = Path(index.path_of("/x")).suffix
        found = [path for name in ("state", "leases", "cache") for path in (self.directory / name).rglob("*")]
        kept = [path for path in found if path.is_file() and path.name not in MEMORY and path.suffix != index_suffix]
        return {str(path.relative_to(self.directory)): path.read_text(errors="replace") for path in kept}


def run(*words: str) -> str:
    done = subprocess.run(words, env={"PATH": PATH}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout


def _be_launcher(words: list[str], environ: Mapping[str, str], socket: str) -> None:
    """Be a process that has just been executed with these arguments and variables; it ends."""
    status = 1
    try:
        os.environ.clear()
        os.environ.update(environ)
        posix.environ.clear()
        posix.environ.update({os.fsencode(name): os.fsencode(value) for name, value in environ.items()})
        sys.argv = ["plexus", *words]
        launcher.GRACE = launcher.SILENCE = 60.0  # a daemon that is traced is slow, and tells of its end all the same
        status = launcher.main("plexus", socket)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _links_and_routes(*where: str) -> list[Any]:
    commands = "addr show\nroute show table all\n"
    done = subprocess.run(
        ["ip", *where, "-json", "-d", "-batch", "-"],
        input=commands,
        env={"PATH": PATH},
        capture_output=True,
        text=True,
        check=True,
    )
    links, routes = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("["))
    told = [_route(route) for route in routes if not route["dst"].startswith(OF_LINKS)]
    return [sorted(map(_link, links)), sorted(json.dumps(route, sort_keys=True) for route in told)]


def _link(link: Mapping[str, Any]) -> str:
    told = [link.get(key) for key in ("ifname", "ifalias", "master", "mtu", "promiscuity", "group")]
    local = [entry for entry in link["addr_info"] if not entry["local"].startswith(OF_LINKS)]
    addresses = sorted(f"{entry['local']}/{entry['prefixlen']}" for entry in local)
    return json.dumps([*told, sorted(link["flags"]), addresses])


def _route(route: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in route.items() if key not in ("flags", "expires", "cache")}


def _without_handles(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_handles(inside) for key, inside in value.items() if key != "handle"}
    return [_without_handles(inside) for inside in value] if isinstance(value, list) else value


def _content(descriptor: int) -> bytes:
    return os.pread(descriptor, 1 << 20, 0)
