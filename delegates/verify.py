"""CHECK: compare the machine with what ADD left, and tell every difference."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from cni.linux import addresses, netns, nft, routes, sysctl, vlan
from cni.linux.link import Link
from cni.linux.links import Links
from cni.linux.vlan import Membership
from cni.spec.errors import CheckFailed
from cni.spec.model import IPInterface
from cni.spec.request import Request
from cni.spec.result import Interface, IPConfig, Result, Route
from delegates import addressing, gateway, host_veth, ipam, masquerade, masquerade_nft, spoofcheck
from delegates.config import AttachmentConf, BridgeConf, VethConf


@dataclass
class Differences:
    """What is not as it should be, in words."""

    found: list[str] = field(default_factory=list)

    def expect(self, what: str, expected: object, actual: object) -> None:
        """Note a difference between two values."""
        if expected != actual:
            self.found.append(f"{what}: expected {_told(expected)}, found {_told(actual)}")

    def expect_all(self, what: str, expected: Iterable[object], actual: Collection[object]) -> None:
        """Note each expected thing that is not there."""
        for wanted in expected:
            if wanted not in actual:
                self.found.append(f"{what}: expected {_told(wanted)}, found {_told(actual)}")


@dataclass(frozen=True, kw_only=True)
class Inside:
    """The sandbox as CHECK found it."""

    link: Link | None
    addresses: tuple[IPInterface, ...] = ()
    routes: tuple[routes.Route, ...] = ()


def bridge(request: Request, conf: BridgeConf, result: Result, wanted: Collection[Membership]) -> None:
    """Raise CheckFailed unless the attachment to a bridge is as ADD left it."""
    with _comparing(request) as differences, netns.opened(request.netns) as sandbox, Links() as host:
        port, inside = _ends(request, result, host, sandbox)
        found = host.find(conf.bridge)
        _compare_bridge(differences, conf, result, found)
        _compare_port(differences, conf, port, found)
        if port and wanted:
            _compare_vlans(differences, host, port, wanted, others_too=conf.preserve_default_vlan)
        _compare_inside(differences, request, result, inside)
        if inside.link and not conf.disable_container_interface:
            differences.expect(f'state of "{inside.link.name}"', "up", _state(inside.link))
        ours = _own_ips(request, result)
        if conf.gateway and ours:
            _compare_gateway(differences, conf, host, ours)
        _compare_rules(differences, request, conf, ours, spoof_checked=conf.macspoofchk)


def veth(request: Request, conf: VethConf, result: Result) -> None:
    """Raise CheckFailed unless the attachment by a veth is as ADD left it."""
    with _comparing(request) as differences, netns.opened(request.netns) as sandbox, Links() as host:
        outside, inside = _ends(request, result, host, sandbox)
        _compare_inside(differences, request, result, inside)
        if inside.link:
            differences.expect(f'state of "{inside.link.name}"', "up", _state(inside.link))
        ours = _own_ips(request, result)
        _compare_outside(differences, conf, host, outside, ours)
        _compare_rules(differences, request, conf, ours, spoof_checked=False)


@contextlib.contextmanager
def _comparing(request: Request) -> Iterator[Differences]:
    """Let the IPAM plugin check first; then collect differences, and raise them together."""
    ipam.delegate(request)
    differences = Differences()
    yield differences
    if differences.found:
        raise CheckFailed(
            f'attachment "{request.ifname}" to network "{request.network}" is not as ADD left it',
            "; ".join(differences.found),
            id="PLX-CHECK",
        )


def _ends(request: Request, result: Result, host: Links, sandbox: int) -> tuple[Link | None, Inside]:
    """Both ends of the pair: each is looked for by name, and else by way of the other."""
    outside = host_veth.find(request, host)
    inside = netns.enter(sandbox, functools.partial(_look, request.ifname, outside))
    if outside is None and inside.link:
        peer = host.find_index(inside.link.peer) if inside.link.peer else None
        outside = peer if peer and peer.peer == inside.link.index and _named(result, peer.name) else None
    return outside, inside


def _look(ifname: str, outside: Link | None) -> Inside:
    """The sandbox's interface, though it may have been renamed, its addresses, and all routes of the sandbox."""
    with Links() as links:
        peer = links.find_index(outside.peer) if outside else None
        paired = peer is not None and outside is not None and peer.peer == outside.index
        link = peer if paired else links.find(ifname)
        if link is None:
            return Inside(link=None)
        found = (entry.address for entry in addresses.every(links, link))
        every_route = (route for family in (4, 6) for route in routes.every(links, family))
        return Inside(link=link, addresses=tuple(found), routes=tuple(every_route))


