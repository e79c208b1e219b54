"""The configuration of host-local: read once, into ranges that need no further questions."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Annotated

import pydantic

from cni.spec import args, model, versions
from cni.spec.errors import InvalidConfiguration, InvalidEnvironment
from cni.spec.model import (
    CIDR,
    Address,
    InvalidAddress,
    InvalidField,
    IPAddress,
    Many,
    Model,
    parse_address,
    parse_cidr,
)
from cni.spec.request import Request
from cni.spec.result import Route
from ipam import ranges
from ipam.ranges import InvalidRange, Range, RangeSet

OptionalAddress = Annotated[Address | None, pydantic.BeforeValidator(lambda value: None if value == "" else value)]
"""The reference plugin takes "" for an address that is left out."""

FLAT = "ipam"
"""Where a range stands that is not in a list."""

SETS_SINCE = "0.3.0"
"""Older versions of the specification know one address per family."""


class RangeKeys(Model):
    """What a range is written with; may stand in `ipam` itself, as it did before there were several."""

    subnet: CIDR | None = None
    range_start: OptionalAddress = None
    range_end: OptionalAddress = None
    gateway: OptionalAddress = None


class IPAM(RangeKeys):
    """The `ipam` object."""

    ranges: Many[Many[RangeKeys]] = ()
    routes: Many[Route] = ()
    resolv_conf: str = ""


class CNIArgs(Model):
    """What a user asks for."""

    ips: Many[str] = ()


class Args(Model):
    """The `args` object."""

    cni: CNIArgs = CNIArgs()


class RuntimeConfig(Model):
    """What the runtime adds for the capabilities ips and ipRanges."""

    ips: Many[str] = ()
    ip_ranges: Many[Many[RangeKeys]] = ()


class NetConf(Model):
    """The parts of a network configuration that host-local reads."""

    ipam: IPAM | None = None
    args: Args = Args()
    runtime_config: RuntimeConfig = RuntimeConfig()


@dataclass(frozen=True)
class Written:
    """A range set as somebody wrote it, and where."""

    path: str
    ranges: tuple[RangeKeys, ...]

    def path_of(self, index: int) -> str:
        """Where one of its ranges stands."""
        return self.path if self.path == FLAT else f"{self.path}[{index}]"


@dataclass(frozen=True)
class Config:
    """What ADD, CHECK and STATUS need to know."""

    range_sets: tuple[RangeSet, ...]
    """An attachment gets one address of each."""

    requested: tuple[IPAddress, ...]
    """Addresses that are asked for, each once."""

    routes: tuple[Route, ...]
    resolv_conf: str


def parse(request: Request) -> Config:
    """Read the configuration of `request`, and what it asks for.

    Raises InvalidConfiguration in the reference plugin's words, InvalidEnvironment for CNI_ARGS.
    """
    conf = _read(request)
    if conf.ipam is None:
        raise _invalid("IPAM config missing 'ipam' key", "ipam")
    requested = _requested(conf, request.args)
    return Config(
        range_sets=_range_sets(conf, conf.ipam, request.cni_version),
        requested=requested,
        routes=conf.ipam.routes,
        resolv_conf=conf.ipam.resolv_conf,
    )


def _read(request: Request) -> NetConf:
    try:
        return model.parse(NetConf, request.conf, "the configuration of host-local")
    except InvalidField as error:
        if isinstance(error.__cause__, InvalidAddress):
            raise _invalid(error.problem, error.path) from error
        raise


def _range_sets(conf: NetConf, ipam: IPAM, cni_version: str) -> tuple[RangeSet, ...]:
    written = _written(conf, ipam)
    if not written:
        raise _invalid("no IP ranges specified", "ipam.ranges")
    range_sets = tuple(_range_set(index, entry) for index, entry in enumerate(written))
    families = [range_set.family for range_set in range_sets]
    if len(set(families)) < len(families) and not versions.at_least(cni_version, SETS_SINCE):
        raise _invalid(
            f"CNI version {cni_version} does not support more than 1 address per family",
            f"cniVersion must be {SETS_SINCE} or newer",
        )
    for (index, one), (other_index, other) in combinations(enumerate(range_sets), 2):
        if one.overlaps(other):
            raise _invalid(f"range set {index} overlaps with {other_index}", written[other_index].path)
    return range_sets


def _written(conf: NetConf, ipam: IPAM) -> list[Written]:
    """The range sets, in the order in which they give addresses: what the runtime adds comes first."""
    added = [Written(f"runtimeConfig.ipRanges[{i}]", keys) for i, keys in enumerate(conf.runtime_config.ip_ranges)]
    flat = [Written(FLAT, (ipam,))] if ipam.subnet else []
    return added + flat + [Written(f"ipam.ranges[{i}]", keys) for i, keys in enumerate(ipam.ranges)]


def _range_set(index: int, written: Written) -> RangeSet:
    # One by one: of several mistakes the first is told, as the reference does.
    canonical = (_range(index, keys, written.path_of(i)) for i, keys in enumerate(written.ranges))
    try:
        return ranges.canonical_set(canonical)
    except InvalidRange as error:
        raise _invalid(f"invalid range set {index}: {error}", written.path + error.where) from error


def _range(index: int, keys: RangeKeys, path: str) -> Range:
    if keys.subnet is None:
        raise _invalid(f"invalid range set {index}: a range without a subnet", f"{path}.subnet")
    try:
        return ranges.canonical(keys.subnet, first=keys.range_start, last=keys.range_end, gateway=keys.gateway)
    except InvalidRange as error:
        raise _invalid(f"invalid range set {index}: {error}", f"{path}.{error.where}") from error


def _requested(conf: NetConf, cni_args: str) -> tuple[IPAddress, ...]:
    """Every address asked for, first those of CNI_ARGS; one asked for twice is asked for once."""
    asked = args.known(cni_args, ("IP",)).get("IP", "")
    addresses = [_asked_in_args(asked, text) for text in asked.split(",") if text]
    addresses += [_asked(text, f"args.cni.ips[{i}]") for i, text in enumerate(conf.args.cni.ips)]
    addresses += [_asked(text, f"runtimeConfig.ips[{i}]") for i, text in enumerate(conf.runtime_config.ips)]
    return tuple(dict.fromkeys(addresses))


def _asked_in_args(value: str, text: str) -> IPAddress:
    try:
        return _address(text)
    except ValueError as error:
        raise InvalidEnvironment(
            f'ARGS: error parsing value of pair "IP={value}": {error}', "CNI_ARGS", id="PLX-IPAM-REQUEST"
        ) from error


def _asked(text: str, path: str) -> IPAddress:
    try:
        return _address(text)
    except ValueError as error:
        raise InvalidConfiguration(str(error), path, id="PLX-IPAM-REQUEST") from error


def _address(text: str) -> IPAddress:
    """The address of `text`, which may have a prefix length. Raises InvalidAddress, in the words for requests."""
    try:
        return parse_cidr(text).ip if "/" in text else parse_address(text)
    except InvalidAddress:
        raise InvalidAddress(f"invalid IP address {text}") from None


def _invalid(problem: str, where: str) -> InvalidConfiguration:
    return InvalidConfiguration(problem, where, id="PLX-IPAM-CONF")
