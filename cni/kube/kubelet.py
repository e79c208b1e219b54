"""The kubelet of this node, as far as it knows which devices a pod has."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cni.kube.objects import Devices
from cni.spec.errors import TryAgainLater

if TYPE_CHECKING:
    from cni.kube.checkpoint import Checkpoint
    from cni.kube.pod_resources import PodResources

SOCKET = "pod-resources/kubelet.sock"
CHECKPOINT = "device-plugins/kubelet_internal_checkpoint"


class Kubelet:
    """The kubelet whose root is `directory`: its socket where there is one, else its checkpoint."""

    def __init__(self, directory: str) -> None:
        self.socket = os.path.join(directory, SOCKET)
        self.checkpoint = os.path.join(directory, CHECKPOINT)

    def devices_of(self, namespace: str, name: str, uid: str) -> Devices:
        """The pod's devices. Raises TryAgainLater, DecodingFailure, IOFailure."""
        if os.path.exists(self.socket):
            return self._api().devices_of(namespace, name)
        return self._remembered().devices_of(uid)

    def device_resources(self) -> set[str] | None:
        """The resources that device plugins offer here; None where that cannot be told. Raises as `devices_of`."""
        if os.path.exists(self.socket):
            return self._api().device_resources()
        return self._remembered().device_resources()

    def _api(self) -> PodResources:
        from cni.kube.pod_resources import PodResources  # most pods have no devices

        return PodResources(self.socket)

    def _remembered(self) -> Checkpoint:
        from cni.kube import checkpoint

        found = checkpoint.read(self.checkpoint)
        if found is None:
            raise TryAgainLater(
                "could not tell which devices the pod has",
                f'there is neither "{self.socket}" nor "{self.checkpoint}": set `kubeletDir` to the kubelet\'s root',
                id="PLX-KUBELET-UNREACHABLE",
            )
        return found
