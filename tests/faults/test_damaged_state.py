"""Whatever becomes of any file that a living pod has: nothing hangs, nobody loses anything, and DEL leaves nothing.

The files are those that are there after an ADD, so that one that is added to the product is damaged here, too. With
--nightly each order of verbs follows each damage.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from damages import DAMAGES, PRECIOUS, SIMILAR
from living_node import ADDRESS, CODES, Answer, Node

from cni.plugin import confdir
from cni.plugin.cache import Cache
from cni.plugin.chain import Attachment
from cni.spec import convert
from cni.spec.errors import CNIError

NIGHTLY = os.environ.get("PLEXUS_TESTS_NIGHTLY") == "1"
POD, ANOTHER, SURVIVOR = "victim", "another", "survivor"
EXPECTED = {
    "cache/results/plexus-victim-eth0",
    "devinfo/cni/default-described-victim_net3",
    "leases/.cluster.index",
    "leases/cluster/ADDRESS",
    "leases/cluster/last_reserved_ip.0",
    "leases/cluster/lock",
    "log/plexus.log",
    "manifests/nad-second.json",
    "manifests/pod-victim.json",
    "net.d/10-plexus.conflist",
    "state/containers/victim@eth0.json",
    "state/executing.lock",
    "state/network-status/default/victim.json",
    "state/unfinished/victim@eth0.json",
}
"""What is damaged at least."""
PROGRAMS = "bin/"
ALIKE = ("leases/second", "leases/third", ".second", ".third", "nad-third", "nad-described")
"""Parts of names of files that are like another."""
ORDERS = (
    ("check", "check by command", "ready", "tell", "add another", "add again", "collect", "clean"),
    ("collect", "add another", "check", "check by command", "clean", "tell"),
    ("clean", "add another", "collect"),
    ("add another", "add again", "tell", "check"),
    ("delete", "add another"),
)
KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "c",
    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
    "users": [{"name": "u", "user": {"token": "none"}}],
}
SHARED = ("lock", "nad-", "net.d", "last_reserved_ip", ".index", "plexus.log")
"""Parts of names of files that are not the pod's own."""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")


class World:
    """A node with one pod that lives through everything, and all that was seen of it at first."""

    def __init__(self, directory: Path) -> None:
        self.node = Node(directory / "node")
        self.outside = directory / "outside"
        self.outside.mkdir()
        (self.outside / "precious").write_bytes(PRECIOUS)
        for name in (SURVIVOR, POD, ANOTHER):
            self.node.pod(name)
        assert self.node.add(SURVIVOR).status == 0
        self.addresses = self.node.addresses(SURVIVOR)
        self.links = self.node.links()
        self.own = self.files_of_the_survivor()
        self.known: list[str] = []
        self.is_well = True

    def files_of_the_survivor(self) -> dict[str, bytes]:
        """Its files, with their contents."""
        paths = (self.node.directory / name for name in self.node.tree())
        return {str(path): path.read_bytes() for path in paths if SURVIVOR in path.name or path.name.endswith(".0.2")}

    def kinds(self) -> dict[str, str]:
        """The paths of the files that a pod has, or shares, by what is the same of every pod."""
        of_survivor = {str(Path(path).relative_to(self.node.directory)) for path in self.own}
        return {
            ADDRESS.sub("ADDRESS", name): name
            for name in sorted(self.node.tree())
            if name not in of_survivor and ANOTHER not in name
        }

    def attach(self) -> None:
        """Attach the pod by what remembers it as libcni does, and leave something of an earlier one of its name."""
        answer = self.node.call("ADD", POD)
        assert answer.status == 0, answer
        self.node.results[POD] = json.loads(answer.out)
        remember(self.node)
        record = self.node.directory / "state" / "containers" / f"{POD}@eth0.json"
        left = json.loads(record.read_text())
        failure = {"reason": "it failed", "since": 5, "tries": 3}
        ipam = {"type": "host-local", "subnet": "10.9.0.0/24", "dataDir": str(self.node.directory / "leases")}
        conf = json.dumps({"cniVersion": "1.0.0", "name": "gone", "type": "bridge", "bridge": "br-x", "ipam": ipam})
        left["entries"] = [{**left["entries"][0], "conf": conf, "ifname": "net9", "failure": failure}]
        unfinished = self.node.directory / "state" / "unfinished"
        unfinished.mkdir(exist_ok=True)
        (unfinished / record.name).write_text(json.dumps(left))