def _compare_inside(differences: Differences, request: Request, result: Result, inside: Inside) -> None:
    entry = _own_entry(request, result)
    where = f'interface "{request.ifname}" in prevResult'
    others = [other.sandbox for other in result.interfaces if other.name == request.ifname]
    differences.expect(f"sandbox of {where}", request.netns, request.netns if entry else ", ".join(others) or None)
    link = inside.link
    differences.expect(f'interface "{request.ifname}"', request.ifname, link.name if link else None)
    if link is None:
        return
    differences.expect(f'type of "{link.name}"', "veth", link.kind)
    if entry and entry.mac:
        differences.expect(f'MAC of "{link.name}"', entry.mac, link.mac)
    # Not its MTU: a later plugin may have changed it (tuning does), and no result would tell.
    expected = (ip.address for ip in _own_ips(request, result))
    differences.expect_all(f'addresses of "{link.name}"', expected, inside.addresses)
    for route in result.routes:
        if not any(_leads(present, route) for present in inside.routes):
            told = f"{route.dst.network}" + (f" via {route.gw}" if route.gw else "")
            differences.found.append(f"routes of the sandbox: expected {told}, found none such")


def _compare_bridge(differences: Differences, conf: BridgeConf, result: Result, found: Link | None) -> None:
    what = f'bridge "{conf.bridge}"'
    differences.expect(what, "bridge", found.kind if found else None)
    if found is None or found.kind != "bridge":
        return
    differences.expect(f"state of {what}", "up", _state(found))
    differences.expect(f"promiscuous mode of {what}", conf.promisc_mode, found.promisc)
    entry = _named(result, conf.bridge)
    # Without an address of its own a bridge takes its ports' lowest MAC: a new one whenever another pod comes or goes.
    if entry and entry.mac and conf.gateway and not conf.vlan:
        differences.expect(f"MAC of {what}", entry.mac, found.mac)
    if conf.vlan_filtering:
        differences.expect(f"VLAN filtering of {what}", expected=True, actual=found.vlan_filtering)


def _compare_port(differences: Differences, conf: BridgeConf, port: Link | None, found: Link | None) -> None:
    differences.expect("the host's end", "veth", port.kind if port else None)
    if port is None:
        return
    what = f'port "{port.name}"'
    master = conf.bridge if found and port.master == found.index else f"link {port.master}" if port.master else None
    differences.expect(f"bridge of {what}", conf.bridge, master)
    differences.expect(f"state of {what}", "up", _state(port))
    if port.master:
        differences.expect(f"hairpin mode of {what}", conf.hairpin_mode, port.hairpin)
        differences.expect(f"isolation of {what}", conf.port_isolation, port.isolated)
    if port.mtu < conf.mtu:  # it is the bridge's where that is larger
        differences.expect(f"MTU of {what}", conf.mtu, port.mtu)


def _compare_vlans(
    differences: Differences, host: Links, port: Link, wanted: Collection[Membership], *, others_too: bool
) -> None:
    """Note VLANs that the port is not in, and those that it must not be in: it would hear what is not for it."""
    present = vlan.every(host, port)
    what = f'VLANs of port "{port.name}"'
    if others_too:
        differences.expect_all(what, wanted, present)
    else:
        differences.expect(what, sorted(wanted), present)


def _compare_gateway(differences: Differences, conf: BridgeConf, host: Links, ips: tuple[IPConfig, ...]) -> None:
    link = host.find(conf.gateway_name)
    differences.expect(f'gateway interface "{conf.gateway_name}"', conf.gateway_name, link.name if link else None)
    if link:
        present = [found.address for found in addresses.every(host, link)]
        wanted = addressing.gateway_addresses(Result(ips=ips))
        differences.expect_all(f'addresses of "{link.name}"', wanted, present)
        differences.expect(f'state of "{link.name}"', "up", _state(link))
        if conf.vlan and link.kind == "veth":
            _compare_gateway_port(differences, conf, host, link)
    _compare_forwarding(differences, ips)


