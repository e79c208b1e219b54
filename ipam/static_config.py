"""The configuration of static: addresses as they are written, and what completes or replaces them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cni.spec import args, model, versions
from cni.spec.errors import CNIError, InvalidConfiguration, InvalidEnvironment
from cni.spec.model import InvalidAddress, IPAddress, IPInterface, Many, Model, parse_address, parse_cidr
from cni.spec.request import Request
from cni.spec.result import DNS, IPConfig, Route
from ipam.config import SETS_SINCE, Args, OptionalAddress

HINT = 'write it with its prefix length, for example "192.0.2.10/24"'


class AddressKeys(Model):
    """An address as it is written."""

    address: str = ""
    gateway: OptionalAddress = None


class IPAM(Model):
    """The `ipam` object."""

    addresses: Many[AddressKeys] = ()
    routes: Many[Route] = ()
    dns: DNS = DNS()


class RuntimeConfig(Model):
    """What the runtime adds for the capability ips."""

    ips: Many[str] = ()


class NetConf(Model):
    """The parts of a network configuration that static reads."""

    ipam: IPAM | None = None
    args: Args = Args()
    runtime_config: RuntimeConfig = RuntimeConfig()


@dataclass(frozen=True)
class Config:
    """What ADD is to answer."""

    ips: tuple[IPConfig, ...]
    routes: tuple[Route, ...]
    dns: DNS


def parse(request: Request) -> Config:
    """Read the configuration of `request`, and what it asks for.

    Raises InvalidConfiguration in the reference plugin's words, InvalidEnvironment for CNI_ARGS.
    """
    conf = model.parse(NetConf, request.conf, "the configuration of static")
    if conf.ipam is None:
        raise InvalidConfiguration("IPAM config missing 'ipam' key", "ipam", id="PLX-IPAM-CONF")
    asked = args.known(request.args, ("IP", "GATEWAY"))
    in_args, gateways = _in_args(asked.get("IP", "")), _gateways(asked.get("GATEWAY", ""))
    ips = _replacing(conf)
    if not ips:  # only now do written addresses matter: those that are replaced may be wrong
        written = [ip if ip.gateway else _with_gateway(ip, gateways) for ip in _written(conf.ipam)]
        ips = (*written, *(_with_gateway(ip, gateways) for ip in in_args))
    _require_expressible(ips, request.cni_version)
    return Config(ips=ips, routes=conf.ipam.routes, dns=conf.ipam.dns)


def _written(ipam: IPAM) -> list[IPConfig]:
    return [
        IPConfig(address=_cidr(keys.address, _bad_address(keys.address, i)), gateway=keys.gateway)
        for i, keys in enumerate(ipam.addresses)
    ]


def _bad_address(text: str, index: int) -> InvalidConfiguration:
    msg = f"the 'address' field is expected to be in CIDR notation, got: '{text}'"
    return InvalidConfiguration(msg, f"ipam.addresses[{index}].address: {HINT}", id="PLX-IPAM-CONF")


def _in_args(value: str) -> list[IPConfig]:
    """The addresses of `IP=` in CNI_ARGS."""
    return [IPConfig(address=_cidr(text, _bad_ip(text))) for text in _items(value)]


def _bad_ip(text: str) -> InvalidEnvironment:
    msg = f"the 'ip' field is expected to be in CIDR notation, got: '{text}'"
    return InvalidEnvironment(msg, f"IP in CNI_ARGS: {HINT}", id="PLX-IPAM-REQUEST")


def _gateways(value: str) -> list[IPAddress]:
    """The gateways of `GATEWAY=` in CNI_ARGS."""
    found = []
    for text in _items(value):
        try:
            found.append(parse_address(text))
        except InvalidAddress as error:
            raise InvalidEnvironment(
                f"invalid gateway address: {text}", "GATEWAY in CNI_ARGS must hold addresses", id="PLX-IPAM-REQUEST"
            ) from error
    return found


def _replacing(conf: NetConf) -> tuple[IPConfig, ...]:
    """What is asked for instead of all other addresses: by the runtime, else by the user."""
    by_user = _list(conf.args.cni.ips, "args.cni.ips")
    by_runtime = _list(conf.runtime_config.ips, "runtimeConfig.ips")
    return by_runtime or by_user


def _list(texts: Iterable[str], path: str) -> tuple[IPConfig, ...]:
    return tuple(IPConfig(address=_cidr(text, _bad_entry(text, f"{path}[{i}]"))) for i, text in enumerate(texts))


def _bad_entry(text: str, path: str) -> InvalidConfiguration:
    msg = f"an entry in the 'ips' field is NOT in CIDR notation, got: '{text}'"
    return InvalidConfiguration(msg, f"{path}: {HINT}", id="PLX-IPAM-REQUEST")


def _cidr(text: str, failure: CNIError) -> IPInterface:
    """The address with its prefix length. Raises `failure`."""
    try:
        return parse_cidr(text)
    except InvalidAddress as error:
        raise failure from error


def _with_gateway(ip: IPConfig, gateways: Iterable[IPAddress]) -> IPConfig:
    """The address with the last of the gateways that are in its subnet, if any is."""
    fitting = [gateway for gateway in gateways if gateway in ip.address.network]
    return ip.model_copy(update={"gateway": fitting[-1]}) if fitting else ip


def _require_expressible(ips: Iterable[IPConfig], cni_version: str) -> None:
    families = [ip.address.version for ip in ips]
    if len(set(families)) < len(families) and not versions.at_least(cni_version, SETS_SINCE):
        raise InvalidConfiguration(
            f"CNI version {cni_version} does not support more than 1 address per family",
            f"cniVersion must be {SETS_SINCE} or newer",
            id="PLX-IPAM-CONF",
        )


def _items(value: str) -> list[str]:
    """The parts of a comma-separated list."""
    return [item.strip() for item in value.split(",")] if value else []
