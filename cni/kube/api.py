"""The source that a cluster has: pods and definitions from the Kubernetes API, network-status and events to it.

One deadline holds for each question, however often it has to be asked. What stays unanswered is unknown: an error for
the runtime to retry.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from cni.kube import claims
from cni.kube.connection import Connection, Passing, Refused, Unauthorized
from cni.kube.credentials import AT_ONCE
from cni.kube.objects import Devices, NetworkAttachmentDefinition, Pod
from cni.spec.errors import InvalidConfiguration, PluginUnavailable, TryAgainLater

NETWORK_STATUS = "k8s.v1.cni.cncf.io/network-status"
DEFINITIONS = "/apis/k8s.cni.cncf.io/v1/namespaces/{}/network-attachment-definitions/{}"
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
"""Seconds between tries; each is twice the last, less up to half of it at random."""
SHORTEST_TIMEOUT = 1.0
LONGEST_MESSAGE = 1024
"""Bytes that the API takes in the message of an event."""
CUT = " […] "
ANOTHER_OBJECT = (409, 422)
"""How the server refuses a patch with a UID that is not the object's: a conflict, or (1.36) an immutable field."""


class ApiServer:
    """Pods, definitions and network-status in the API; `deadline` is in seconds, for each question."""

    questions_at_once = AT_ONCE

    def __init__(self, connection: Connection, deadline: float) -> None:
        self.connection = connection
        self.deadline = deadline

    def get_pod(self, namespace: str, name: str, uid: str = "") -> Pod:  # noqa: ARG002 - it is the newest anyhow
        """Return the pod. Raises TryAgainLater when there is none, or no answer."""
        path = f"/api/v1/namespaces/{namespace}/pods/{name}"
        data = self._ask("GET", path, f'look up pod "{namespace}/{name}"', name)
        if data is None:
            raise TryAgainLater(
                f'could not find pod "{namespace}/{name}"',
                "the API server does not know it (any more); which networks it wants is unknown",
                id="PLX-POD-UNKNOWN",
            )
        return read_pod(namespace, name, data)

    def find_network(self, namespace: str, name: str) -> NetworkAttachmentDefinition | None:
        """Return the definition, or None. Raises TryAgainLater when there is no answer."""
        what = f'look up NetworkAttachmentDefinition "{namespace}/{name}"'
        data = self._ask("GET", DEFINITIONS.format(namespace, name), what, name)
        return None if data is None else read_definition(namespace, name, data)

    def claimed_devices(self, pod: Pod, resources: Collection[str]) -> Devices:
        """The pod's devices of these resources by ResourceClaims. Raises TryAgainLater, InvalidConfiguration."""
        return claims.find_devices(self._look_up, pod, resources)

    def is_claimable(self, pod: Pod, resource: str) -> bool:
        """Whether a driver offers devices of the resource on the pod's node. Raises as `claimed_devices`."""
        return claims.is_claimable(self._look_up, pod.node, resource)

    def check_ready(self) -> None:
        """Raise PluginUnavailable unless the API server answers."""
        try:
            self._ask("GET", "/version", "reach the API server")
        except TryAgainLater as error:
            raise PluginUnavailable(error.msg, error.reason, id=error.id) from error

    def publish(self, pod: Pod, status: str) -> None:
        """Patch the pod's annotation, and nothing but it. Raises TryAgainLater; so it does when the pod is gone."""
        # The UID makes the server refuse the patch for another pod of the same name.
        metadata = {"uid": pod.uid, "annotations": {NETWORK_STATUS: status}}
        patch = {"metadata": {key: value for key, value in metadata.items() if value}}
        path = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}/status"
        what = f'write the network-status of pod "{pod.full_name}"'
        if self._ask("PATCH", path, what, pod.name, body=patch) is None:
            raise TryAgainLater(f"could not {what}", "the pod is gone", id="PLX-POD-UNKNOWN")

    def withdraw(self, namespace: str, name: str, is_ours: Callable[[str], bool] | None = None) -> None:
        """Leave it: the annotation goes with the pod, and DEL does not ask the API."""

    def announce(self, pod: Pod, reason: str, message: str, *, warning: bool = False) -> None:
        """Record an event of the pod, once and without insisting; the same one is not recorded again."""
        message = _bounded(message)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        involved = {"apiVersion": "v1", "kind": "Pod", "namespace": pod.namespace, "name": pod.name, "uid": pod.uid}
        event = {
            "metadata": {"name": _event_name(pod, reason, message), "namespace": pod.namespace},
            "involvedObject": involved,
            "type": "Warning" if warning else "Normal",
            "reason": reason,
            "message": message,
            "source": {"component": "plexus"},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            path = f"/api/v1/namespaces/{pod.namespace}/events"
            self.connection.request("POST", path, body=event, timeout=SHORTEST_TIMEOUT)
        except (Passing, Refused, InvalidConfiguration):
            return  # the error itself reaches the pod through the runtime

    def _look_up(self, path: str, what: str) -> Any:
        return self._ask("GET", path, what)

    def _ask(self, method: str, path: str, what: str, name: str = "", *, body: Mapping[str, Any] | None = None) -> Any:
        """The answer, which is the object of that name where there is one; None for 404.

        Raises TryAgainLater after the deadline, InvalidConfiguration when refused.
        """
        end = time.monotonic() + self.deadline
        for pause in _pauses():
            left = max(end - time.monotonic(), SHORTEST_TIMEOUT)
            try:
                answer = self.connection.request(method, path, body=body, patch=method == "PATCH", timeout=left)
                return _verified(answer, name)
            except Refused as error:
                return _refused(error, what)
            except Passing as error:
                if isinstance(error, Unauthorized):
                    self.connection.refresh()
                if time.monotonic() + pause > end:
                    raise _unanswered(what, error, self.deadline) from error
                time.sleep(pause)
        raise AssertionError("pauses never end")


def read_pod(namespace: str, name: str, data: Mapping[str, Any]) -> Pod:
    """The pod that an object of the API is."""
    metadata = data.get("metadata") or {}
    return Pod(
        namespace=namespace,
        name=name,
        uid=metadata.get("uid") or "",
        annotations=metadata.get("annotations") or {},
        node=(data.get("spec") or {}).get("nodeName") or "",
        claims=claims.names(data),
        extended_claim=claims.extended(data),
    )


def read_definition(namespace: str, name: str, data: Mapping[str, Any]) -> NetworkAttachmentDefinition:
    """The definition that an object of the API is."""
    config = (data.get("spec") or {}).get("config") or ""
    annotations = (data.get("metadata") or {}).get("annotations") or {}
    return NetworkAttachmentDefinition(namespace=namespace, name=name, config=config, annotations=annotations)


def _verified(answer: Any, name: str) -> Any:
    """The answer, if it is the object: what a proxy says instead, `{}` say, is no pod without networks."""
    metadata = answer.get("metadata") if isinstance(answer, Mapping) else None
    found = metadata.get("name") if isinstance(metadata, Mapping) else None
    if not isinstance(answer, Mapping) or (name and found != name):
        raise Passing("the answer is not the object that was asked for: is something else at the server's address?")
    return answer


def _bounded(message: str) -> str:
    """The message, cut in its middle where it is too long: it begins with what failed and ends with what to do."""
    text = message.encode(errors="replace")
    if len(text) <= LONGEST_MESSAGE:
        return message
    half = (LONGEST_MESSAGE - len(CUT.encode())) // 2
    return text[:half].decode(errors="ignore") + CUT + text[-half:].decode(errors="ignore")


def _event_name(pod: Pod, reason: str, message: str) -> str:
    """The same for the same event: a pod that fails for an hour does not leave hundreds."""
    digest = hashlib.sha256(f"{pod.uid}\0{reason}\0{message}".encode(errors="replace")).hexdigest()[:16]
    return f"{pod.name[:200].rstrip('-.')}.{digest}"


def _refused(error: Refused, what: str) -> None:
    """Return for 404, which is an answer. Raises TryAgainLater or InvalidConfiguration for all others."""
    if error.status == 404:
        return
    if error.status in ANOTHER_OBJECT:
        raise TryAgainLater(f"could not {what}", f"{error}: the pod of that name is another now", id="PLX-POD-UID")
    raise InvalidConfiguration(f"could not {what}", f"{error}; see the ClusterRole of plexus", id="PLX-API-REFUSED")


def _unanswered(what: str, error: Passing, deadline: float) -> TryAgainLater:
    ident = "PLX-API-UNAUTHORIZED" if isinstance(error, Unauthorized) else "PLX-API-UNREACHABLE"
    return TryAgainLater(f"could not {what}", f"no answer within {deadline:g} seconds; at last, {error}", id=ident)


def _pauses() -> Iterator[float]:
    pause = FIRST_PAUSE
    while True:
        yield pause * random.SystemRandom().uniform(0.5, 1)  # so that nodes do not ask in step
        pause = min(pause * 2, LONGEST_PAUSE)
