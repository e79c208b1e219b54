"""Which device each network of a pod takes, of those that the pod was given."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence

from cni.kube.kubelet import Kubelet
from cni.kube.objects import Devices, Pod
from cni.kube.source import Source
from cni.meta.wanted import DEVICE_ID, Wanted
from cni.spec.errors import InvalidConfiguration


class PodDevices:
    """What one pod has of some resources; nobody is asked before a network takes a device.

    `uid` is the pod's UID as the runtime, and so the kubelet, knows it.
    """

    def __init__(self, resources: Collection[str], pod: Pod, uid: str, kubelet: Kubelet, source: Source) -> None:
        self.resources = resources
        self.pod = pod
        self.uid = uid
        self.kubelet = kubelet
        self.source = source

    def find(self, resource: str, count: int, named: Collection[str]) -> list[str]:
        """The IDs of the pod's devices of a resource: the kubelet's, and those of its claims unless the former do.

        They do when they are `count`, with those that are `named` among them. Raises TryAgainLater, DecodingFailure,
        InvalidConfiguration.
        """
        given = list(self._given.get(resource, ()))
        if len(given) >= count and set(named) <= set(given):
            return given
        return list(dict.fromkeys([*given, *self._claimed.get(resource, ())]))

    def is_only_counted(self, resource: str) -> bool:
        """Whether the resource is a mere number in the node's status, with no device plugin and no driver behind it."""
        known = self.kubelet.device_resources()
        return known is not None and resource not in known and not self.source.is_claimable(self.pod, resource)

    @functools.cached_property
    def _given(self) -> Devices:
        return self.kubelet.devices_of(self.pod.namespace, self.pod.name, self.uid)

    @functools.cached_property
    def _claimed(self) -> Devices:
        has_claims = self.pod.claims or self.pod.extended_claim
        return self.source.claimed_devices(self.pod, self.resources) if has_claims else {}


def allot(wanted: Sequence[Wanted], pod: Pod, uid: str, kubelet: Kubelet, source: Source) -> list[str]:
    """The ID of each network's device, "" where it takes none.

    Networks of one resource take the pod's devices of it in sorted order, but for those that ask for one by its ID.
    Raises InvalidConfiguration when a device is missing, TryAgainLater when it is not known which there are.
    """
    shares = [want.device for want in wanted]
    sharing = defaultdict(list)
    for index, want in enumerate(wanted):
        if want.takes_device:
            sharing[want.network.resource].append(index)
    devices = PodDevices(sharing, pod, uid, kubelet, source)
    for resource, indexes in sharing.items():
        found = _share(resource, [wanted[index] for index in indexes], devices)
        for index, device in zip(indexes, found, strict=True):
            shares[index] = device
    return shares


def _share(resource: str, wanted: list[Wanted], devices: PodDevices) -> list[str]:
    named = [want.device for want in wanted if want.device]
    ids = devices.find(resource, len(wanted), named)
    for problem in _wrongly_named(wanted, ids):
        raise _missing(resource, wanted, problem)
    left = iter(device for device in ids if device not in named)
    shares = [want.device or next(left, "") for want in wanted]
    without = [want for want, share in zip(wanted, shares, strict=True) if not share]
    if without and (ids or any(map(_claims_device, without)) or not devices.is_only_counted(resource)):
        raise _missing(resource, without, _counted(wanted, ids))
    return shares


def _wrongly_named(wanted: list[Wanted], ids: list[str]) -> Iterator[str]:
    seen: set[str] = set()
    for device in (want.device for want in wanted if want.device):
        if device not in ids:
            yield f'`deviceID` asks for "{device}", and the pod has {_told(ids)}'
        if device in seen:
            yield f'`deviceID` asks for "{device}" twice: name another, or none'
        seen.add(device)


def _claims_device(want: Wanted) -> bool:
    return DEVICE_ID in want.network.conf.capabilities


def _counted(wanted: list[Wanted], ids: list[str]) -> str:
    count = len(wanted)
    takers = "one network takes one" if count == 1 else f"{count} networks take one each"
    remedy = f"ask for {count} in the limits of one of its containers, or by a ResourceClaim"
    return f"{takers}, and the pod has {_told(ids)}: {remedy}"


def _told(ids: list[str]) -> str:
    return f"{len(ids)} ({', '.join(ids)})" if ids else "none"


def _missing(resource: str, wanted: list[Wanted], reason: str) -> InvalidConfiguration:
    networks = ", ".join(f'"{want.network.name}"' for want in wanted)
    return InvalidConfiguration(
        f'could not find a device of resource "{resource}" for network {networks}', reason, id="PLX-DEVICE-MISSING"
    )
