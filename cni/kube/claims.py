"""The devices of a pod's ResourceClaims, as their drivers describe them (dynamic resource allocation).

The API is resource.k8s.io/v1.

A device is a network's when its driver gives it the attributes `k8s.cni.cncf.io/resourceName` and
`k8s.cni.cncf.io/deviceID`; claims may hold others, GPUs for example, which are none of our business.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from cni.kube.objects import ExtendedClaim, Pod
from cni.spec.errors import InvalidConfiguration, TryAgainLater

RESOURCE_NAME = "k8s.cni.cncf.io/resourceName"
DEVICE_ID = "k8s.cni.cncf.io/deviceID"
CLAIM = "/apis/resource.k8s.io/v1/namespaces/{}/resourceclaims/{}"
SLICES = "/apis/resource.k8s.io/v1/resourceslices?fieldSelector={}"

Ask = Callable[[str, str], Any]
"""GET a path of the API server, told with what it is for; None when it does not exist."""
Attributes = Mapping[str, Any]
log = logging.getLogger(__name__)


def names(pod: Mapping[str, Any]) -> tuple[str, ...]:
    """The claims of a pod object: those it names itself, and those made for it from templates."""
    named = (claim.get("resourceClaimName") for claim in (pod.get("spec") or {}).get("resourceClaims") or ())
    made = (claim.get("resourceClaimName") for claim in (pod.get("status") or {}).get("resourceClaimStatuses") or ())
    return tuple(dict.fromkeys(filter(None, (*named, *made))))


def extended(pod: Mapping[str, Any]) -> ExtendedClaim | None:
    """The claim for the extended resources of a pod object, if there is one."""
    status = (pod.get("status") or {}).get("extendedResourceClaimStatus")
    if not status:
        return None
    requests = ((mapping["requestName"], mapping["resourceName"]) for mapping in status.get("requestMappings") or ())
    return ExtendedClaim(name=status["resourceClaimName"], requests=tuple(requests))


def find_devices(ask: Ask, pod: Pod, resources: Collection[str]) -> dict[str, list[str]]:
    """The pod's devices of these resources. Raises TryAgainLater, InvalidConfiguration."""
    claims = _Claims(ask, pod)
    found = defaultdict(set)
    for name in pod.claims:
        for resource, device in claims.devices(name):
            found[resource].add(device)
    for request, resource in pod.extended_claim.requests if pod.extended_claim else ():
        if resource in resources:
            found[resource].update(claims.extended_devices(request, resource))
    return {resource: sorted(found[resource]) for resource in resources if resource in found}


def is_claimable(ask: Ask, node: str, resource: str) -> bool:
    """Whether a driver offers devices of the resource on the node. Raises TryAgainLater, InvalidConfiguration."""
    data = ask(SLICES.format(quote(f"spec.nodeName={node}")), f'list the devices of node "{node}"')
    specs = (item["spec"] for item in (data or {}).get("items") or ())
    offered = (device.get("attributes") or {} for spec in specs for device in spec.get("devices") or ())
    return any(_text(attributes, RESOURCE_NAME) == resource for attributes in offered)


class _Claims:
    """One pod's claims and the slices of its node, each asked for once."""

    def __init__(self, ask: Ask, pod: Pod) -> None:
        self.ask = ask
        self.pod = pod
        self._results: dict[str, list[Mapping[str, Any]]] = {}
        self._slices: dict[str, dict[tuple[str, str], Attributes]] = {}

    def devices(self, claim: str) -> Iterator[tuple[str, str]]:
        """(resource, device ID) of each allocated device that is for a network."""
        for result in self._allocated(claim):
            attributes = self._attributes(result)
            resource, device = _text(attributes, RESOURCE_NAME), _text(attributes, DEVICE_ID)
            if resource and device:
                yield resource, device
            else:
                log.warning('%s of claim "%s" is for no network: %s', _told(result), claim, _missing(attributes))

    def extended_devices(self, request: str, resource: str) -> Iterator[str]:
        """The device IDs of a request that the scheduler made for `resource`: they must be what it took them for."""
        claim = self.pod.extended_claim.name if self.pod.extended_claim else ""
        results = [result for result in self._allocated(claim) if result["request"].partition("/")[0] == request]
        if not results:
            raise _refused(f'request "{request}" of ResourceClaim "{claim}"', "the claim has no device for it")
        for result in results:
            attributes = self._attributes(result)
            own, device = _text(attributes, RESOURCE_NAME), _text(attributes, DEVICE_ID)
            if not device or not own:
                raise _refused(_told(result), _missing(attributes))
            if own != resource:
                raise _refused(_told(result), f'its {RESOURCE_NAME} is "{own}", but it was given for "{resource}"')
            yield device

    def _allocated(self, claim: str) -> list[Mapping[str, Any]]:
        """The results of the claim's allocation. Raises TryAgainLater."""
        if claim not in self._results:
            self._results[claim] = self._get_results(claim)
        return self._results[claim]

    def _get_results(self, claim: str) -> list[Mapping[str, Any]]:
        what = f'look up ResourceClaim "{self.pod.namespace}/{claim}"'
        data = self.ask(CLAIM.format(self.pod.namespace, claim), what)
        if data is None:
            raise _unknown(what, "it is not found")
        allocation = (data.get("status") or {}).get("allocation")
        if not allocation:
            raise _unknown(what, "nothing is allocated to it (any more)")
        results = (allocation.get("devices") or {}).get("results") or []
        return [result for result in results if not result.get("adminAccess")]  # others' devices, to look at only

    def _attributes(self, result: Mapping[str, Any]) -> Attributes:
        """What the driver says of the device; nothing of one that it does not know on this node."""
        driver = result["driver"]
        if driver not in self._slices:
            self._slices[driver] = self._list_devices(driver)
        return self._slices[driver].get((result["pool"], result["device"]), {})

    def _list_devices(self, driver: str) -> dict[tuple[str, str], Attributes]:
        """By pool and name; of a pool that is being replaced, the newest generation."""
        selector = quote(f"spec.nodeName={self.pod.node},spec.driver={driver}")
        data = self.ask(SLICES.format(selector), f'list the devices of driver "{driver}" on node "{self.pod.node}"')
        specs = [item["spec"] for item in (data or {}).get("items") or () if item["spec"]["driver"] == driver]
        newest: dict[str, int] = {}
        for pool in (spec["pool"] for spec in specs):
            newest[pool["name"]] = max(pool["generation"], newest.get(pool["name"], 0))
        return {
            (spec["pool"]["name"], device["name"]): device.get("attributes") or {}
            for spec in specs
            if spec["pool"]["generation"] == newest[spec["pool"]["name"]]
            for device in spec.get("devices") or ()
        }


def _text(attributes: Attributes, name: str) -> str:
    return (attributes.get(name) or {}).get("string") or ""


def _told(result: Mapping[str, Any]) -> str:
    return f'device "{result["device"]}" of driver "{result["driver"]}", pool "{result["pool"]}"'


def _missing(attributes: Attributes) -> str:
    if not attributes:
        return "no ResourceSlice of this node describes it"
    lacking = [name for name in (RESOURCE_NAME, DEVICE_ID) if not _text(attributes, name)]
    return f"its driver gives it no attribute {' and no '.join(lacking)}"


def _unknown(what: str, reason: str) -> TryAgainLater:
    return TryAgainLater(f"could not {what}", reason, id="PLX-CLAIM-UNKNOWN")


def _refused(what: str, reason: str) -> InvalidConfiguration:
    return InvalidConfiguration(f"could not use {what} for a network", reason, id="PLX-CLAIM-DEVICE")
