"""The kubelet's pod-resources API (v1): which devices its device plugins gave to a pod."""

from __future__ import annotations

import functools
import random
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from cni.kube import grpc
from cni.spec.errors import TryAgainLater

SERVICE = "/v1.PodResourcesLister/"
METHODS = {"Get": "GetPodResources", "List": "ListPodResources", "GetAllocatableResources": "AllocatableResources"}
"""What the messages of each method are called, but for Request and Response."""

MESSAGES = {
    "GetPodResourcesRequest": {"pod_name": 1, "pod_namespace": 2},
    "GetPodResourcesResponse": {"pod_resources: PodResources": 1},
    "ListPodResourcesRequest": {},
    "ListPodResourcesResponse": {"repeated pod_resources: PodResources": 1},
    "PodResources": {"name": 1, "namespace": 2, "repeated containers: ContainerResources": 3},
    "ContainerResources": {"repeated devices: ContainerDevices": 2},
    "ContainerDevices": {"resource_name": 1, "repeated device_ids": 2},
    "AllocatableResourcesRequest": {},
    "AllocatableResourcesResponse": {"repeated devices: ContainerDevices": 1},
}
"""What we read and write of the API's messages, with the numbers of their fields; what has no type is a string."""

TIMEOUT = 10.0
"""Seconds for one question, tries included."""
PASSING = (grpc.UNAVAILABLE, grpc.DEADLINE_EXCEEDED)
PAUSE = 0.1
"""Seconds, at most, before the kubelet is asked again that answers only a hundred questions a second."""


class PodResources:
    """The API at the Unix socket `path`."""

    def __init__(
        self,
        path: str,
        timeout: float = TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.path = path
        self.timeout = timeout
        self._clock = clock
        self._sleep = sleep

    def devices_of(self, namespace: str, name: str) -> dict[str, list[str]]:
        """The pod's devices by resource, of all its containers. Raises TryAgainLater."""
        found = defaultdict(set)
        for pod in self._pods(namespace, name):
            if (pod.namespace, pod.name) == (namespace, name):
                for devices in (devices for container in pod.containers for devices in container.devices):
                    found[devices.resource_name].update(devices.device_ids)
        return {resource: sorted(ids) for resource, ids in found.items()}

    def device_resources(self) -> set[str] | None:
        """The resources that device plugins offer on this node; None where the kubelet does not tell.

        Raises TryAgainLater.
        """
        try:
            answer = self._ask("GetAllocatableResources")
        except grpc.Failed:
            return None  # a kubelet before 1.23
        return {devices.resource_name for devices in answer.devices}

    def _pods(self, namespace: str, name: str) -> Any:
        try:
            return [self._ask("Get", pod_name=name, pod_namespace=namespace).pod_resources]
        except grpc.Failed:
            # A kubelet before 1.34 does not have Get, or says that it is disabled; another does not know the pod. No
            # status of its own tells these apart, and List has an answer to all.
            return self._list()

    def _list(self) -> Any:
        try:
            return self._ask("List").pod_resources
        except grpc.Failed as error:
            raise self._unanswered(error) from error

    def _ask(self, method: str, **fields: str) -> Any:
        """The answer. Raises Failed when the kubelet answers with a status, TryAgainLater when it does not answer."""
        request = _classes()[f"{METHODS[method]}Request"](**fields).SerializeToString()
        end = self._clock() + self.timeout
        while True:
            try:
                left = max(end - self._clock(), PAUSE)
                return _parse(method, grpc.call(self.path, SERVICE + method, request, timeout=left))
            except grpc.Failed as error:
                if error.status in PASSING or (error.status == grpc.RESOURCE_EXHAUSTED and self._clock() > end):
                    raise self._unanswered(error) from error
                if error.status != grpc.RESOURCE_EXHAUSTED:
                    raise
                self._sleep(random.SystemRandom().uniform(0, PAUSE))  # pods that start together need not ask in step

    def _unanswered(self, error: grpc.Failed) -> TryAgainLater:
        return TryAgainLater(
            "could not ask the kubelet which devices the pod has",
            f'its socket "{self.path}": {error}',
            id="PLX-KUBELET-UNREACHABLE",
        )


def _parse(method: str, answer: bytes) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return _classes()[f"{METHODS[method]}Response"].FromString(answer)
    except DecodeError as error:
        raise grpc.Failed(grpc.UNKNOWN, f"the answer to {method} is not the message it should be: {error}") from error


@functools.cache
def _classes() -> dict[str, Any]:
    """A class for each of MESSAGES."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="podresources.proto", package="v1", syntax="proto3")
    for message, fields in MESSAGES.items():
        file.message_type.add(name=message, field=[_field(text, number) for text, number in fields.items()])
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"v1.{name}")) for name in MESSAGES}


def _field(text: str, number: int) -> Any:
    """Read `[repeated] NAME[: TYPE]`."""
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field

    words, _, kind = text.partition(": ")
    label = Field.LABEL_REPEATED if words.startswith("repeated ") else Field.LABEL_OPTIONAL
    name = words.rpartition(" ")[2]
    if kind:
        return Field(name=name, number=number, label=label, type=Field.TYPE_MESSAGE, type_name=f".v1.{kind}")
    return Field(name=name, number=number, label=label, type=Field.TYPE_STRING)
