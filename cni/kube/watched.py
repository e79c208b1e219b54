"""The API as a source that remembers: in a daemon, this node's pods and all definitions; else nothing.

What is remembered may be as old as a watch's events take. What is not remembered, or with another UID than the runtime
says, is read from the server: nothing is taken not to exist because it was not heard of.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from cni.kube import api, connection
from cni.kube.announcer import Announcer
from cni.kube.api import ApiServer
from cni.kube.connection import Connection
from cni.kube.objects import NetworkAttachmentDefinition, Pod

if TYPE_CHECKING:
    from cni.kube.mirror import Mirror

PODS = "/api/v1/pods"
DEFINITIONS = "/apis/k8s.cni.cncf.io/v1/network-attachment-definitions"
MOST = 2
"""Kubeconfigs whose cluster is remembered; a node has one."""
TELLING = 1.0
"""Seconds for the events that wait to be sent when the process is to end."""
NOT_READ = (api.NETWORK_STATUS, "kubectl.kubernetes.io/last-applied-configuration")
"""Annotations that are large, and mean nothing to us."""


class Memory:
    """What is remembered of one cluster: definitions from the first call on, pods when the node's name is known."""

    def __init__(self, server: Connection) -> None:
        from cni.kube.mirror import Mirror

        self.server = server
        self.definitions: Mirror[NetworkAttachmentDefinition] = Mirror(server, DEFINITIONS, api.read_definition)
        self.pods: Mirror[Pod] | None = None
        self.announcer = Announcer()
        self._lock = threading.Lock()

    def learn(self, node: str) -> None:
        """Remember the node's pods from now on; its name is what the server says of one of them."""
        from cni.kube.mirror import Mirror

        with self._lock:
            if self.pods is None and node:
                self.pods = Mirror(self.server, PODS, _read_pod, f"spec.nodeName={node}")


class Watched(ApiServer):
    """An API server of which something is remembered."""

    def __init__(self, server: Connection, deadline: float, memory: Memory) -> None:
        super().__init__(server, deadline)
        self.memory = memory

    def get_pod(self, namespace: str, name: str, uid: str = "") -> Pod:
        """Return the pod. Raises TryAgainLater when there is none, or no answer."""
        known = self.memory.pods.find(namespace, name) if self.memory.pods else None
        if known is not None and known.uid == uid:
            return known
        pod = super().get_pod(namespace, name)
        self.memory.learn(pod.node)
        return pod

    def find_network(self, namespace: str, name: str) -> NetworkAttachmentDefinition | None:
        """Return the definition, or None. Raises TryAgainLater when there is no answer."""
        return self.memory.definitions.find(namespace, name) or super().find_network(namespace, name)

    def announce(self, pod: Pod, reason: str, message: str, *, warning: bool = False) -> None:
        """Have the event recorded soon: nobody waits for it."""
        self.memory.announcer.announce(partial(super().announce, pod, reason, message, warning=warning))


class Sources:
    """The sources of this process."""

    def __init__(self) -> None:
        self._remembers = False
        self._lock = threading.Lock()
        self._memories: dict[str, Memory] = {}

    def remember(self) -> None:
        """Have memories, which pays for who serves many calls."""
        self._remembers = True

    def source(self, kubeconfig: str, deadline: float) -> ApiServer:
        """The cluster that `kubeconfig` names."""
        server = connection.of_this_process.get(kubeconfig)
        memory = self._memory(kubeconfig, server) if self._remembers else None
        return Watched(server, deadline, memory) if memory else ApiServer(server, deadline)

    def finish(self) -> None:
        """Tell what is to be told still."""
        for memory in self._memories.values():
            memory.announcer.finish(TELLING)

    def _memory(self, kubeconfig: str, server: Connection) -> Memory | None:
        with self._lock:
            if kubeconfig not in self._memories and len(self._memories) < MOST:
                self._memories[kubeconfig] = Memory(server)
            return self._memories.get(kubeconfig)


of_this_process = Sources()


def _read_pod(namespace: str, name: str, data: Mapping[str, Any]) -> Pod:
    pod = api.read_pod(namespace, name, data)
    return replace(pod, annotations={key: text for key, text in pod.annotations.items() if key not in NOT_READ})
