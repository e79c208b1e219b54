"""A cluster of one node, as its administrator and its users handle it."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from cluster_machine import Service, machine
from control_plane import ControlPlane
from credentials import ADMINISTRATOR, Credentials
from node import Node
from throwaway import Host
from workloads import network_status

Answer = TypeVar("Answer")
PATIENCE = 50
"""Seconds that anything may take; all of it takes a few when the machine is at rest."""
POLL = 0.1


@dataclass(frozen=True)
class Cluster:
    """Control plane and node, on one machine."""

    control_plane: ControlPlane
    node: Node

    @property
    def host(self) -> Host:
        return self.node.host

    @property
    def services(self) -> list[Service]:
        return [*self.control_plane.services, *self.node.services]

    def begin(self) -> None:
        """Start everything, and wait until it works."""
        self.node.prepare()
        for service in (*self.control_plane.services, self.node.containerd):
            service.start()
        self.wait_for_api()
        eventually(self.node.import_busybox, AssertionError)
        self.node.kubelet.start()

    def end(self) -> None:
        """Stop everything, newest first."""
        for service in reversed(self.services):
            with contextlib.suppress(AssertionError):
                service.stop("KILL")

    def wait_for_api(self) -> None:
        """Wait until the API server answers."""
        eventually(lambda: self.kubectl("get", "--raw", "/readyz"), AssertionError)

    def wait_for_node(self) -> None:
        """Wait until pods can run: the node is ready, and each namespace has its service account."""
        eventually(lambda: "True" in _ready(self.get("node", "localhost")), AssertionError)
        eventually(lambda: self.kubectl("get", "serviceaccount", "default", "-o", "name"), AssertionError)

    @cached_property
    def _kubectl(self) -> list[str]:
        kubeconfig = self.node.credentials.kubeconfig(ADMINISTRATOR)
        return [str(self.node.executables / "kubectl"), f"--kubeconfig={kubeconfig}", "--cache-dir=/run/kubectl"]

    def kubectl(self, *words: str, stdin: str = "") -> str:
        """Run kubectl as the administrator."""
        return self.host.run(*self.command(*words), stdin=stdin)

    def command(self, *words: str) -> list[str]:
        """A command line of kubectl."""
        return [*self._kubectl, *words]

    def apply(self, *objects: dict[str, Any]) -> None:
        """Create objects, or change them."""
        self.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def get(self, *words: str) -> dict[str, Any]:
        """An object, or a list of them."""
        found: dict[str, Any] = json.loads(self.kubectl("get", "-o", "json", *words))
        return found

    def pod(self, name: str, namespace: str = "default") -> dict[str, Any]:
        """A pod as the API has it."""
        return self.get("pod", name, "--namespace", namespace)

    def wait_for_pod(self, name: str, namespace: str = "default") -> dict[str, Any]:
        """The pod, once it runs."""

        def ready() -> dict[str, Any]:
            pod = self.pod(name, namespace)
            assert "True" in _ready(pod), f"pod {name}: {json.dumps(pod['status'])}; {self.events(name, namespace)}"
            return pod

        return eventually(ready, AssertionError)

    def events(self, name: str, namespace: str = "default") -> list[str]:
        """The messages of a pod's events, oldest first."""
        found = self.get("events", "--namespace", namespace, "--field-selector", f"involvedObject.name={name}")
        return [f"{event['reason']}: {event['message']}" for event in found["items"]]

    def wait_for_event(self, name: str, *words: str, namespace: str = "default") -> str:
        """The first event of a pod that has all of these words."""

        def told() -> str:
            events = self.events(name, namespace)
            found = [event for event in events if all(word in event for word in words)]
            assert found, f"no event of pod {name} with {words}: {events}"
            return found[0]

        return eventually(told, AssertionError)

    def statuses(self, name: str, namespace: str = "default") -> list[dict[str, Any]]:
        """The network-status of a pod."""
        return network_status(self.pod(name, namespace))

    def inside(self, name: str, *words: str, namespace: str = "default") -> str:
        """Run a command in a pod."""
        return self.kubectl("exec", name, "--namespace", namespace, "--", *words)

    def process(self, name: str, namespace: str = "default") -> int:
        """The first process of a pod's container, by the number that it has on the machine."""
        running = self.pod(name, namespace)["status"]["containerStatuses"][0]["containerID"].partition("://")[2]
        tasks = (line.split() for line in self.node.ctr("tasks", "list").splitlines())
        return next(int(task[1]) for task in tasks if task[0] == running)

    def delete(self, *words: str) -> None:
        """Delete objects, and wait until they are gone."""
        self.kubectl("delete", "--wait=true", f"--timeout={PATIENCE}s", *words)


@contextlib.contextmanager
def running(directory: Path, executables: Path) -> Iterator[Cluster]:
    """Have a cluster for the block; its files are in the directory."""
    credentials = Credentials(directory / "credentials")
    credentials.create()
    with machine(directory) as host:
        control_plane = ControlPlane(host, directory, executables, credentials)
        cluster = Cluster(control_plane, Node(host, directory, executables, credentials))
        try:
            cluster.begin()
            yield cluster
        finally:
            cluster.end()


def _ready(thing: dict[str, Any]) -> list[str]:
    conditions = thing["status"].get("conditions", [])
    return [condition["status"] for condition in conditions if condition["type"] == "Ready"]


def eventually(ask: Callable[[], Answer], *passing: type[BaseException], within: float = PATIENCE) -> Answer:
    """The first true answer, or the last answer's failure. While `passing` is raised there is none."""
    deadline = time.monotonic() + within
    while True:
        try:
            answer = ask()
        except passing:
            if time.monotonic() > deadline:
                raise
        else:
            if answer:
                return answer
            assert time.monotonic() < deadline, f"still {answer!r} after {within} seconds"
        time.sleep(POLL)
