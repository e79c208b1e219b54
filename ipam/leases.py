"""Who holds which address: what host-local asks of a store, whichever it is, while it has the store's lock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from cni.plugin.rollback import Teardown
from cni.spec.errors import IOFailure
from ipam.store import Owner, Store

if TYPE_CHECKING:
    from cni.spec.model import IPAddress


def held_by(owner: Owner, store: Store) -> list[IPAddress]:
    """An attachment's addresses; those noted for its container alone count only if none has its ifname too.

    Raises IOFailure.
    """
    return store.held_by(owner) or store.held_by(Owner(owner.container_id))


def held_by_among(owner: Owner, owners: Mapping[IPAddress, Owner | None]) -> list[IPAddress]:
    """The same, among leases that somebody has read."""
    unnamed = Owner(owner.container_id)
    named = [address for address, holder in owners.items() if holder == owner]
    return named or [address for address, holder in owners.items() if holder == unnamed]


def held_by_none_of(valid: Iterable[tuple[str, str]], owners: Mapping[IPAddress, Owner | None]) -> list[IPAddress]:
    """The addresses of no valid attachment, nobody's among them; a container's own are those of any of its ifnames."""
    living = {Owner(container_id, ifname) for container_id, ifname in valid}
    living |= {Owner(owner.container_id) for owner in living}
    return [address for address, holder in owners.items() if holder not in living]


def release(store: Store, owner: Owner, what: str) -> None:
    """Give back what the attachment holds, whatever fails. Raises IOFailure, or one DeleteIncomplete about `what`."""
    try:
        addresses = held_by(owner, store)
    except IOFailure:  # a lease cannot be read: the others may say enough
        release_chosen(store, partial(held_by_among, owner), what)
        return
    _release(store, addresses, Teardown(), what)


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
