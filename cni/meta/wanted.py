"""A network that a container is to be attached to, and what the pod asks of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cni.meta.networks import Network
from cni.meta.selection import NetworkSelection
from cni.plugin import invoke
from cni.spec import netconf

DEVICE_ID = "deviceID"


@dataclass(frozen=True)
class Wanted:
    """A network, and what the pod asks of it; None where the pod had no say."""

    network: Network
    selection: NetworkSelection | None = None

    @property
    def device(self) -> str:
        """The device that the pod asks for by its ID, or ""."""
        return self.selection.device_id if self.selection else ""

    @property
    def takes_device(self) -> bool:
        """Whether it takes one of the pod's devices.

        Plugins that are built in use none, unless they say so: there the resource only tells the scheduler which nodes
        have the network, as KubeVirt's bridge-marker does.
        """
        kinds = {netconf.plugin_type(plugin) for plugin in self.network.conf.plugins}
        uses = DEVICE_ID in self.network.conf.capabilities or not kinds <= invoke.BUILT_IN.keys()
        return bool(self.network.resource) and uses

    @property
    def asked(self) -> dict[str, Any]:
        """What a plugin of the network has to serve; a device that is chosen of the pod's own is not asked of any."""
        asked = self.selection.runtime_config if self.selection else {}
        return {key: value for key, value in asked.items() if not (key == DEVICE_ID and self.takes_device)}