def attachment(node: Node) -> Attachment:
    """The pod's, as its runtime has it."""
    args = f"IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={POD};K8S_POD_INFRA_CONTAINER_ID={POD}"
    return Attachment(container_id=POD, ifname="eth0", netns=node.sandboxes[POD], args=args)


def cache(node: Node) -> Cache:
    """What the runtime remembers."""
    return Cache(str(node.directory / "cache"))


def remember(node: Node) -> None:
    """What a runtime notes of an ADD."""
    network = confdir.load(str(node.directory / "net.d"), "plexus")
    cache(node).save(network, attachment(node), convert.decode(node.results[POD], "1.1.0"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], World]]:
    """A world that is as it was; a new one after a test that failed."""
    made: list[World] = []

    def get() -> World:
        if not made or not made[-1].is_well:
            made.append(World(tmp_path_factory.mktemp("world")))
        return made[-1]

    yield get
    for each in made:
        each.node.close()


class Case:
    """One damage of one file, and what comes after it; runs in a child, on the host."""

    def __init__(self, world: World, kind: str, damage: str, order: tuple[str, ...]) -> None:
        self.world = world
        self.node = world.node
        self.kind = kind
        self.damage = damage
        self.order = order
        self.problems: list[str] = []
        self.path = Path()
        self.deleting = self.deleted = False
        self.held: list[str] = []

    def run(self) -> list[str]:
        before = set(self.node.tree())
        self.world.attach()
        names = self.world.kinds()
        if self.kind not in names:
            return [f"there is no {self.kind} any more, but {sorted(names)}"]
        self.path = self.node.directory / names[self.kind]
        kept = self.path.read_bytes()
        self.held = self.addresses()
        DAMAGES[self.damage](self.path, self.world.outside)
        for verb in self.order:
            self.do(verb)
        self.finish(kept)
        self.compare(before)
        return self.problems

    def addresses(self) -> list[str]:
        return self.node.addresses(POD)

    def do(self, verb: str) -> Answer:
        node = self.node
        living = (SURVIVOR,) if self.deleted else (SURVIVOR, POD)
        calls: dict[str, Callable[[], Answer]] = {
            "check": lambda: node.call("CHECK", POD),
            "check by command": self.check_by_command,
            "ready": lambda: node.call("STATUS"),
            "tell": lambda: node.command("status", "-o", "json"),
            "add again": lambda: node.call("ADD", POD),
            "add another": self.add_another,
            "collect": lambda: node.collect(*living),
            "clean": lambda: node.command("gc", "--grace", "0"),
            "delete": self.delete,
        }
        answer = calls[verb]()
        self.judge(verb, answer)
        return answer

    def judge(self, verb: str, answer: Answer) -> None:
        if "Traceback" in answer.text or "defect" in answer.text:
            self.problems.append(f"{verb}: {answer.text}")
        if answer.status and answer.out.startswith("{") and answer.error["code"] not in CODES:
            self.problems.append(f"{verb}: {answer.out}")
        if not self.deleting and self.addresses() != self.held:
            self.problems.append(f"{verb}: the pod has {self.addresses()} instead of {self.held}")
        if (self.world.outside / "precious").read_bytes() != PRECIOUS and "log" not in self.kind:
            self.problems.append(f"{verb}: wrote outside")
        if sorted(os.listdir(self.world.outside)) != ["precious"] and "log" not in self.kind:
            self.problems.append(f"{verb}: made something outside")

    def add_another(self) -> Answer:
        """Another pod comes and goes: it gets what it wants, and nothing that is somebody's."""
        answer = self.node.call("ADD", ANOTHER)
        taken = {told.split()[1] for told in (*self.world.addresses, *([] if self.deleted else self.held))}
        found = {told.split()[1] for told in self.node.addresses(ANOTHER)}
        if found & taken and not self.may_be_given():
            self.problems.append(f"given twice: {found & taken}")
        if answer.status and not any(part in self.kind for part in SHARED):
            self.problems.append(f"add another: {answer.out}")
        gone = self.node.call("DEL", ANOTHER, **({"prevResult": json.loads(answer.out)} if not answer.status else {}))
        if gone.status and not any(part in self.kind for part in SHARED):
            self.problems.append(f"delete another: {gone.out}")
        return answer

    def may_be_given(self) -> bool:
        """A lease is what says that an address is taken: where it is removed, nothing does, as for any plugin."""
        return self.kind.endswith("ADDRESS") and self.damage == "deleted"

    def delete(self) -> Answer:
        self.deleting = True
        answer = self.node.call("DEL", POD)
        if answer.status:
            return answer
        self.deleted = True
        try:
            cache(self.node).remove("plexus", attachment(self.node))
        except CNIError as error:
            return Answer(1, json.dumps({"code": error.code, "msg": error.msg, "details": error.details}), "")
        return answer

    def check_by_command(self) -> Answer:
        """CHECK by what `plexus attach` remembers."""
        named = ("--container-id", POD, "--netns", self.node.sandboxes[POD])
        return self.node.command("check", "--pod", f"default/{POD}", *named)

    def finish(self, kept: bytes) -> None:
        """DEL, twice if the first was told what is wrong; then by an operator who has mended what was told."""
        for _ in range(2):
            answer = self.do("delete")
            if not answer.status:
                break
        if answer.status:
            if str(self.path) not in answer.out and self.path.name not in answer.out:
                self.problems.append(f"delete does not name {self.path}: {answer.out}")
            name = f"{self.kind}: {self.damage}".replace("second", "cluster").replace("third", "cluster")
            if name not in BY_HAND and self.damage != "immutable":
                self.problems.append(f"nobody should have to mend {name}: {answer.out}")
            subprocess.run(["chattr", "-i", str(self.path)], check=False, capture_output=True)
            if self.damage != "immutable":
                self.mend(None)
            if (again := self.do("delete")).status:
                self.problems.append(f"delete fails though all is mended: {again.out}")
            self.node.call("DEL", ANOTHER)
        if "net.d" in self.kind:
            self.mend(kept)  # without it, nobody knows where to clean
        self.do("clean")
        self.mend(kept if any(part in self.kind for part in (*SHARED, "manifests")) else None)

    def mend(self, kept: bytes | None) -> None:
        """Remove what is there, or have it be as it was."""
        subprocess.run(["chattr", "-i", str(self.path)], check=False, capture_output=True)
        if kept is None and not os.path.lexists(self.path):
            return
        if self.path.is_dir() and not self.path.is_symlink():
            shutil.rmtree(self.path)
        elif kept is None or not self.path.is_file() or self.path.is_symlink():
            self.path.unlink(missing_ok=True)
        if kept is not None and not self.kind.endswith((".index", "lock")):
            self.path.write_bytes(kept)
            self.path.chmod(0o600)
            os.chown(self.path, 0, 0)

    def compare(self, before: set[str]) -> None:
        """Nothing is left but what was set aside, which is told of; the survivor is as it was."""
        told = json.loads(self.do("tell").out)
        aside = {str(Path(path).relative_to(self.node.directory)) for path in told["damaged"]}
        known = ("lock", ".index", "last_reserved_ip.0")
        left = {name for name in set(self.node.tree()) - before if not name.endswith(known)}
        left = {name for name in left if name not in aside and not any(name.startswith(f"{path}/") for path in aside)}
        if left:
            self.problems.append(f"left behind: {sorted(left)}")
        for name in aside:
            path = self.node.directory / name
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        (self.world.outside / "precious").write_bytes(PRECIOUS)  # a log follows links, as its operator wants it
        (self.world.outside / "nothing").unlink(missing_ok=True)
        if self.world.files_of_the_survivor() != self.world.own:
            self.problems.append("the survivor's files have changed")
        if self.node.addresses(SURVIVOR) != self.world.addresses or self.node.links() != self.world.links:
            self.problems.append(f"interfaces: {self.node.addresses(SURVIVOR)}, {self.node.links()}")
        if (answer := self.node.call("CHECK", SURVIVOR)).status:
            self.problems.append(f"the survivor: {answer.out}")


