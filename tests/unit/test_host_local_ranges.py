"""Ranges and range sets."""

import ipaddress
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cni.spec.model import parse_address, parse_cidr
from ipam import ranges
from ipam.ranges import InvalidRange, Range, RangeSet

deterministic = settings(derandomize=True, deadline=None)


def make(subnet: str, **keys: str) -> Range:
    return ranges.canonical(parse_cidr(subnet), **{key: parse_address(text) for key, text in keys.items()})


@pytest.mark.parametrize(
    ("subnet", "first", "last", "gateway"),
    [
        ("192.0.2.0/24", "192.0.2.1", "192.0.2.254", "192.0.2.1"),
        ("10.0.0.0/30", "10.0.0.1", "10.0.0.2", "10.0.0.1"),
        ("2001:db8::/64", "2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", "2001:db8::1"),
        ("2001:db8::/126", "2001:db8::1", "2001:db8::3", "2001:db8::1"),
    ],
)
def test_what_is_left_out_is_filled_in(subnet: str, first: str, last: str, gateway: str):
    filled = make(subnet)
    assert (str(filled.first), str(filled.last), str(filled.gateway)) == (first, last, gateway)


def test_ipv6_has_no_broadcast_so_its_last_address_is_given_and_ipv4s_is_not():
    assert parse_address("2001:db8::3") in make("2001:db8::/126")
    assert parse_address("10.0.0.3") not in make("10.0.0.0/30")


def test_start_and_end_may_be_network_and_broadcast():
    whole = make("192.168.1.0/30", first="192.168.1.0", last="192.168.1.3")
    assert str(whole) == "192.168.1.0-192.168.1.3"
    assert whole.capacity == 3, "all but the gateway"


@pytest.mark.parametrize(
    ("subnet", "keys", "where", "problem"),
    [
        ("10.0.0.0/31", {}, "subnet", "Network 10.0.0.0/31 too small to allocate from"),
        ("2001:db8::/128", {}, "subnet", "Network 2001:db8::/128 too small to allocate from"),
        (
            "192.0.2.12/24",
            {},
            "subnet",
            "Network has host bits set. For a subnet mask of length 24 the network address is 192.0.2.0",
        ),
        ("192.0.2.0/24", {"first": "192.0.3.0"}, "rangeStart", "RangeStart 192.0.3.0 not in network 192.0.2.0/24"),
        ("192.0.2.0/24", {"last": "192.0.4.0"}, "rangeEnd", "RangeEnd 192.0.4.0 not in network 192.0.2.0/24"),
        ("192.0.2.0/24", {"last": "192.0.2.0"}, "rangeEnd", "RangeEnd 192.0.2.0 not in network 192.0.2.0/24"),
        (
            "192.0.2.0/24",
            {"first": "192.0.2.50", "last": "192.0.2.40"},
            "rangeStart",
            "RangeStart 192.0.2.50 not in network 192.0.2.0/24",
        ),
        ("192.0.2.0/24", {"first": "192.0.2.255"}, "rangeStart", "RangeStart 192.0.2.255 not in network 192.0.2.0/24"),
        ("192.0.2.0/24", {"first": "2001:db8::1"}, "rangeStart", "RangeStart 2001:db8::1 not in network 192.0.2.0/24"),
        ("2001:db8::/64", {"last": "10.0.0.1"}, "rangeEnd", "RangeEnd 10.0.0.1 not in network 2001:db8::/64"),
    ],
)
def test_a_range_that_makes_no_sense_is_refused_by_the_key_that_is_wrong(subnet, keys, where, problem):
    with pytest.raises(InvalidRange) as caught:
        make(subnet, **keys)
    assert (caught.value.where, str(caught.value)) == (where, problem)


@pytest.mark.parametrize(
    ("subnets", "where", "problem"),
    [
        ([], "", "empty range set"),
        (["10.0.0.0/24", "2001:db8::/64"], "[1].subnet", "mixed address families"),
        (["10.1.0.0/22", "10.9.0.0/24", "10.1.2.0/24"], "[2]", "subnets 10.1.0.1-10.1.3.254 and 10.1.2.1-10.1.2.254"),
    ],
)
def test_a_set_that_makes_no_sense_is_refused(subnets, where, problem):
    with pytest.raises(InvalidRange) as caught:
        ranges.canonical_set(tuple(make(subnet) for subnet in subnets))
    assert caught.value.where == where
    assert str(caught.value).startswith(problem)


def test_families_do_not_overlap_even_where_their_numbers_do():
    low = RangeSet((make("::/64"),))
    assert not low.overlaps(RangeSet((make("0.0.0.0/8"),)))


def test_a_search_begins_after_the_last_goes_through_every_range_and_ends_at_the_last():
    both = RangeSet((make("10.0.0.0/29"), make("10.0.1.0/30")))
    order = [str(address) for address, _ in both.after(parse_address("10.0.0.4"))]
    assert order == ["10.0.0.5", "10.0.0.6", "10.0.1.2", "10.0.0.2", "10.0.0.3", "10.0.0.4"]


@pytest.mark.parametrize("last", [None, "10.9.9.9", "2001:db8::5"])
def test_a_search_begins_at_the_start_when_the_last_is_not_ours(last):
    one = RangeSet((make("10.0.0.0/29"),))
    assert next(iter(one.after(last and parse_address(last))))[0] == parse_address("10.0.0.2")


def test_a_huge_range_costs_nothing_until_it_is_searched():
    huge = RangeSet((make("2001:db8::/32"),))
    assert huge.capacity == 2**96 - 2
    assert [str(address) for address, _ in islice(huge.after(parse_address("2001:db8::ffff")), 2)] == [
        "2001:db8::1:0",
        "2001:db8::1:1",
    ]


def test_the_last_address_there_is_can_be_searched():
    top = RangeSet((make("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffc/126"),))
    assert len(list(top.after(parse_address("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")))) == 2


@st.composite
def small_ranges(draw: st.DrawFn) -> Range:
    base = draw(st.sampled_from(["10.0.0.0", "10.0.1.0", "fd00::", "fd00::1:0"]))
    length = 32 if "." in base else 128
    network = ipaddress.ip_network(f"{base}/{length - draw(st.integers(2, 5))}")
    first = network[draw(st.integers(0, network.num_addresses - 1))]
    last = network[draw(st.integers(int(first) - int(network[0]), network.num_addresses - 1))]
    gateway = network[draw(st.integers(0, network.num_addresses - 1))]
    if last == network[0]:
        last = network[1]
    return ranges.canonical(parse_cidr(str(network)), first=first, last=last, gateway=gateway)


@deterministic
@given(small_ranges(), st.integers(0, 40))
def test_a_search_gives_each_address_but_the_gateway_exactly_once(entry: Range, offset: int):
    last = entry.network.network_address + offset
    found = [address for address, _ in RangeSet((entry,)).after(last)]
    every = [address for address in entry.network if address in entry and address != entry.gateway]
    assert sorted(found) == every
    assert len(found) == entry.capacity == RangeSet((entry,)).count(every)


@deterministic
@given(small_ranges(), small_ranges())
def test_overlap_is_having_an_address_in_common(one: Range, other: Range):
    common = any(address in other for address in one.network if address in one)
    assert one.overlaps(other) is other.overlaps(one) is common
