"""(c) A pod with its default network and NADs, through the API; and who takes part wherever there are pods."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import executables
from workloads import bridge, network, pod

from measuring import daemons
from measuring.call import ENVIRON, Attachment, Failed, call
from measuring.daemons import Daemon
from measuring.places import Places
from measuring.rounds import Pace, interleave
from measuring.samples import Sample
from measuring.sandboxes import links, sandboxes
from measuring.single import ALONE, SERVED, Contender

COUNTS = (0, 1, 3, 8)
MOST = max(COUNTS)
NADS = 3
"""As many as a pod has wherever their number does not matter."""
PACE = Pace(rounds=31, seconds=300)
QUICK = Pace(rounds=5, seconds=60)
THIN, THICK = "multus thin", "multus thick"
KEYS = {SERVED: "od", ALONE: "oa", THIN: "mn", THICK: "mk"}
"""Short names, of which the names of each one's bridges and networks are made."""
SECRETS = Path("/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds its token, as the daemon of Multus looks for it."""
SOCKETS = Path("/run/multus")


@dataclass(frozen=True)
class Api:
    """The API server, as kubectl reaches it."""

    kubeconfig: str

    def kubectl(self, *words: str, stdin: str = "") -> str:
        """Run kubectl. Raises Failed."""
        command = [
            str(executables.find() / "kubectl"),
            f"--kubeconfig={self.kubeconfig}",
            "--cache-dir=/run/kubectl",
            *words,
        ]
        done = subprocess.run(
            command, env=ENVIRON, input=stdin, capture_output=True, text=True, check=False, timeout=120
        )
        if done.returncode != 0:
            raise Failed(f"kubectl {' '.join(words)}: {done.stderr}")
        return done.stdout

    def create(self, objects: list[dict[str, Any]]) -> None:
        """Create objects."""
        self.kubectl("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def create_pods(self, pods: list[dict[str, Any]]) -> dict[str, str]:
        """Create pods; the UIDs of all by name."""
        self.create(pods)
        found = json.loads(self.kubectl("get", "pods", "-o", "json"))["items"]
        return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in found}


def attached(places: Places, *, quick: bool) -> list[Sample]:
    """Do (c)."""
    with contenders(places) as found:
        wanted = [(contender, count) for contender in found for count in COUNTS]
        uids = Api(places.kubeconfig).create_pods([asking(contender, count) for contender, count in wanted])
        turns = {(str(count), contender.name): _Turn(contender, count, uids) for count in COUNTS for contender in found}
        with sandboxes(*KEYS.values()):
            samples = interleave("c", turns, QUICK if quick else PACE)
            return samples + _processes(turns[str(NADS), ALONE])


def asking(contender: Contender, count: int, number: int = 0) -> dict[str, Any]:
    """A pod that asks for so many of the contender's networks."""
    key = KEYS[contender.name]
    return pod(pod_name(key, count, number), ",".join(f"{key}-{n}" for n in range(1, count + 1)))


def pod_name(key: str, count: int, number: int = 0) -> str:
    """What the pod is called."""
    return f"{key}-{count}-{number}"


def runtime_args(name: str, uid: str) -> str:
    """What the runtime tells of a pod."""
    return (
        f"IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={name};K8S_POD_INFRA_CONTAINER_ID=c;K8S_POD_UID={uid}"
    )


@dataclass(frozen=True)
class _Turn:
    contender: Contender
    count: int
    uids: Mapping[str, str]

    @property
    def attachment(self) -> Attachment:
        """Of the container, by a name that is to be replaced."""
        key = KEYS[self.contender.name]
        name = pod_name(key, self.count)
        return Attachment("", key, runtime_args(name, self.uids[name]))

    def __call__(self, number: int) -> dict[str, float]:
        attachment = self.attachment.of(f"{KEYS[self.contender.name].encode().hex()}{self.count}{number:058x}")
        if number == 0:
            check(self.contender, attachment, self.count)
        return self.contender.attach(attachment)


def check(contender: Contender, attachment: Attachment, count: int) -> None:
    """See that the contender does all of the work, and takes it back. Raises Failed."""
    for verb, wanted in (("ADD", ["eth0", *(f"net{n}" for n in range(1, count + 1))]), ("DEL", [])):
        call(contender.plugin, verb, attachment, contender.conf)
        found = links(attachment.sandbox)
        if found != wanted:
            raise Failed(f"{contender.name}: after {verb} the sandbox has {found}, and not {wanted}")


def _processes(turn: _Turn) -> list[Sample]:
    """How many processes ours is without the daemon, where strace can tell."""
    if not shutil.which("strace"):
        return []
    log = Path(turn.contender.plugin.parent, "strace.log")
    attachment = turn.attachment.of("f" * 64)
    watched = ["strace", "-f", "-qq", "-e", "trace=fork,vfork,clone,clone3", "-o", str(log)]
    call(turn.contender.plugin, "ADD", attachment, turn.contender.conf, wrapper=watched)
    call(turn.contender.plugin, "DEL", attachment, turn.contender.conf)
    begun = [line for line in log.read_text().splitlines() if "clone" in line or "fork" in line]
    others = [line for line in begun if "CLONE_THREAD" not in line and "resumed" not in line]
    return [Sample("c", str(NADS), ALONE, "processes", (1.0 + len(others),))]


@contextlib.contextmanager
def contenders(places: Places) -> Iterator[list[Contender]]:
    """Ours with the daemon and without, Multus thin and thick; each one's networks are in the API."""
    Api(places.kubeconfig).create([made for key in KEYS.values() for made in networks(key)])
    with daemons.ours(Path(places.served)) as served, thick(places) as daemon:
        yield [
            Contender(SERVED, Path(places.served, "plexus"), ours(places, "od"), served),
            Contender(ALONE, Path(places.alone, "plexus"), ours(places, "oa")),
            Contender(
                THIN, Path(places.multus, "multus"), multus(places, "mn", "multus", kubeconfig=places.kubeconfig)
            ),
            Contender(THICK, Path(places.multus, "multus-shim"), multus(places, "mk", "multus-shim"), daemon),
        ]


def ours(places: Places, key: str) -> dict[str, Any]:
    """Our configuration."""
    paths = {"kubeconfig": places.kubeconfig, "binDir": places.alone, "cniDir": f"/var/lib/cni/plexus-{key}"}
    return {"cniVersion": "1.0.0", "name": f"conf-{key}", "type": "plexus", "delegates": [default(key)]} | paths


def multus(places: Places, key: str, kind: str, **keys: Any) -> dict[str, Any]:
    """That of Multus, whose delegates are the reference plugins."""
    paths = {"binDir": places.reference, "cniDir": f"/var/lib/cni/multus-{key}", "daemonSocketDir": str(SOCKETS)}
    conf = {
        "cniVersion": "1.0.0",
        "name": f"conf-{key}",
        "type": kind,
        "delegates": [default(key)],
        "logLevel": "error",
    }
    return conf | paths | keys


def default(key: str) -> dict[str, Any]:
    """The network of all pods."""
    return {"cniVersion": "1.0.0", "name": f"{key}-0"} | _bridge(key, 0) | {"isDefaultGateway": True}


def networks(key: str) -> list[dict[str, Any]]:
    """Those that pods ask for."""
    return [network(f"{key}-{number}", _bridge(key, number)) for number in range(1, MOST + 1)]


def _bridge(key: str, number: int) -> dict[str, Any]:
    block = 16 * list(KEYS.values()).index(key) + number
    ipam = {"type": "host-local", "ranges": [[{"subnet": f"10.{block}.0.0/16"}]]}
    return bridge(number) | {"bridge": f"br-{key}{number}", "ipam": ipam}


@contextlib.contextmanager
def thick(places: Places) -> Iterator[Daemon]:
    """Have the daemon of Multus run, as in a pod of its DaemonSet but for its namespaces, which are the host's."""
    SECRETS.mkdir(parents=True)
    (SECRETS / "token").write_text(places.token)
    shutil.copy(places.authority, SECRETS / "ca.crt")
    with daemons.multus(
        *thick_daemon(places, Path("/run")), SOCKETS / "multus.sock", Path("/run/multus.log")
    ) as daemon:
        yield daemon


def thick_daemon(places: Places, directory: Path) -> tuple[list[str], dict[str, str]]:
    """Its command line and environment; its configuration is written into the directory."""
    path, runtime = directory / "multus-daemon.json", directory / "multus-runtime"
    runtime.mkdir()
    (runtime / "10-primary.conf").write_text(json.dumps(default(KEYS[THICK])))
    conf = {
        "cniVersion": "1.0.0",
        "logLevel": "error",
        "binDir": places.reference,
        "socketDir": str(SOCKETS),
        # It ends at once unless it has a primary to make a configuration of, which nobody reads here.
        "multusConfigFile": "auto",
        "multusAutoconfigDir": str(runtime),
        "cniConfigDir": str(runtime),
    }
    path.write_text(json.dumps(conf))
    environ = {
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "KUBERNETES_SERVICE_PORT": "443",
        "MULTUS_NODE_NAME": "localhost",
    }
    return [str(Path(places.multus, "multus-daemon")), "-config", str(path)], environ