BY_HAND = {
    "leases/cluster/ADDRESS: a directory",
    *(
        f"leases/cluster/lock: {what}"
        for what in ("a directory", "a link", "a link to nothing", "a link in a circle", "a socket")
    ),
}
"""What keeps a pod from being deleted until somebody does what DEL tells him to, besides what is immutable."""


def orders(kind: str, damage: str) -> list[tuple[str, ...]]:
    """All, or the one whose turn it is."""
    every = list(ORDERS)
    number = sorted(EXPECTED).index(kind) + list(DAMAGES).index(damage) if kind in EXPECTED else len(kind)
    return every if NIGHTLY else [every[number % len(every)]]


@pytest.mark.parametrize("damage", [damage for damage in DAMAGES if NIGHTLY or damage not in SIMILAR])
def test_a_damaged_file_costs_nobody_anything(damage: str, world: Callable[[], World]):
    problems = []
    for kind in kinds(world()):
        for order in orders(kind, damage):
            here = world()
            here.is_well = False
            case = Case(here, kind, damage, order)
            found = here.node.run(case.run, longest=90)
            problems += [f"{kind} {damage}, {order}: {problem}" for problem in found]
            here.is_well = not found
    assert not problems, "\n".join(problems)


def kinds(world: World) -> list[str]:
    """Every file that there is after an ADD; but with --nightly one of each kind is enough."""
    if not world.known:
        world.known = world.node.run(lambda: look(world))
    missing = EXPECTED - set(world.known)
    assert not missing, f"not there after an ADD: {missing}; there is {world.known}"
    return [name for name in world.known if NIGHTLY or not any(part in name for part in ALIKE)]


