"""The file in which the kubelet's device manager remembers whom it gave which device, for kubelets without a socket.

It is the kubelet's own affair, but has kept its form since Kubernetes 1.20. Its checksum is not verified: only the
kubelet can write the file.
"""

from __future__ import annotations

from collections import defaultdict

from cni.plugin import files
from cni.spec import document, model
from cni.spec.errors import CNIError, DecodingFailure
from cni.spec.model import Many, Model


class _Entry(Model):
    """What one container has of one resource."""

    pod_uid: str = ""
    resource_name: str = ""
    device_ids: dict[str, Many[str] | None] = {}  # noqa: RUF012 - pydantic copies it
    """By NUMA node."""


class _Data(Model):
    pod_device_entries: Many[_Entry] = ()
    registered_devices: dict[str, Many[str] | None] = {}  # noqa: RUF012 - pydantic copies it


class _File(Model):
    data: _Data = _Data()


class Checkpoint:
    """The content of the file."""

    def __init__(self, data: _Data) -> None:
        self._data = data

    def devices_of(self, uid: str) -> dict[str, list[str]]:
        """The pod's devices by resource, of all its containers."""
        found: defaultdict[str, set[str]] = defaultdict(set)
        for entry in self._data.pod_device_entries:
            if uid and entry.pod_uid == uid:
                found[entry.resource_name].update(*(ids or () for ids in entry.device_ids.values()))
        return {resource: sorted(ids) for resource, ids in found.items()}

    def device_resources(self) -> set[str]:
        """The resources that device plugins have registered."""
        entries = self._data.pod_device_entries
        return {*self._data.registered_devices, *(entry.resource_name for entry in entries)}


def read(path: str) -> Checkpoint | None:
    """The checkpoint in the file `path`, or None when there is none. Raises DecodingFailure, IOFailure."""
    content = files.read(path)
    if content is None:
        return None
    try:
        return Checkpoint(model.parse(_File, document.decode(content, "it"), "it").data)
    except CNIError as error:
        raise DecodingFailure(
            f'could not read the kubelet\'s checkpoint "{path}"',
            f"{error.reason}; a kubelet of another version wrote it?",
            id="PLX-KUBELET-CHECKPOINT",
        ) from error
