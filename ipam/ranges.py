"""Ranges of addresses and sets of them, brought into one canonical form; pure arithmetic."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cni.spec.model import IPAddress, IPInterface

SMALLEST = 4
"""Addresses that a network needs: its own, a gateway's, one to give away, and the broadcast."""


class InvalidRange(ValueError):
    """A range, or a set of them, makes no sense; `where` is the part that is wrong, as a path from there."""

    def __init__(self, problem: str, where: str = "") -> None:
        super().__init__(problem)
        self.where = where


@dataclass(frozen=True)
class Range:
    """The addresses `first` to `last` of a network, of which the gateway is never given away."""

    network: ipaddress.IPv4Network | ipaddress.IPv6Network
    first: IPAddress
    last: IPAddress
    gateway: IPAddress

    def __contains__(self, address: IPAddress) -> bool:
        return address.version == self.network.version and int(self.first) <= int(address) <= int(self.last)

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"

    @property
    def capacity(self) -> int:
        """How many addresses it can give away."""
        return int(self.last) - int(self.first) + 1 - (self.gateway in self)

    def overlaps(self, other: Range) -> bool:
        """Whether the two have an address in common."""
        return self.first in other or other.first in self

    def interface(self, address: IPAddress) -> IPInterface:
        """The address with the network's prefix length."""
        return ipaddress.ip_interface(f"{address}/{self.network.prefixlen}")

    def span(self, first: int, last: int) -> Iterator[IPAddress]:
        """The addresses from `first` to `last`, without the gateway."""
        address = type(self.first)
        skipped = int(self.gateway) if self.gateway in self else None
        return (address(number) for number in range(first, last + 1) if number != skipped)


@dataclass(frozen=True)
class RangeSet:
    """Ranges of one family, of which an attachment gets one address."""

    ranges: tuple[Range, ...]

    def __contains__(self, address: IPAddress) -> bool:
        return self.find(address) is not None

    def __str__(self) -> str:
        return ",".join(str(entry) for entry in self.ranges)

    @property
    def family(self) -> int:
        """4 or 6."""
        return self.ranges[0].network.version

    @property
    def capacity(self) -> int:
        """How many addresses it can give away."""
        return sum(entry.capacity for entry in self.ranges)

    def find(self, address: IPAddress) -> Range | None:
        """The range that holds `address`."""
        return next((entry for entry in self.ranges if address in entry), None)

    def overlaps(self, other: RangeSet) -> bool:
        """Whether the two have an address in common."""
        return any(mine.overlaps(theirs) for mine in self.ranges for theirs in other.ranges)

    def count(self, addresses: Iterable[IPAddress]) -> int:
        """How many of `addresses` are ours to give away."""
        found = ((address, self.find(address)) for address in addresses)
        return sum(1 for address, entry in found if entry and address != entry.gateway)

    def after(self, last: IPAddress | None) -> Iterator[tuple[IPAddress, Range]]:
        """Every address that can be given away, with its range: those after `last` first, then round to it."""
        current = self.find(last) if last else None
        if last is None or current is None:
            yield from _each(self.ranges)
            return
        index = self.ranges.index(current)
        yield from ((address, current) for address in current.span(int(last) + 1, int(current.last)))
        yield from _each(self.ranges[index + 1 :] + self.ranges[:index])
        yield from ((address, current) for address in current.span(int(current.first), int(last)))


def canonical(
    subnet: IPInterface,
    *,
    first: IPAddress | None = None,
    last: IPAddress | None = None,
    gateway: IPAddress | None = None,
) -> Range:
    """The range of `subnet` with what is left open filled in. Raises InvalidRange."""
    network = subnet.network
    if network.num_addresses < SMALLEST:
        raise InvalidRange(f"Network {subnet} too small to allocate from", "subnet")
    if subnet.ip != network.network_address:
        raise InvalidRange(
            f"Network has host bits set. For a subnet mask of length {network.prefixlen}"
            f" the network address is {network.network_address}",
            "subnet",
        )
    end = last or _highest(network)
    start = first or network.network_address + 1
    # In this order: of a range that ends before it starts, it is the start that is called wrong.
    if first and not (first in network and int(first) <= int(end)):
        raise InvalidRange(f"RangeStart {first} not in network {network}", "rangeStart")
    if last and not (last in network and int(start) <= int(last)):
        raise InvalidRange(f"RangeEnd {last} not in network {network}", "rangeEnd")
    return Range(network, start, end, gateway or network.network_address + 1)


def canonical_set(ranges: Iterable[Range]) -> RangeSet:
    """A set of `ranges`. Raises InvalidRange unless they are some, of one family, and apart from each other."""
    entries: list[Range] = []
    for index, entry in enumerate(ranges):
        entries.append(entry)
        if entry.network.version != entries[0].network.version:
            raise InvalidRange("mixed address families", f"[{index}].subnet")
    if not entries:
        raise InvalidRange("empty range set")
    for (_, one), (index, other) in combinations(enumerate(entries), 2):
        if one.overlaps(other):
            raise InvalidRange(f"subnets {one} and {other} overlap", f"[{index}]")
    return RangeSet(tuple(entries))


def capacities(range_sets: Iterable[RangeSet]) -> dict[int, int]:
    """How many addresses they can give away, by IP version."""
    found: dict[int, int] = {}
    for range_set in range_sets:
        found[range_set.family] = found.get(range_set.family, 0) + range_set.capacity
    return found


def _highest(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> IPAddress:
    """The last address that a container may have: IPv6 has no broadcast."""
    last = network.broadcast_address
    return last - 1 if network.version == 4 else last


def _each(ranges: tuple[Range, ...]) -> Iterator[tuple[IPAddress, Range]]:
    for entry in ranges:
        yield from ((address, entry) for address in entry.span(int(entry.first), int(entry.last)))
