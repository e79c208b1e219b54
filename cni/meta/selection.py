"""The annotations in which a pod asks for networks (NPWG standard, section 4.1)."""

from __future__ import annotations

from typing import Annotated, Any

import pydantic

from cni.kube import objects
from cni.meta.asked import GUID, IP, MAC, Bandwidth, PortMapping
from cni.spec import document, model, names
from cni.spec.errors import DecodingFailure, InvalidConfiguration, InvalidEnvironment
from cni.spec.model import Address, InvalidField, Many, Model

NETWORKS = "k8s.v1.cni.cncf.io/networks"
DEFAULT_NETWORK = "v1.multus-cni.io/default-network"

MOST_NETWORKS = 64
"""More than any machine type has slots for NICs; a bound, since anybody may write the annotation."""
LONGEST = 256 * 1024
"""Bytes: what Kubernetes allows all annotations of an object together."""
MOST_IPS = 64
"""Addresses of one interface."""
MOST_PORTS = 1024
SHOWN = 60


class NetworkSelection(Model):
    """One element of the annotation: a network, and what the pod asks of its attachment."""

    name: str
    namespace: str = ""
    interface: str = ""
    interface_request: str = ""
    """Deprecated name of `interface`."""

    ips: Annotated[Many[IP], pydantic.Field(max_length=MOST_IPS)] = ()
    mac: MAC = ""
    infiniband_guid: GUID = pydantic.Field("", alias="infiniband-guid")
    bandwidth: Bandwidth | None = None
    port_mappings: Annotated[Many[PortMapping], pydantic.Field(max_length=MOST_PORTS)] = ()
    cni_args: dict[str, Any] = pydantic.Field(default_factory=dict, alias="cni-args")
    default_route: Many[Address] | None = pydantic.Field(None, alias="default-route")
    """Gateways. None: nothing is asked; empty: keep the default routes that the plugin makes."""

    device_id: str = pydantic.Field("", alias="deviceID")

    @property
    def full_name(self) -> str:
        """Namespace and name, joined by a slash."""
        return f"{self.namespace}/{self.name}"

    @property
    def runtime_config(self) -> dict[str, Any]:
        """What is asked for, as the values of capabilities (CONVENTIONS.md of the specification)."""
        asked = {
            "ips": list(self.ips),
            "mac": self.mac,
            "infinibandGUID": self.infiniband_guid,
            "bandwidth": self.bandwidth.encode() if self.bandwidth else None,
            "portMappings": [mapping.encode() for mapping in self.port_mappings],
            "deviceID": self.device_id,
        }
        return {key: value for key, value in asked.items() if value}


def parse(text: str, annotation: str, namespace: str) -> list[NetworkSelection]:
    """Read an annotation in its short or its JSON form; `namespace` is that of networks without one.

    Raises InvalidConfiguration or DecodingFailure, naming the element that is wrong.
    """
    if len(text) > LONGEST:
        raise _invalid(annotation, f"it is longer than {LONGEST} characters")
    items = _decode(text, annotation) if set(text) & set('[{"') else _split(text, annotation)
    if len(items) > MOST_NETWORKS:
        raise _invalid(annotation, f"{len(items)} networks are more than the {MOST_NETWORKS} a pod can have")
    selections = []
    for index, item in enumerate(items):
        where = f"element {index + 1} of annotation {annotation}"
        selections.append(_complete(_read(item, where), namespace, where))
    return selections


def parse_default_network(text: str, namespace: str) -> NetworkSelection:
    """Read the annotation that replaces the cluster network: it names exactly one."""
    selections = parse(text, DEFAULT_NETWORK, namespace)
    if len(selections) != 1:
        raise _invalid(DEFAULT_NETWORK, f"it must name one network, not {len(selections)}")
    return selections[0]


def _read(item: dict[str, Any], where: str) -> NetworkSelection:
    try:
        return model.parse(NetworkSelection, item, where)
    except InvalidField as error:
        raise InvalidConfiguration(error.msg, error.reason, id="PLX-ANNOTATION") from error


def _decode(text: str, annotation: str) -> list[Any]:
    try:
        items = document.decode_any(text, f"annotation {annotation}")
    except DecodingFailure as error:
        raise DecodingFailure(error.msg, error.reason, id="PLX-ANNOTATION") from error
    if not isinstance(items, list):
        raise _invalid(annotation, f"it must be a list of objects, not {document.kind(items)}")
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            raise _invalid(annotation, f"element {index + 1} must be an object, not {document.kind(item)}")
    return items


def _split(text: str, annotation: str) -> list[dict[str, str]]:
    """Read `[namespace/]name[@interface]`, comma-separated."""
    items = text.split(",") if text.strip() else []
    return [_split_item(item.strip(), f"element {index + 1}", annotation) for index, item in enumerate(items)]


def _split_item(item: str, where: str, annotation: str) -> dict[str, str]:
    rest, _, interface = (part.strip() for part in item.partition("@"))
    namespace, _, name = (part.strip() for part in rest.rpartition("/"))
    if "/" in namespace or "@" in interface:
        raise _invalid(annotation, f"{where}, {_shown(item)}, is not of the form [NAMESPACE/]NAME[@INTERFACE]")
    return {"namespace": namespace, "name": name, "interface": interface}


def _complete(selection: NetworkSelection, namespace: str, where: str) -> NetworkSelection:
    """Fill in the namespace, and refuse names that cannot be."""
    complete = selection.model_copy(
        update={
            "namespace": selection.namespace or namespace,
            "interface": selection.interface or selection.interface_request,
        }
    )
    if not complete.name:
        raise InvalidConfiguration(f"could not read {where}", "it names no network", id="PLX-ANNOTATION")
    objects.validate_name(complete.name, f"{where}: network")
    objects.validate_name(complete.namespace, f"{where}: namespace")
    if complete.interface:
        try:
            names.validate_ifname(complete.interface)
        except InvalidEnvironment as error:
            raise InvalidConfiguration(
                f"{where}: could not use interface {_shown(complete.interface)}", error.msg, id="PLX-ANNOTATION"
            ) from error
    return complete


def _invalid(annotation: str, problem: str) -> InvalidConfiguration:
    return InvalidConfiguration(f"could not read annotation {annotation}", problem, id="PLX-ANNOTATION")


def _shown(text: str) -> str:
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "…")
