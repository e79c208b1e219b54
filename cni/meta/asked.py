"""What a pod can ask of an attachment besides the network: each value in the form that the NPWG standard gives it."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

import pydantic

from cni.spec import model
from cni.spec.model import Address, Model

MAC_FORMS = (
    re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}"),
    re.compile(r"[0-9a-f]{2}(-[0-9a-f]{2}){5}"),
    re.compile(r"[0-9a-f]{4}(\.[0-9a-f]{4}){2}"),
)
GUID_FORMS = (
    re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){7}"),
    re.compile(r"[0-9a-f]{2}(-[0-9a-f]{2}){7}"),
    re.compile(r"[0-9a-f]{4}(\.[0-9a-f]{4}){3}"),
)
GROUP = 0x01
"""The bit of the first octet that makes a MAC address a group's."""


def _mac(text: str) -> str:
    if not text:
        return ""
    octets = _octets(text, MAC_FORMS)
    if octets is None:
        raise ValueError(f"invalid MAC address: {text}: 6 octets are wanted, for example 02:00:00:00:00:01")
    if octets[0] & GROUP or not any(octets):
        raise ValueError(f"invalid MAC address: {text}: no interface can have a group's address, nor zero")
    return octets.hex(":")


def _guid(text: str) -> str:
    if not text:
        return ""
    octets = _octets(text, GUID_FORMS)
    if octets is None:
        raise ValueError(f"invalid InfiniBand GUID: {text}: 8 octets are wanted, for example 24:8a:07:03:00:8d:ae:2e")
    return octets.hex(":")


def _octets(text: str, forms: tuple[re.Pattern[str], ...]) -> bytes | None:
    folded = text.lower()
    if not any(form.fullmatch(folded) for form in forms):
        return None
    return bytes.fromhex(re.sub("[-:.]", "", folded))


def _ip(text: str) -> str:
    (model.parse_cidr if "/" in text else model.parse_address)(text)
    return text


def _protocol(text: Any) -> Any:
    return text.lower() or "tcp" if isinstance(text, str) else text


def _optional_address(value: Any) -> Any:
    return None if value == "" else value


MAC = Annotated[str, pydantic.AfterValidator(_mac)]
"""Six octets, written with colons, hyphens or dots, kept as the kernel writes them; "" asks for nothing."""
GUID = Annotated[str, pydantic.AfterValidator(_guid)]
"""The same with eight octets."""
IP = Annotated[str, pydantic.AfterValidator(_ip)]
"""An address, with a prefix length or without."""
Port = Annotated[int, pydantic.Field(ge=1, le=65535)]
Amount = Annotated[int, pydantic.Field(gt=0)]


class PortMapping(Model):
    """A port of the node that leads to one of the pod."""

    host_port: Port
    container_port: Port
    protocol: Annotated[Literal["tcp", "udp", "sctp"], pydantic.BeforeValidator(_protocol)] = "tcp"
    host_ip: Annotated[Address | None, pydantic.BeforeValidator(_optional_address)] = pydantic.Field(
        None, alias="hostIP"
    )

    def encode(self) -> dict[str, Any]:
        """As the capability portMappings has it."""
        ports = {"hostPort": self.host_port, "containerPort": self.container_port, "protocol": self.protocol}
        return ports | ({"hostIP": str(self.host_ip)} if self.host_ip else {})


class Bandwidth(Model):
    """Limits, in bits per second and bits."""

    ingress_rate: Amount | None = None
    ingress_burst: Amount | None = None
    egress_rate: Amount | None = None
    egress_burst: Amount | None = None

    @pydantic.model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.ingress_rate is None and self.egress_rate is None:
            raise ValueError("names neither ingressRate nor egressRate")
        for way, rate, burst in (
            ("ingress", self.ingress_rate, self.ingress_burst),
            ("egress", self.egress_rate, self.egress_burst),
        ):
            if rate is None and burst is not None:
                raise ValueError(f"{way}Burst is nothing without {way}Rate")
        return self

    def encode(self) -> dict[str, Any]:
        """As the capability bandwidth has it."""
        return self.model_dump(by_alias=True, exclude_none=True)
