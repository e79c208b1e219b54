"""Three nodes with small networks, the containers on them, and what must be true of all of it, whatever has happened.

What is expected is kept beside what is there: leases, records, interfaces and rules are read from files and from the
kernel, and compared with what the runtime was told.
"""

from __future__ import annotations

import ipaddress
import itertools
import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mortal_node import PATIENCE, Doors, Node, Outcome, Space, outcome_of

from cni.meta import plugin, reclaim
from cni.meta.reclaim import Reclaimer
from cni.node.cleaner import Cleaner
from cni.node.metrics import Metrics
from cni.node.waiting import Waiting
from cni.spec.request import Request

REFERENCE = Path(os.environ.get("CNI_REFERENCE_DIR") or "/usr/lib/cni")
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
CLUSTER = "10.244.0.0/28"
DEFINITIONS: dict[str, list[dict[str, Any]]] = {
    "red": [
        {"type": "bridge", "bridge": "br-red", "macspoofchk": True, "subnet": "10.1.0.0/29"},
        {"type": "bridge", "bridge": "br-green", "subnet": "10.1.1.0/28"},
    ],
    "blue": [
        {"type": "veth", "subnet": "10.2.0.0/28"},
        {"type": "veth", "ipMasq": True, "mtu": 1400, "subnet": "10.2.0.0/29"},
    ],
    "fabric": [{"type": "ptp", "subnet": "10.3.0.0/29"}],
}
"""What each network's definition may say: at first, and after somebody has changed it."""
EXECUTED = "fabric"
"""The network whose plugin is the reference's, executed, where that is installed."""
LIVING, BROKEN, HALF = "living", "broken", "half"
COUNTED: Counter[str] = Counter()


@dataclass
class Container:
    """A container as its runtime knows it."""

    id: str
    node: Node
    pod: str
    networks: tuple[str, ...]
    space: Space
    state: str = HALF
    """`LIVING`, `BROKEN` (it lives, and somebody deleted one of its ports), or `HALF` done or undone."""

    dead: bool = False
    """Whether its namespace is gone, and no DEL came."""

    result: dict[str, Any] | None = None
    """What the runtime was told, and keeps as libcni does."""

    leases: dict[tuple[str, str], str] = field(default_factory=dict)
    """The owner's interface, by network and address."""

    ports: dict[str, str] = field(default_factory=dict)
    """Its interfaces, and the host's ends of them."""

    @property
    def lives(self) -> bool:
        return self.state != HALF and not self.dead

    @property
    def executed(self) -> bool:
        return EXECUTED in self.networks


