"""The result of an ADD, in the shape of the newest specification (section 5, "Success")."""

from __future__ import annotations

from typing import Any

import pydantic

from cni.spec.model import CIDR, Address, IPAddress, Many, Model, parse_cidr

DEFAULT_ROUTES = ("0.0.0.0/0", "::/0")


class Interface(Model):
    """An interface that a plugin made; `sandbox` is the container's namespace, or "" for one of the host."""

    name: str = ""
    mac: str = ""
    mtu: int = 0
    sandbox: str = ""
    socket_path: str = ""
    pci_id: str = pydantic.Field(default="", alias="pciID")


class IPConfig(Model):
    """An address on the interface whose index in the result is `interface`."""

    address: CIDR
    interface: int | None = None
    gateway: Address | None = None


class Route(Model):
    """A route; `gw` None leaves the gateway to the plugin. mtu and advmss in bytes, 0 for the kernel's default."""

    dst: CIDR
    gw: Address | None = None
    mtu: int = 0
    advmss: int = 0
    priority: int = 0
    table: int | None = None
    scope: int | None = None

    @classmethod
    def default(cls, gateway: IPAddress) -> Route:
        """The route to everywhere through `gateway`."""
        return cls(dst=parse_cidr(DEFAULT_ROUTES[gateway.version == 6]), gw=gateway)

    @property
    def is_default(self) -> bool:
        """Whether this is the route to everywhere."""
        return str(self.dst.network) in DEFAULT_ROUTES

    @property
    def family(self) -> int:
        """4 or 6."""
        return self.dst.version


class DNS(Model):
    """Name resolution, for the runtime to apply. `model_fields_set` tells an empty list from an absent one."""

    nameservers: Many[str] = ()
    domain: str = ""
    search: Many[str] = ()
    options: Many[str] = ()

    def __bool__(self) -> bool:
        return bool(self.nameservers or self.domain or self.search or self.options)


class Result(Model):
    """What an ADD made."""

    interfaces: Many[Interface] = ()
    ips: Many[IPConfig] = ()
    routes: Many[Route] = ()
    dns: DNS = DNS()

    def replace(self, **changes: Any) -> Result:
        """A copy with these fields changed."""
        return self.model_copy(update=changes)

    def addresses(self, family: int) -> tuple[IPConfig, ...]:
        """The addresses of one family, 4 or 6."""
        return tuple(ip for ip in self.ips if ip.address.version == family)

    def gateway(self, family: int) -> IPAddress | None:
        """The first gateway of one family, 4 or 6."""
        return next((ip.gateway for ip in self.addresses(family) if ip.gateway), None)
