"""Undo attachments of `bridge` and `veth`: one for DEL, all that nobody needs for GC.

Nothing here reads the rest of the configuration, which may have changed since ADD, or become invalid.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection

from cni.linux import nft
from cni.linux.links import Links
from cni.linux.nft import Change
from cni.plugin.rollback import Teardown
from cni.spec.errors import KernelFailure
from cni.spec.request import Request
from delegates import host_bridge, host_veth, ipam, masquerade_iptables, masquerade_nft, spoofcheck


def delete(request: Request, *, unwanted_bridge: str = "") -> None:
    """Remove the attachment's links and rules and release its addresses, trying all of it whatever fails.

    The unwanted bridge goes too, unless it is anybody else's.

    Raises one CNIError that names each failure.
    """
    teardown = Teardown()
    with teardown.step():
        masquerade_iptables.remove(request)  # first: the interface's addresses tell which rules are its own
    with teardown.step():
        host_veth.delete(request)
    with teardown.step():
        _delete_rules(request)
    with teardown.step():
        _remove_bridge(unwanted_bridge)
    # Last: an address may be given to somebody else only when nothing here uses it any more.
    with teardown.step():
        ipam.delete(request)
    teardown.finish(f'could not detach "{request.ifname}" from network "{request.network}"')


def gc(request: Request, *, unwanted_bridge: str = "") -> None:
    """Remove the links, rules and leases of the network's attachments that are not valid, trying all of it.

    The unwanted bridge goes too, unless it is anybody's.

    Raises one CNIError that names each failure.
    """
    valid = request.valid_attachments()
    teardown = Teardown()
    with teardown.step():
        _collect_links(request.network, valid, teardown)
    with teardown.step():
        _collect_rules(request.network, valid)
    with teardown.step():
        masquerade_iptables.collect(request.network, valid)
    with teardown.step():
        _remove_bridge(unwanted_bridge)
    with teardown.step():
        ipam.delegate(request)
    teardown.finish(f'could not collect the garbage of network "{request.network}"')


def _delete_rules(request: Request) -> None:
    what = f'remove the nftables rules of "{request.ifname}" on network "{request.network}"'
    nft.apply(what, lambda: masquerade_nft.own_removal(request) + spoofcheck.own_removal(request))


def _remove_bridge(name: str) -> None:
    if name:
        host_bridge.remove_unused(name)


def _collect_links(network: str, valid: Collection[tuple[str, str]], teardown: Teardown) -> None:
    kept = {host_veth.alias_of(network, container_id, ifname) for container_id, ifname in valid}
    with Links() as host:
        ours = [link for link in host.every("veth") if link.alias.startswith(host_veth.prefix(network))]
        dead = [link for link in ours if link.alias not in kept]
        if dead:
            with contextlib.suppress(KernelFailure):
                host.delete_together(dead)
        for link in dead:  # which is done where they could be deleted together
            with teardown.step():
                host.delete(link)


def _collect_rules(network: str, valid: Collection[tuple[str, str]]) -> None:
    def garbage() -> list[Change]:
        rules = nft.rules(masquerade_nft.CHECKS, spoofcheck.PREROUTING)
        with Links() as host:
            present = {link.name for link in host.every("veth")}
        return masquerade_nft.garbage(rules, network, valid) + spoofcheck.garbage(rules, present, valid)

    nft.apply(f'remove the nftables rules of network "{network}" that nobody needs', garbage)
