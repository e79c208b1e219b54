"""Who holds which address: what host-local asks of a store, whichever it is, while it has the store's lock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from cni.plugin.rollback import Teardown
from cni.spec import names
from cni.spec.errors import CNIError, IOFailure
from ipam.store import Owner, Store

if TYPE_CHECKING:
    from cni.spec.model import IPAddress


def held_by(owner: Owner, store: Store) -> list[IPAddress]:
    """An attachment's addresses; those noted for its container alone count only if none has its ifname too.

    Raises IOFailure.
    """
    return store.held_by(owner) or store.held_by(Owner(owner.container_id))


def held_by_any(valid: Iterable[tuple[str, str]], store: Store) -> set[IPAddress]:
    """The addresses of all valid attachments; none where a lease cannot be read, as whoever reads them all is told."""
    try:
        return {address for owner in valid for address in store.held_by(Owner(*owner))}
    except IOFailure:
        return set()


def held_by_among(owner: Owner, owners: Mapping[IPAddress, Owner | None]) -> list[IPAddress]:
    """The same, among leases that somebody has read."""
    unnamed = Owner(owner.container_id)
    named = [address for address, holder in owners.items() if holder == owner]
    return named or [address for address, holder in owners.items() if holder == unnamed]


def held_by_none_of(valid: Iterable[tuple[str, str]], owners: Mapping[IPAddress, Owner | None]) -> list[IPAddress]:
    """The addresses of no valid attachment, nobody's among them; a container's own are those of any of its ifnames.

    Who holds a damaged lease cannot be told: he may be valid.
    """
    living = {Owner(container_id, ifname) for container_id, ifname in valid}
    living |= {Owner(owner.container_id) for owner in living}
    return [address for address, holder in owners.items() if holder not in living and not is_damaged(holder)]


def is_damaged(holder: Owner | None) -> bool:
    """Whether nobody can be called so."""
    if holder is None:
        return False
    try:
        names.validate_container_id(holder.container_id)
        if holder.ifname:
            names.validate_ifname(holder.ifname)
    except CNIError:
        return True
    return False


def release(store: Store, owner: Owner, what: str) -> bool:
    """Give back what the attachment holds, whatever fails; whether that was anything.

    Raises IOFailure, or one DeleteIncomplete about `what`.
    """
    try:
        addresses = held_by(owner, store)
    except IOFailure:  # a lease cannot be read: the others may say enough
        release_chosen(store, partial(held_by_among, owner), what)
        return True
    _release(store, addresses, Teardown(), what)
    return bool(addresses)


def release_damaged(store: Store, addresses: Iterable[IPAddress], what: str) -> None:
    """Give back those of the addresses whose lease is damaged. Raises as `release` does."""
    _release(store, [address for address in addresses if is_damaged(store.owner(address))], Teardown(), what)


def release_chosen(
    store: Store, choose: Callable[[Mapping[IPAddress, Owner | None]], Iterable[IPAddress]], what: str
) -> None:
    """Give back what `choose` chooses from all leases, whatever fails. Raises as `release` does."""
    teardown = Teardown()
    found: dict[IPAddress, Owner | None] = {}
    for address in store.addresses():
        with teardown.step():
            found[address] = store.owner(address)
    _release(store, choose(found), teardown, what)


def _release(store: Store, addresses: Iterable[IPAddress], teardown: Teardown, what: str) -> None:
    for address in addresses:
        with teardown.step():
            store.release(address)
    teardown.finish(what)
