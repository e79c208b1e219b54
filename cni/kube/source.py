"""Where pods and networks come from: the interface that every source has."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

from cni.kube.objects import Devices, NetworkAttachmentDefinition, Pod


class Source(Protocol):
    """A place that knows pods and networks, and takes network-status.

    Not knowing is an error for the runtime to retry, never "no networks".
    """

    @property
    def questions_at_once(self) -> int:
        """How many threads are worth having for questions; 1 where an answer costs no waiting."""
        ...

    def get_pod(self, namespace: str, name: str, uid: str = "") -> Pod:
        """Return the pod, which a source that remembers looks up anew where it knows another UID.

        Raises TryAgainLater when it is not known, or cannot be.
        """
        ...

    def find_network(self, namespace: str, name: str) -> NetworkAttachmentDefinition | None:
        """Return the definition, or None when it certainly does not exist. Raises TryAgainLater, DecodingFailure."""
        ...

    def claimed_devices(self, pod: Pod, resources: Collection[str]) -> Devices:
        """The pod's devices of these resources by ResourceClaims. Raises TryAgainLater, InvalidConfiguration."""
        ...

    def is_claimable(self, pod: Pod, resource: str) -> bool:
        """Whether devices of the resource are had by ResourceClaims on the pod's node. Raises as `claimed_devices`."""
        ...

    def check_ready(self) -> None:
        """Raise PluginUnavailable unless questions can be answered now."""
        ...

    def publish(self, pod: Pod, status: str) -> None:
        """Make `status`, the JSON text of a list (NPWG section 5), the pod's network-status. Raises IOFailure."""
        ...

    def announce(self, pod: Pod, reason: str, message: str, *, warning: bool = False) -> None:
        """Tell whoever watches the pod what became of it, where there is a way to; never raises."""
        ...

    def withdraw(self, namespace: str, name: str, is_ours: Callable[[str], bool] | None = None) -> None:
        """Take back a network-status, if `is_ours` says so of what it is now, or whatever it is. Raises IOFailure."""
        ...
