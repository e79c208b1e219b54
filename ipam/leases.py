"""Who holds which address: what host-local asks of a store, whichever it is, while it has the store's lock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from cni.plugin.rollback import Teardown
from ipam.store import Owner, Store

if TYPE_CHECKING:
    from cni.spec.model import IPAddress


def owners(store: Store) -> dict[IPAddress, Owner]:
    """Who holds what; the remains of a crash are nobody's. Raises IOFailure."""
    found = ((address, store.owner(address)) for address in store.addresses())
    return {address: owner for address, owner in found if owner}


def held_by(owner: Owner, owners: Mapping[IPAddress, Owner | None]) -> list[IPAddress]:
    """An attachment's addresses; those noted for its container alone count only if none has its ifname too."""
    unnamed = Owner(owner.container_id)
    named = [address for address, holder in owners.items() if holder == owner]
    return named or [address for address, holder in owners.items() if holder == unnamed]


def held_by_none_of(valid: Iterable[tuple[str, str]], owners: Mapping[IPAddress, Owner | None]) -> list[IPAddress]:
    """The addresses of no valid attachment, nobody's among them; a container's own are those of any of its ifnames."""
    living = {Owner(container_id, ifname) for container_id, ifname in valid}
    living |= {Owner(owner.container_id) for owner in living}
    return [address for address, holder in owners.items() if holder not in living]


def release(store: Store, choose: Callable[[Mapping[IPAddress, Owner | None]], Iterable[IPAddress]], what: str) -> None:
    """Give back what `choose` chooses, whatever fails. Raises IOFailure, or one DeleteIncomplete about `what`."""
    teardown = Teardown()
    found: dict[IPAddress, Owner | None] = {}
    for address in store.addresses():
        with teardown.step():
            found[address] = store.owner(address)
    for address in choose(found):
        with teardown.step():
            store.release(address)
    teardown.finish(what)