def _compare_gateway_port(differences: Differences, conf: BridgeConf, host: Links, interface: Link) -> None:
    port = gateway.find_vlan_port(host, interface)
    found = host.find(conf.bridge)
    what = f'port of "{interface.name}"'
    differences.expect(f"bridge of the {what}", found.index if found else conf.bridge, port.master if port else None)
    if port and port.master:
        differences.expect(f"state of the {what}", "up", _state(port))
        native = [Membership(conf.vlan, native=True)]
        _compare_vlans(differences, host, port, native, others_too=conf.preserve_default_vlan)


def _compare_outside(
    differences: Differences, conf: VethConf, host: Links, outside: Link | None, ips: tuple[IPConfig, ...]
) -> None:
    differences.expect("the host's end", "veth", outside.kind if outside else None)
    if outside is None:
        return
    differences.expect(f'state of "{outside.name}"', "up", _state(outside))
    if conf.mtu:
        differences.expect(f'MTU of "{outside.name}"', conf.mtu, outside.mtu)
    present = [found.address for found in addresses.every(host, outside)]
    gateways = (addressing.single(ip.gateway) for ip in ips if ip.gateway)
    differences.expect_all(f'addresses of "{outside.name}"', gateways, present)
    families = sorted({ip.address.version for ip in ips})
    there = [str(route.dst) for family in families for route in routes.every(host, family, outside)]
    towards = (str(addressing.single(ip.address.ip).network) for ip in ips)
    differences.expect_all(f'routes by way of "{outside.name}"', towards, there)
    _compare_forwarding(differences, ips)


def _compare_forwarding(differences: Differences, ips: tuple[IPConfig, ...]) -> None:
    for family in sorted({ip.address.version for ip in ips}):
        key = gateway.FORWARDING[family]
        differences.expect(f"sysctl {key}", "1", sysctl.read(key))


def _compare_rules(
    differences: Differences,
    request: Request,
    conf: AttachmentConf,
    ips: tuple[IPConfig, ...],
    *,
    spoof_checked: bool,
) -> None:
    masqueraded = conf.ip_masq and ips
    if not masqueraded and not spoof_checked:
        return
    rules = nft.rules(masquerade_nft.CHECKS, spoofcheck.PREROUTING)
    if masqueraded:
        expected = (str(ip.address.ip) for ip in ips)
        differences.expect_all("masqueraded addresses", expected, masquerade.sources(rules, request))
    if spoof_checked:
        differences.expect("check of the source MAC", expected=True, actual=bool(spoofcheck.find(rules, request)))


def _own_entry(request: Request, result: Result) -> Interface | None:
    index = _own_index(request, result)
    return None if index is None else result.interfaces[index]


def _own_index(request: Request, result: Result) -> int | None:
    places = [(entry.name, entry.sandbox) for entry in result.interfaces]
    ours = (request.ifname, request.netns)
    return places.index(ours) if ours in places else None


def _own_ips(request: Request, result: Result) -> tuple[IPConfig, ...]:
    index = _own_index(request, result)
    return tuple(ip for ip in result.ips if ip.interface in (None, index))


def _named(result: Result, name: str) -> Interface | None:
    return next((entry for entry in result.interfaces if entry.name == name and not entry.sandbox), None)


def _leads(present: routes.Route, wanted: Route) -> bool:
    """Whether a route of the sandbox is the wanted one; any gateway will do for a default route."""
    same_gateway = wanted.gw is None or wanted.is_default or present.gateway == wanted.gw
    return present.dst == wanted.dst.network and same_gateway


def _state(link: Link) -> str:
    return "up" if link.up else "down"


def _told(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list | tuple | set):
        return ", ".join(sorted(_told(entry) for entry in value)) or "none"
    if isinstance(value, Membership):
        return f"{value.vid} {'untagged' if value.native else 'tagged'}"
    return "none" if value is None else str(value)
