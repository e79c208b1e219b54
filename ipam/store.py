"""Where leases are kept: what every place offers, and one in memory, for tests."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from cni.spec.model import IPAddress


@dataclass(frozen=True)
class Owner:
    """The attachment that holds a lease; the oldest plugins noted no `ifname`."""

    container_id: str
    ifname: str = ""

    def __str__(self) -> str:
        return f"{self.container_id} {self.ifname}".strip()


class Store(Protocol):
    """The leases of one network. All but `locked` and `exists` are for the holder of its lock."""

    location: str
    """Where an operator finds it."""

    def exists(self) -> bool:
        """Whether anything was ever kept here."""
        ...

    def locked(self) -> AbstractContextManager[None]:
        """Keep everyone else out, in other processes too; creates the store. Raises TryAgainLater, IOFailure."""
        ...

    def addresses(self) -> list[IPAddress]:
        """Every address that has a lease, or the remains of one. Raises IOFailure."""
        ...

    def owner(self, address: IPAddress) -> Owner | None:
        """Who holds the lease of `address`; None where nobody does. Raises IOFailure."""
        ...

    def held_by(self, owner: Owner) -> list[IPAddress]:
        """The addresses of all leases that say exactly this owner. Raises IOFailure."""
        ...

    def remains(self) -> list[IPAddress]:
        """The addresses whose lease a crash left without an owner. Raises IOFailure."""
        ...

    def untaken(self, addresses: Iterable[IPAddress]) -> Iterator[IPAddress]:
        """Those of the addresses that have no lease, in their order, when each is asked for. Raises IOFailure."""
        ...

    def reserve(self, address: IPAddress, owner: Owner) -> bool:
        """Lease `address` unless it is taken; whether it is now the owner's. Raises IOFailure."""
        ...

    def release(self, address: IPAddress) -> None:
        """Give the lease back, if there is one. Raises IOFailure."""
        ...

    def last_reserved(self, set_index: int) -> IPAddress | None:
        """The newest lease of a range set, as far as that is known. Raises IOFailure."""
        ...

    def note_last_reserved(self, set_index: int, address: IPAddress) -> None:
        """Let the next search in the range set begin after `address`. Raises IOFailure."""
        ...


@dataclass
class MemoryStore:
    """The same in a dictionary, for tests of what stands on a store."""

    location: str = "memory"
    leases: dict[IPAddress, Owner | None] = field(default_factory=dict)
    last: dict[int, IPAddress] = field(default_factory=dict)

    def exists(self) -> bool:
        """It does."""
        return True

    def locked(self) -> AbstractContextManager[None]:
        """Nobody else knows it."""
        return contextlib.nullcontext()

    def addresses(self) -> list[IPAddress]:
        """The dictionary's keys."""
        return list(self.leases)

    def owner(self, address: IPAddress) -> Owner | None:
        """The dictionary's value."""
        return self.leases.get(address)

    def held_by(self, owner: Owner) -> list[IPAddress]:
        """The dictionary's keys that have this value."""
        return [address for address, found in self.leases.items() if found == owner]

    def remains(self) -> list[IPAddress]:
        """The dictionary's keys that have none."""
        return [address for address, found in self.leases.items() if found is None]

    def untaken(self, addresses: Iterable[IPAddress]) -> Iterator[IPAddress]:
        """All that are not the dictionary's keys."""
        return (address for address in addresses if address not in self.leases)

    def reserve(self, address: IPAddress, owner: Owner) -> bool:
        """Set it, over None too."""
        if self.leases.get(address):
            return False
        self.leases[address] = owner
        return True

    def release(self, address: IPAddress) -> None:
        """Delete it."""
        self.leases.pop(address, None)

    def last_reserved(self, set_index: int) -> IPAddress | None:
        """What was noted."""
        return self.last.get(set_index)

    def note_last_reserved(self, set_index: int, address: IPAddress) -> None:
        """Note it."""
        self.last[set_index] = address
