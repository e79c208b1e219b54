"""Choose an address of each range set, round robin, over any store. All of it is for the holder of the store's lock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cni.plugin.rollback import Rollback
from cni.spec.errors import InvalidConfiguration, TryAgainLater
from cni.spec.result import IPConfig
from ipam import leases
from ipam.ranges import Range, RangeSet
from ipam.store import Owner, Store

if TYPE_CHECKING:
    from cni.spec.model import IPAddress

REMEDY = "delete what no longer needs one, widen the range, or run `plexus gc` if containers have gone without a DEL"


@dataclass(frozen=True)
class Pool:
    """One range set, and where its leases are kept."""

    index: int
    range_set: RangeSet
    store: Store

    def shortage(self) -> str:
        """Why no address is left and what to do about it; "" while one is. Raises IOFailure."""
        used = self.range_set.count(self.store.addresses())
        if used >= self.range_set.capacity:
            used -= self.range_set.count(self.store.remains())
        if used < self.range_set.capacity:
            return ""
        return f'{used} of {self.range_set.capacity} addresses are in use in "{self.store.location}"; {REMEDY}'

    def take(self, address: IPAddress, entry: Range, owner: Owner) -> IPConfig:
        """Lease just this address. Raises InvalidConfiguration, TryAgainLater, IOFailure."""
        if address == entry.gateway:
            raise InvalidConfiguration(
                f"{self._failed}: requested ip {address} is subnet's gateway",
                f"ask for another address of {entry.network}",
                id="PLX-IPAM-REQUEST",
            )
        if not self.store.reserve(address, owner):
            raise TryAgainLater(
                f"{self._failed}: requested IP address {address} is not available in range set {self.range_set}",
                f'"{self.store.owner(address)}" holds it, in "{self.store.location}"',
                id="PLX-IPAM-TAKEN",
            )
        return IPConfig(address=entry.interface(address), gateway=entry.gateway)

    def take_next(self, owner: Owner) -> IPConfig:
        """Lease the free address that was free for longest. Raises TryAgainLater, IOFailure."""
        self._refuse_second(owner)
        for address in self._free():
            entry = self.range_set.find(address)
            if entry and address != entry.gateway and self.store.reserve(address, owner):
                return IPConfig(address=entry.interface(address), gateway=entry.gateway)
        raise TryAgainLater(
            f"{self._failed}: no IP addresses available in range set: {self.range_set}",
            self.shortage(),
            id="PLX-IPAM-FULL",
        )

    def _free(self) -> Iterator[IPAddress]:
        """What can be tried, in this order; the remains of a crash may be of another range set."""
        last = self.store.last_reserved(self.index)
        yield from self.store.untaken(address for address, _ in self.range_set.after(last))
        yield from self.store.remains()

    def _refuse_second(self, owner: Owner) -> None:
        for address in leases.held_by(owner, self.store):
            if address in self.range_set:
                raise TryAgainLater(
                    f"{self._failed}: {address} has been allocated to {owner.container_id},"
                    " duplicate allocation is not allowed",
                    f'DEL "{owner}" first; the lease is in "{self.store.location}"',
                    id="PLX-IPAM-DUPLICATE",
                )

    @property
    def _failed(self) -> str:
        return f"failed to allocate for range {self.index}"


def pools(store: Store, range_sets: Iterable[RangeSet]) -> list[Pool]:
    """The range sets, each with its number."""
    return [Pool(index, range_set, store) for index, range_set in enumerate(range_sets)]


def allocate(
    store: Store, range_sets: Iterable[RangeSet], owner: Owner, requested: Iterable[IPAddress]
) -> tuple[IPConfig, ...]:
    """Lease an address of each set, a requested one where one is for it.

    A failure gives back what this call took, and nothing else. Raises InvalidConfiguration for a request that can
    never be met, TryAgainLater where addresses are taken, IOFailure.
    """
    wanted = list(requested)
    taken = []
    with Rollback() as rollback:
        for pool in pools(store, range_sets):
            lease = _lease(pool, owner, wanted)
            rollback.on_failure(store.release, lease.address.ip)
            store.note_last_reserved(pool.index, lease.address.ip)
            taken.append(lease)
        if wanted:
            raise InvalidConfiguration(
                f"failed to allocate all requested IPs: {' '.join(map(str, wanted))}",
                "each must be in a range set of its own, of the network's `ipam`",
                id="PLX-IPAM-REQUEST",
            )
        rollback.commit()
    return tuple(taken)


def _lease(pool: Pool, owner: Owner, wanted: list[IPAddress]) -> IPConfig:
    """Take the first of `wanted` that is the pool's out of the list, else what comes next."""
    for address in wanted:
        entry = pool.range_set.find(address)
        if entry:
            wanted.remove(address)
            return pool.take(address, entry, owner)
    return pool.take_next(owner)
