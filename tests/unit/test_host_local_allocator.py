"""Choosing addresses, over a store in memory."""

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cni.spec.errors import CNIError, InvalidConfiguration, IOFailure, TryAgainLater
from cni.spec.model import IPAddress, parse_address, parse_cidr
from ipam import allocator, leases, ranges
from ipam.ranges import RangeSet
from ipam.store import MemoryStore, Owner

ME = Owner("me", "eth0")


def sets(*written: str) -> list[RangeSet]:
    """One set per argument, of the subnets in it."""
    return [
        ranges.canonical_set(tuple(ranges.canonical(parse_cidr(subnet)) for subnet in text.split())) for text in written
    ]


def take(store: MemoryStore, range_sets: Iterable[RangeSet], *requested: str, owner: Owner = ME) -> list[str]:
    ips = allocator.allocate(store, range_sets, owner, [parse_address(text) for text in requested])
    return [str(ip.address) for ip in ips]


def refused(store: MemoryStore, range_sets: Iterable[RangeSet], *requested: str) -> CNIError:
    with pytest.raises(CNIError) as caught:
        take(store, range_sets, *requested)
    return caught.value


def test_an_address_comes_with_prefix_length_and_gateway():
    (ip,) = allocator.allocate(MemoryStore(), sets("10.0.0.0/24"), ME, [])
    assert (str(ip.address), str(ip.gateway), ip.interface) == ("10.0.0.2/24", "10.0.0.1", None)


def test_each_set_gives_one():
    assert take(MemoryStore(), sets("10.0.0.0/24 10.1.0.0/24", "2001:db8::/64")) == ["10.0.0.2/24", "2001:db8::2/64"]


def test_an_address_given_back_is_the_last_to_be_given_again():
    store = MemoryStore()
    for number in range(3):
        take(store, sets("10.0.0.0/29"), owner=Owner(f"c{number}", "eth0"))
    store.release(parse_address("10.0.0.2"))
    order = [take(store, sets("10.0.0.0/29"), owner=Owner(f"d{number}", "eth0"))[0] for number in range(3)]
    assert order == ["10.0.0.5/29", "10.0.0.6/29", "10.0.0.2/29"]


def test_a_full_set_is_told_with_how_full_where_and_what_to_do():
    store = MemoryStore(location="/somewhere")
    take(store, sets("10.0.0.0/30"), owner=Owner("other", "eth0"))
    error = refused(store, sets("10.0.0.0/30"))
    assert isinstance(error, TryAgainLater)
    assert error.msg == ("failed to allocate for range 0: no IP addresses available in range set: 10.0.0.1-10.0.0.2")
    assert error.details == (
        '1 of 1 addresses are in use in "/somewhere"; delete what no longer needs one, widen the range,'
        " or run `plexus gc` if containers have gone without a DEL [PLX-IPAM-FULL]"
    )


def test_leases_outside_the_set_do_not_count_as_used():
    store = MemoryStore()
    store.reserve(parse_address("10.9.0.7"), Owner("other"))
    (pool,) = allocator.pools(store, sets("10.0.0.0/30"))
    assert pool.shortage() == ""


def test_a_second_address_of_one_set_is_refused_with_the_first_named():
    store = MemoryStore()
    take(store, sets("10.0.0.0/24"))
    error = refused(store, sets("10.0.0.0/24"))
    assert error.msg == (
        "failed to allocate for range 0: 10.0.0.2 has been allocated to me, duplicate allocation is not allowed"
    )
    assert (error.code, error.id) == (11, "PLX-IPAM-DUPLICATE")


def test_an_address_of_another_set_is_no_second():
    store = MemoryStore()
    take(store, sets("10.0.0.0/24"))
    assert take(store, sets("10.1.0.0/24")) == ["10.1.0.2/24"]


