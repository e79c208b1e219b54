"""host-local, the IPAM plugin that keeps a network's leases in a directory of the machine."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from cni.plugin import files, observed
from cni.spec.document import kind, lookup
from cni.spec.errors import CheckFailed, CNIError, InvalidConfiguration, IOFailure, PluginUnavailable
from cni.spec.request import Request
from ipam import leases
from ipam.directory import DirectoryStore
from ipam.store import Owner, Store

if TYPE_CHECKING:
    from cni.spec.model import IPAddress
    from cni.spec.result import DNS, Result
    from ipam.allocator import Pool

# What reads the whole configuration is imported where it is needed: DEL and GC do without, at half the time.

log = logging.getLogger(__name__)

DATA_DIR = "/var/lib/cni/networks"


def add(request: Request) -> Result:
    """Lease an address of each range set. Raises InvalidConfiguration, InvalidEnvironment, TryAgainLater, IOFailure."""
    from cni.spec.result import Result
    from ipam import allocator, config, ranges

    conf = config.parse(request)
    dns = _resolv_conf(conf.resolv_conf)
    store = _store(request)
    observed.pool(request.network, store.location, ranges.capacities(conf.range_sets))
    with store.locked():
        ips = allocator.allocate(store, conf.range_sets, _owner(request), conf.requested)
    return Result(ips=ips, routes=conf.routes, dns=dns)


def delete(request: Request) -> None:
    """Give the attachment's leases back, whatever the configuration says of ranges by now.

    Raises InvalidConfiguration where it does not say which directory, TryAgainLater, IOFailure, DeleteIncomplete.
    """
    store = _store(request)
    if not store.exists():
        return
    try:
        with store.locked():
            what = f'could not release the addresses of "{_owner(request)}"'
            if not leases.release(store, _owner(request), what):
                leases.release_damaged(store, _told(request), what)
    except IOFailure:  # it is read-only, say: who holds nothing needs no lock for it
        owners = {address: store.owner(address) for address in store.addresses()}
        damaged = [address for address in _told(request) if leases.is_damaged(owners.get(address))]
        if damaged or leases.held_by_among(_owner(request), owners):
            raise


def check(request: Request) -> None:
    """Raise CheckFailed unless the attachment holds a lease, and one for each of our addresses in its prevResult."""
    from ipam import config

    conf = config.parse(request)
    store = _store(request)
    result = request.prev_result
    expected = [ip.address.ip for ip in result.ips] if result else []
    ours = [address for address in expected if any(address in range_set for range_set in conf.range_sets)]
    lost = _lost(store, _owner(request), ours)
    if lost:
        raise CheckFailed(
            f"host-local: Failed to find address added by container {request.container_id}",
            f'in "{store.location}" {", ".join(lost)} for {request.ifname}',
            id="PLX-IPAM-LOST",
        )


def gc(request: Request) -> None:
    """Give back every lease of the network that no valid attachment holds.

    None where other machines may have leases too: the runtime tells of its own attachments only.

    Raises DecodingFailure, InvalidConfiguration, TryAgainLater, IOFailure, DeleteIncomplete.
    """
    from cni.linux import disk

    valid = request.valid_attachments()
    store = _store(request)
    if store.exists():
        if not disk.has_one_user(store.location):
            log.info('no leases of "%s" are collected: other machines may have theirs there', store.location)
            return
        with store.locked():
            what = f'could not release all stale addresses of network "{request.network}"'
            living = leases.held_by_any(valid, store)
            leases.release_chosen(store, lambda found: set(leases.held_by_none_of(valid, found)) - living, what)


def status(request: Request) -> None:
    """Raise PluginUnavailable when a range set has no address left, InvalidConfiguration when an ADD would."""
    from ipam import allocator, config

    conf = config.parse(request)
    store = _store(request)
    if not store.exists():
        return
    with store.locked():
        for pool in allocator.pools(store, conf.range_sets):
            _require_room(request, pool)


def _require_room(request: Request, pool: Pool) -> None:
    shortage = pool.shortage()
    if shortage:
        raise PluginUnavailable(
            f'network "{request.network}": no IP addresses available in range set: {pool.range_set}',
            shortage,
            id="PLX-IPAM-FULL",
        )


def _lost(store: Store, owner: Owner, expected: Iterable[IPAddress]) -> list[str]:
    """Which of the expected addresses the attachment does not hold, in words."""
    if not store.exists():
        return ["nothing is held"]
    with store.locked():
        held = [address for address in leases.held_by(owner, store) if _says(store.owner(address), owner)]
        lost = [address for address in expected if address not in held]
        told = [f"{address} is held by {store.owner(address) or 'nobody'}" for address in lost]
    return told if held or told else ["nothing is held"]


def _says(holder: Owner | None, owner: Owner) -> bool:
    """Whether the lease itself says so."""
    return holder in (owner, Owner(owner.container_id))


def _told(request: Request) -> list[IPAddress]:
    """The addresses that the runtime says the attachment was given, as far as it can be understood."""
    try:
        result = request.prev_result
    except CNIError:
        return []
    return [ip.address.ip for ip in result.ips] if result else []


def _owner(request: Request) -> Owner:
    return Owner(request.container_id, request.ifname)


def _store(request: Request) -> Store:
    """The directory of the request's network. Raises InvalidConfiguration."""
    ipam = lookup(request.conf, "ipam")
    if ipam is None:
        ipam = {}
    if not isinstance(ipam, dict):
        raise _unreadable("ipam", f"must be an object, not {kind(ipam)}")
    directory = lookup(ipam, "dataDir") or DATA_DIR
    if not isinstance(directory, str):
        raise _unreadable("ipam.dataDir", f"must be a string, not {kind(directory)}")
    return DirectoryStore(os.path.join(_path(directory, "ipam.dataDir"), request.network))


def _path(text: str, where: str) -> str:
    try:
        if b"\0" not in os.fsencode(text):
            return text
    except UnicodeEncodeError:
        pass
    raise _unreadable(where, f"{text!r} cannot be a path")


def _resolv_conf(path: str) -> DNS:
    """What the file says; nothing for no file. Raises IOFailure, in the reference plugin's words."""
    from cni.spec.result import DNS
    from ipam import resolv_conf

    if not path:
        return DNS()
    try:
        content = files.read(_path(path, "ipam.resolvConf"))
    except IOFailure as error:
        raise IOFailure(f"open {path}: {error.reason.lower()}", "ipam.resolvConf", id="PLX-IPAM-RESOLVCONF") from error
    if content is None:
        reason = os.strerror(errno.ENOENT).lower()
        raise IOFailure(f"open {path}: {reason}", "ipam.resolvConf", id="PLX-IPAM-RESOLVCONF")
    return resolv_conf.parse(content.decode(errors="replace"))


def _unreadable(where: str, problem: str) -> InvalidConfiguration:
    return InvalidConfiguration("could not read the configuration of host-local", f"{where}: {problem}", id="PLX-CONF")
