"""What a pod's attachments will be: every network, its interface and its arguments, before anything is made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from cni.kube.kubelet import Kubelet
from cni.kube.objects import Pod
from cni.kube.source import Source
from cni.meta import device_info, devices, selection, served
from cni.meta.config import MetaConf
from cni.meta.definitions import Definitions
from cni.meta.identity import Identity
from cni.meta.networks import Network, Networks
from cni.meta.selection import NetworkSelection
from cni.meta.wanted import DEVICE_ID, Wanted
from cni.plugin.ledger import Entry
from cni.spec import document
from cni.spec.document import Document, lookup
from cni.spec.errors import CNIError, InvalidConfiguration
from cni.spec.model import IPAddress
from cni.spec.netconf import NetConfList
from cni.spec.request import Request


@dataclass(frozen=True)
class Planned:
    """An attachment that is to be made, and the gateways the pod wants on it (None: nothing asked)."""

    entry: Entry
    selection: NetworkSelection | None
    described: str = ""
    """The file in which its device plugin describes its device, if it does."""


def plan(conf: MetaConf, request: Request, identity: Identity, pod: Pod | None, source: Source) -> list[Planned]:
    """Decide on all attachments, the cluster network first.

    Raises InvalidConfiguration, DecodingFailure, UnsupportedField, TryAgainLater, told with the pod.
    """
    try:
        return _plan(conf, request, identity, pod, source)
    except CNIError as error:
        if pod is None:
            raise
        raise error.within(f'pod "{pod.full_name}"') from error


def _plan(conf: MetaConf, request: Request, identity: Identity, pod: Pod | None, source: Source) -> list[Planned]:
    with Definitions(source, parallel=conf.parallel) as definitions:
        wanted = [*_wanted(conf, pod, definitions), *map(Wanted, Networks(conf, source).auxiliary())]
    ifnames = _ifnames(wanted, request.ifname)
    _check_default_routes(wanted)
    for want in wanted:
        served.require(want.network.name, want.network.conf, want.asked, conf.external)
    shares = _devices(conf, request, identity, pod, source, wanted)
    return [
        _planned(conf, request, identity, want, ifnames[index], shares[index], default=index == 0)
        for index, want in enumerate(wanted)
    ]


def _wanted(conf: MetaConf, pod: Pod | None, definitions: Definitions) -> Iterator[Wanted]:
    networks = Networks(conf, definitions)
    if pod is None:
        yield from map(Wanted, networks.every_pods())
        return
    defaults, additional = _selections(conf, pod)
    named = () if pod.namespace in conf.system_namespaces else conf.default_networks
    definitions.expect(networks.keys((conf.cluster_network, *named), [*defaults, *additional]))
    every_pods = networks.every_pods()
    for selected in defaults:
        yield Wanted(networks.selected(selected, pod_namespace=pod.namespace), selected)
    yield from map(Wanted, every_pods[len(defaults) :])
    yield from (Wanted(networks.named(name)) for name in named)
    for selected in additional:
        yield Wanted(networks.selected(selected, pod_namespace=pod.namespace), selected)


def _selections(conf: MetaConf, pod: Pod) -> tuple[list[NetworkSelection], list[NetworkSelection]]:
    """What the pod selects: in place of the cluster network, one or nothing, and besides it."""
    default = pod.annotations.get(selection.DEFAULT_NETWORK)
    defaults = [] if default is None else [selection.parse_default_network(default, conf.multus_namespace)]
    text = pod.annotations.get(selection.NETWORKS, "")
    return defaults, selection.parse(text, selection.NETWORKS, pod.namespace)


def _ifnames(wanted: list[Wanted], default: str) -> list[str]:
    """The name each asks for; else the runtime's for the first, and net<place in the list> for the others."""
    names = [
        (want.selection.interface if want.selection else "") or (f"net{index}" if index else default)
        for index, want in enumerate(wanted)
    ]
    for name, count in Counter(names).items():
        if count > 1:
            takers = ", ".join(f'"{want.network.name}"' for want, own in zip(wanted, names, strict=True) if own == name)
            raise InvalidConfiguration(
                f'could not name {count} interfaces "{name}"',
                f"networks {takers} want it: give each another `interface` in the pod's annotation",
                id="PLX-IFNAME-TWICE",
            )
    return names