class Cluster:
    """All nodes, and what is expected of them."""

    def __init__(self, directory: Path) -> None:
        self.shared = directory / "shared"
        places = {"a": self.shared, "b": self.shared, "c": directory / "own"}
        self.nodes = [
            Node(directory / name, leases=leases, is_shared=leases == self.shared) for name, leases in places.items()
        ]
        self.containers: list[Container] = []
        self.happened: list[str] = []
        self.defined: dict[tuple[str, str], int | None] = {}
        for node in self.nodes:
            conf = {"cniVersion": "1.1.0", "name": "plexus", "plugins": [self.conf(node)]}
            (node.net_d / "10-plexus.conflist").write_text(json.dumps(conf))
            for name in DEFINITIONS:
                self.define(node, name, 0)

    def close(self) -> None:
        for container in self.containers:
            if not container.dead:
                container.space.end()
        for node in self.nodes:
            node.host.end()

    # What the node's administrator wrote

    def conf(self, node: Node, **keys: Any) -> dict[str, Any]:
        cluster = {"cniVersion": "1.1.0", "name": "cluster", "type": "bridge", "bridge": "cni0", "ipMasq": True}
        cluster |= {"isDefaultGateway": True, "ipam": self._ipam(node, CLUSTER)}
        conf = {"cniVersion": "1.1.0", "name": "plexus", "type": "plexus", "manifests": str(node.manifests)}
        conf |= {"cniDir": str(node.state), "binDir": str(REFERENCE), "external": ["ptp"], "delegates": [cluster]}
        return conf | {"hostPaths": [str(node.leases)]} | keys

    def _ipam(self, node: Node, subnet: str) -> dict[str, Any]:
        return {"type": "host-local", "dataDir": str(node.leases), "subnet": subnet}

    def define(self, node: Node, name: str, version: int | None) -> None:
        """Have the definition say something else; with None there is none any more."""
        self.defined[node.name, name] = version
        path = node.manifests / f"nad-{name}.json"
        if version is None:
            path.unlink(missing_ok=True)
            return
        keys = dict(DEFINITIONS[name][version])
        keys["ipam"] = self._ipam(node, keys.pop("subnet"))
        config = json.dumps({"cniVersion": "1.0.0", "name": name} | keys)
        data = {"kind": "NetworkAttachmentDefinition", "metadata": {"name": name}, "spec": {"config": config}}
        path.write_text(json.dumps(data))

    def subnet(self, node: Node, name: str) -> ipaddress.IPv4Network:
        version = self.defined.get((node.name, name))
        return ipaddress.IPv4Network(DEFINITIONS[name][version or 0]["subnet"] if name in DEFINITIONS else CLUSTER)

    # What a runtime does

    def request(self, command: str, container: Container, **fields: Any) -> Request:
        given = {"container_id": container.id, "netns": container.space.path, "ifname": "eth0"} | fields
        given["args"] = f"IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={container.pod}"
        conf = self.conf(container.node) | given.pop("keys", {})
        return Request(command=command, environ={"PATH": PATH}, **given).with_conf(conf)

    def new(self, node: Node, networks: Iterable[str]) -> Container:
        """A container that is about to be added, under the first ID and path that are free, and a pod for it."""
        used = {container.id for container in self.containers}
        name = next(name for number in itertools.count() if (name := f"{node.name}{number}") not in used)
        space = Space(next(path for number in itertools.count() if not (path := node.spaces / f"{number}").exists()))
        container = Container(name, node, f"pod-{name}", tuple(networks), space)
        metadata = {"name": container.pod, "annotations": {"k8s.v1.cni.cncf.io/networks": ",".join(networks)}}
        (node.manifests / f"pod-{name}.json").write_text(json.dumps({"kind": "Pod", "metadata": metadata}))
        self.containers.append(container)
        return container

    def serve(self, node: Node, verb: str, work: Any, doors: Doors | None = None, *, whose: str = "") -> Outcome:
        """Have it done, undisturbed unless something happens at a door."""
        outcome = node.call(lambda: outcome_of(work)) if doors is None else node.cut_off(doors.of(verb), work)
        became = "killed" if outcome.killed else "failed" if outcome.failure else "done"
        how = f" ({doors.how} at a door)" if doors else ""
        COUNTED[f"{verb}{how}: {became}"] += 1
        self.happened.append(f"  {verb} {whose} on {node.name}, {doors or 'undisturbed'}: {became} {outcome.failure}")
        return outcome

    def add(self, container: Container, doors: Doors | None = None) -> Outcome:
        request = self.request("ADD", container)
        outcome = self.serve(container.node, "ADD", lambda: plugin.add(request), doors, whose=container.id)
        if outcome.ok:
            container.state, container.result = LIVING, outcome.result
            self._remember(container)
        return outcome

    def _remember(self, container: Container) -> None:
        """What the container has from now on, by its record: the runtime's own result is that of one network."""
        record = json.loads(self.record_path(container).read_text())
        container.leases, container.ports = {}, {}
        for entry in record["entries"]:
            name, result = json.loads(entry["conf"])["name"], entry["result"]
            for ip in result["ips"]:
                key = name, ip["address"]
                assert not any(key in other.leases for other in self._sharing(container)), f"{key} is given twice"
                container.leases[key] = entry["ifname"]
            outside = [link["name"] for link in result["interfaces"] if not link.get("sandbox")]
            container.ports[entry["ifname"]] = next(name for name in outside if name.startswith("veth"))
        (cluster,) = [address for name, address in container.leases if name == "cluster"]
        assert cluster == container.result["ips"][0]["address"]

    def _sharing(self, container: Container) -> Iterator[Container]:
        """Those who live, and have their addresses from where the container has."""
        for other in self.containers:
            if other is not container and other.lives and other.node.leases == container.node.leases:
                yield other

    def delete(self, container: Container, doors: Doors | None = None, *, netns: str, told: bool) -> Outcome:
        keys = {"prevResult": container.result} if told and container.result else {}
        request = self.request("DEL", container, netns=netns, keys=keys)
        container.state = HALF
        outcome = self.serve(container.node, "DEL", lambda: plugin.delete(request), doors, whose=container.id)
        if outcome.ok:
            self.forget(container, netns)
        return outcome

    def delete_again(self, container: Container, *, told: bool) -> Outcome:
        """Another DEL of a container that is gone, whose namespace is too."""
        keys = {"prevResult": container.result} if told and container.result else {}
        request = self.request("DEL", container, netns="", keys=keys)
        return self.serve(container.node, "DEL again", lambda: plugin.delete(request))

    def forget(self, container: Container, netns: str | None = None) -> None:
        """Nothing is left of it, nor is it waited for any more."""
        if (container.node.state / "unfinished" / self.record_path(container).name).exists():
            self._leave(container)
            return
        assert not (left := self.traces(container)), left
        if not container.dead:
            # Without the namespace the reference's plugins have no way to find their interface.
            assert container.space.links() == set() or (container.executed and netns == "")
            container.space.end()
        self.containers.remove(container)

    def _leave(self, container: Container) -> None:
        """DEL has given up: the runtime takes the sandbox down, and the rest is for `reclaim`."""
        COUNTED["left by DEL"] += 1
        if not container.dead:
            self.die(container)

    def collect(self, node: Node, doors: Doors | None = None) -> Outcome:
        """GC with a list of those who live."""
        mine = [container for container in self.containers if container.node is node]
        valid = [{"containerID": container.id, "ifname": "eth0"} for container in mine if container.lives]
        anybody = Container("", node, "", (), node.host)
        keys = {"cni.dev/valid-attachments": valid}
        request = self.request("GC", anybody, netns="", ifname="", keys=keys)
        outcome = self.serve(node, "GC", lambda: plugin.gc(request), doors)
        if outcome.ok:
            for container in mine:
                if not container.lives:
                    self.forget(container)
        return outcome

    def reclaim(self, node: Node, doors: Doors | None = None, *, by_daemon: bool = False) -> Outcome:
        """What `plexus gc` does, or the daemon from time to time, without a runtime."""
        request = self.request("GC", Container("", node, "", (), node.host), netns="", ifname="")
        environ = {"PATH": PATH, "NETCONFPATH": str(node.net_d)}

        def work() -> None:
            if by_daemon:
                outcomes = Cleaner(0, environ, Metrics(Waiting(1), 1), lambda _: False).clean()
            else:
                outcomes = reclaim.collect(Reclaimer.of(request), 0, lambda _: None)
            assert doors or [outcome for outcome in outcomes if outcome.failure] == []

        outcome = self.serve(node, "reclaim", work, doors, whose="by the daemon" if by_daemon else "")
        if outcome.ok and doors is None:
            for container in [container for container in self.containers if container.node is node and container.dead]:
                self.forget(container)
        return outcome

    # What happens to them

    def die(self, container: Container) -> None:
        """End its namespace, and wait until the kernel has taken its interfaces."""
        inside = json.loads(container.space.run("ip", "-json", "link"))
        ends = {link["link_index"] for link in inside if "link_index" in link}
        container.space.end()
        container.dead = True
        end = time.monotonic() + PATIENCE
        while ends & container.node.host.indices():
            assert time.monotonic() < end, f"{ends} are still there"
            time.sleep(0.005)

    def lose_power(self, node: Node) -> None:
        for container in self.containers:
            if container.node is node and not container.dead:
                container.space.end()
                container.dead = True
        node.lose_power()

    # What must be true

    def record_path(self, container: Container) -> Path:
        return container.node.state / "containers" / f"{container.id}@eth0.json"

    def leases(self, leases: Path) -> dict[tuple[str, str], list[str]]:
        """The owner of each address, as its file says."""
        found = sorted(leases.glob("*/[0-9]*"))
        return {(path.parent.name, path.name): path.read_bytes().decode().split("\r\n") for path in found}

    def traces(self, container: Container) -> list[str]:
        """What files have of a container."""
        node = container.node
        named = [str(path) for path in node.state.rglob("*") if f"{container.id}@" in path.name]
        named += [str(path) for path in node.state.rglob("*") if f"{container.pod}.json" in path.name]
        return named + [f"{key} {owner}" for key, owner in self.leases(node.leases).items() if owner[0] == container.id]

    def must_be_kept(self) -> None:
        """Who lives has its leases and its record, and nobody has any whom we do not know."""
        known = {container.id: container for container in self.containers}
        for directory in {node.leases for node in self.nodes}:
            held = self.leases(directory)
            assert [owner for owner in held.values() if owner[0] not in known] == []
            for container in [one for one in self.containers if one.lives and one.node.leases == directory]:
                wanted = {
                    (name, address.partition("/")[0]): ifname for (name, address), ifname in container.leases.items()
                }
                mine = {key: owner[1] for key, owner in held.items() if owner[0] == container.id}
                assert mine == wanted, container
        for node in self.nodes:
            recorded = {path.name.partition("@")[0] for path in (node.state / "containers").glob("[!.]*.json")}
            living = {container.id for container in self.containers if container.node is node and container.lives}
            assert living <= recorded <= {container.id for container in self.containers if container.node is node}

    def must_be_in_place(self) -> None:
        """Who lives has its interfaces, with its addresses, and nobody else has an end on the host."""
        for node in self.nodes:
            ends = node.host.links()
            mine = [container for container in self.containers if container.node is node]
            for container in [one for one in mine if one.state == LIVING and one.lives]:
                wanted = {ifname: address for (_, address), ifname in container.leases.items()}
                assert (has := container.space.interfaces()) == wanted, (has, container)
                assert set(container.ports.values()) <= ends
            if all(container.lives or container.dead for container in mine):
                known = {port for container in mine if container.lives for port in container.ports.values()}
                assert ends <= known | {"cni0", "br-red", "br-green"}

    def must_pass(self) -> None:
        """Who lives passes CHECK, and has its rules, and nobody else has any."""
        for node in self.nodes:
            rules = node.rules()
            mine = [container for container in self.containers if container.node is node]
            for container in [one for one in mine if one.state == LIVING and one.lives]:
                assert self.check(container).ok
                assert f"if: eth0, id: {container.id}" in rules
            ids = {line.partition("id: ")[2].partition('"')[0] for line in rules.splitlines() if "id: " in line}
            assert ids <= {container.id for container in mine}

    def check(self, container: Container) -> Outcome:
        request = self.request("CHECK", container, keys={"prevResult": container.result})
        return self.serve(container.node, "CHECK", lambda: plugin.check(request))

    def status_must_be_true(self, node: Node) -> None:
        """STATUS says whether the network of every pod has room."""
        request = self.request("STATUS", Container("", node, "", (), node.host), netns="", ifname="")
        outcome = self.serve(node, "STATUS", lambda: plugin.status(request))
        assert outcome.ok or outcome.id == "PLX-IPAM-FULL"
        assert outcome.ok != self._is_full(node, "cluster")

    def _is_full(self, node: Node, name: str) -> bool:
        subnet = self.subnet(node, name)
        given = [key for key in self.leases(node.leases) if key[0] == name and ipaddress.ip_address(key[1]) in subnet]
        return len(given) >= subnet.num_addresses - 3  # network, broadcast, gateway

    def must_have_been_impossible(self, container: Container, outcome: Outcome) -> None:
        """An ADD may fail where a definition is missing, and where a network is full of those who are not dead."""
        node = container.node
        if any(self.defined.get((node.name, name)) is None for name in container.networks):
            return
        full = [name for name in ("cluster", *container.networks) if self._is_full(node, name)]
        assert full, outcome
        if full == [EXECUTED]:
            return  # the reference's plugin gives nothing back
        assert outcome.id == "PLX-IPAM-FULL"
        COUNTED["network full"] += 1
        dead = {one.id for one in self.containers if one.node is node and one.dead}
        owners = {owner[0] for key, owner in self.leases(node.leases).items() if key[0] in full}
        assert not owners & dead

    def nothing_else_must_be_left(self) -> None:
        """Of nobody but those who live is there a file or an interface."""
        ids = {container.id for container in self.containers}
        for node in self.nodes:
            mine = [container for container in self.containers if container.node is node]
            files = [path for path in (*node.state.rglob("*"), *node.leases.rglob("*")) if path.is_file()]
            kept = ("lock", "last_reserved_ip.0", ".index")  # where to go on and where to look, not whose
            left = [path for path in files if not path.name.endswith(kept) and path.suffix != ".json"]
            assert [path for path in left if path.read_bytes().decode().split("\r\n")[0] not in ids] == []
            named = {path.name for path in files if path.suffix == ".json"}
            assert named == {f"{one.id}@eth0.json" for one in mine} | {f"{one.pod}.json" for one in mine}
            ports = {port for container in mine for port in container.ports.values()}
            assert node.host.links() - {"cni0", "br-red", "br-green"} == ports
            rules = node.rules()
            assert all(f"id: {one.id}" in rules for one in mine)
            told = rules.count("id: ") + rules.count("jump cni-br-iface-")
            assert told >= len(mine) if mine else told == 0, rules