class TestRequests:
    def test_a_requested_address_is_given(self):
        assert take(MemoryStore(), sets("10.0.0.0/24"), "10.0.0.77") == ["10.0.0.77/24"]

    def test_requests_find_their_sets_in_any_order(self):
        both = sets("10.0.0.0/24", "2001:db8::/64")
        assert take(MemoryStore(), both, "2001:db8::9", "10.0.0.9") == ["10.0.0.9/24", "2001:db8::9/64"]

    def test_the_round_goes_on_after_a_requested_address(self):
        store = MemoryStore()
        take(store, sets("10.0.0.0/24"), "10.0.0.77")
        assert take(store, sets("10.0.0.0/24"), owner=Owner("other", "eth0")) == ["10.0.0.78/24"]

    def test_the_gateway_is_refused(self):
        error = refused(MemoryStore(), sets("10.0.0.0/24"), "10.0.0.1")
        assert error.msg == "failed to allocate for range 0: requested ip 10.0.0.1 is subnet's gateway"
        assert isinstance(error, InvalidConfiguration)

    def test_a_taken_one_is_refused_with_its_holder_named(self):
        store = MemoryStore()
        take(store, sets("10.0.0.0/24"), "10.0.0.9", owner=Owner("other", "net1"))
        error = refused(store, sets("10.0.0.0/24"), "10.0.0.9")
        assert error.msg == (
            "failed to allocate for range 0: requested IP address 10.0.0.9 is not available"
            " in range set 10.0.0.1-10.0.0.254"
        )
        assert error.details == '"other net1" holds it, in "memory" [PLX-IPAM-TAKEN]'
        assert isinstance(error, TryAgainLater)

    def test_one_that_no_set_has_is_refused_and_nothing_is_taken(self):
        store = MemoryStore()
        error = refused(store, sets("10.0.0.0/24"), "10.7.7.7", "10.8.8.8")
        assert error.msg == "failed to allocate all requested IPs: 10.7.7.7 10.8.8.8"
        assert isinstance(error, InvalidConfiguration)
        assert store.leases == {}

    def test_two_of_one_set_are_one_too_many(self):
        store = MemoryStore()
        both = sets("10.0.0.0/24", "10.1.0.0/24")
        assert refused(store, both, "10.0.0.5", "10.0.0.6").msg == "failed to allocate all requested IPs: 10.0.0.6"
        assert store.leases == {}


class TestFailure:
    def test_what_the_first_sets_gave_is_given_back_when_the_last_is_full(self):
        store = MemoryStore()
        store.reserve(parse_address("10.2.0.2"), Owner("other", "eth0"))
        before = dict(store.leases)
        error = refused(store, sets("10.0.0.0/24", "10.1.0.0/24", "10.2.0.0/30"))
        assert error.msg.startswith("failed to allocate for range 2: ")
        assert store.leases == before

    def test_what_the_attachment_had_before_is_not_given_back(self):
        store = MemoryStore()
        take(store, sets("10.5.0.0/24"))
        before = dict(store.leases)
        refused(store, sets("10.0.0.0/24", "10.5.0.0/24"))
        assert store.leases == before

    @pytest.mark.parametrize("failing", range(4))
    def test_a_store_that_fails_at_any_change_is_left_as_it_was(self, failing: int):
        store = FailingStore(fail_at=failing)
        with pytest.raises(IOFailure):
            take(store, sets("10.0.0.0/24", "2001:db8::/64"))
        assert store.leases == {}


class FailingStore(MemoryStore):
    """Out of space at the change of that number."""

    def __init__(self, fail_at: int) -> None:
        super().__init__()
        self.until = fail_at

    def reserve(self, address: IPAddress, owner: Owner) -> bool:
        self.change()
        return super().reserve(address, owner)

    def note_last_reserved(self, set_index: int, address: IPAddress) -> None:
        self.change()
        super().note_last_reserved(set_index, address)

    def change(self) -> None:
        if self.until == 0:
            raise IOFailure("could not write", "No space left on device")
        self.until -= 1


operations = st.lists(st.tuples(st.sampled_from(["add", "delete"]), st.integers(0, 9)), max_size=60)


@settings(derandomize=True, deadline=None)
@given(operations)
def test_whatever_comes_and_goes_each_attachment_has_one_address_of_its_own(steps: list[tuple[str, int]]):
    store = MemoryStore()
    (only,) = sets("10.0.0.0/29 10.0.1.0/30")
    expected: set[Owner] = set()
    for verb, number in steps:
        owner = Owner(f"c{number}", "eth0")
        if verb == "delete":
            leases.release(store, owner, "")
            expected.discard(owner)
        elif owner in expected or len(expected) == only.capacity:
            with pytest.raises(TryAgainLater):
                take(store, [only], owner=owner)
        else:
            take(store, [only], owner=owner)
            expected.add(owner)
    assert sorted(map(str, store.leases.values())) == sorted(map(str, expected))
    assert all(only.find(address) for address in store.leases)
    assert parse_address("10.0.0.1") not in store.leases