def look(world: World) -> list[str]:
    """The kinds of files; all is as before in the end."""
    world.attach()
    found = [name for name in world.kinds() if not name.startswith(PROGRAMS)]
    assert world.node.call("DEL", POD).status == 0
    cache(world.node).remove("plexus", attachment(world.node))
    assert world.node.command("gc", "--grace", "0").status == 0
    return found


def test_a_damaged_kubeconfig_is_told_and_waited_for_by_nobody(tmp_path: Path):
    """No API server is there at all: whoever needs one says so, and DEL does not."""
    pytest.importorskip("kubernetes.client")  # what children need not import each
    (tmp_path / "outside").mkdir()
    node = Node(tmp_path / "node")
    node.pod(POD)
    path = tmp_path / "kubeconfig"
    keys = {"manifests": "", "kubeconfig": str(path), "apiTimeout": 0.2}

    def play(damage: str) -> list[str]:
        path.write_text(json.dumps(KUBECONFIG))
        DAMAGES[damage](path, tmp_path / "outside")
        calls = {verb: node.call(verb, POD, **keys) for verb in ("ADD", "CHECK", "DEL")}
        calls |= {verb: node.call(verb, **keys) for verb in ("STATUS", "GC")}
        subprocess.run(["chattr", "-i", str(path)], check=False, capture_output=True)
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
        wrong = [
            verb
            for verb, answer in calls.items()
            if "Traceback" in answer.text or answer.status != (verb in ("ADD", "CHECK", "STATUS"))
        ]
        wrong += [verb for verb, answer in calls.items() if answer.status and answer.error["code"] not in CODES]
        return [f"{verb} {damage}: {calls[verb]}" for verb in wrong]

    try:
        problems = [told for damage in DAMAGES for told in node.run(lambda damage=damage: play(damage))]
    finally:
        node.close()
    assert not problems, "\n".join(problems)
    assert list((tmp_path / "outside").iterdir()) == []