def _check_default_routes(wanted: list[Wanted]) -> None:
    """Raise InvalidConfiguration unless at most one gateway of each family is asked for."""
    asked = [(want.network.name, gateway) for want in wanted for gateway in _gateways(want)]
    for family in (4, 6):
        told = [f'{gateway} on "{network}"' for network, gateway in asked if gateway.version == family]
        if len(told) > 1:
            raise InvalidConfiguration(
                f"could not give the pod {len(told)} IPv{family} default routes",
                f"`default-route` asks for {', '.join(told)}: keep one",
                id="PLX-DEFAULT-ROUTE",
            )


def _gateways(want: Wanted) -> tuple[IPAddress, ...]:
    return (want.selection.default_route or ()) if want.selection else ()


def _devices(
    conf: MetaConf, request: Request, identity: Identity, pod: Pod | None, source: Source, wanted: list[Wanted]
) -> list[str]:
    """The ID of each network's device, "" where it takes none. Raises as `devices.allot`, but for DEL."""
    none = [""] * len(wanted)
    if pod is None:
        return none
    try:
        return devices.allot(wanted, pod, identity.uid or pod.uid, Kubelet(conf.kubelet_dir), source)
    except CNIError:
        if request.command != "DEL":
            raise
        return none  # the pod may have given them back


def _planned(
    conf: MetaConf, request: Request, identity: Identity, want: Wanted, ifname: str, device: str, *, default: bool
) -> Planned:
    network = want.network
    entry = Entry(
        network=network.name,
        conf=_with_device(_with_cni_args(want), device if network.resource else "").text,
        ifname=ifname,
        args=identity.delegate_args(_in_args(want.selection), default=default),
        runtime_config={
            **(conf.runtime_config if default else {}),
            **want.asked,
            **_of_device(conf, request, network, ifname, device),
        },
        default=default,
    )
    if not device or not network.resource:
        return Planned(entry, want.selection)
    described = device_info.written_by_plugin(conf.device_info_dir, network.resource, device)
    return Planned(entry, want.selection, described)


def _of_device(conf: MetaConf, request: Request, network: Network, ifname: str, device: str) -> dict[str, str]:
    """The capabilities of a device: its ID, and the file through which its description goes."""
    if not device and device_info.CAPABILITY not in network.conf.capabilities:
        return {}
    path = device_info.path(conf.device_info_dir, network.name, request.container_id, ifname)
    return ({DEVICE_ID: device} if device else {}) | {device_info.CAPABILITY: path}


def _in_args(selected: NetworkSelection | None) -> dict[str, str]:
    """What of the request goes through CNI_ARGS, for plugins that claim no capabilities."""
    asked = {"MAC": selected.mac, "IP": ",".join(selected.ips)} if selected else {}
    return {key: value for key, value in asked.items() if value}


def _with_device(conf: NetConfList, device: str) -> NetConfList:
    """The configuration with the device in every plugin, by the names that plugins know it by, whatever they claim."""
    if not device:
        return conf
    return conf.with_each_plugin(lambda plugin: document.derive(plugin, deviceID=device, pciBusID=device))


def _with_cni_args(want: Wanted) -> NetConfList:
    """The configuration with the pod's arguments in `args.cni` of every plugin."""
    conf = want.network.conf
    cni_args = want.selection.cni_args if want.selection else {}
    return conf.with_each_plugin(partial(_merge_args, cni_args, want.network)) if cni_args else conf


def _merge_args(cni_args: Document, network: Network, plugin: Document) -> dict[str, Any]:
    args = lookup(plugin, "args") or {}
    own = (lookup(args, "cni") or {}) if isinstance(args, dict) else None
    if not isinstance(own, dict):
        raise InvalidConfiguration(
            f'could not add the pod\'s cni-args to network "{network.name}"',
            "`args` and `args.cni` of its configuration must be objects",
            id="PLX-NAD-CONFIG",
        )
    return document.derive(plugin, args=document.derive(args, cni={**own, **cni_args}))
