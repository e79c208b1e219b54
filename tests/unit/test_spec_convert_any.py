"""Results of any version of the specification, through any other: what survives, by random example."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from cni.spec import convert, versions
from cni.spec.result import DNS, Interface, IPConfig, Result, Route

deterministic = settings(derandomize=True, deadline=None)
NEWEST = ("1.0.0", "1.1.0")


def addresses(prefixed: bool) -> st.SearchStrategy[str]:
    v4 = st.ip_addresses(v=4).map(str)
    v6 = st.ip_addresses(v=6).map(str)
    if not prefixed:
        return v4 | v6
    return st.tuples(v4, st.integers(0, 32)).map("{0[0]}/{0[1]}".format) | st.tuples(v6, st.integers(0, 128)).map(
        "{0[0]}/{0[1]}".format
    )


TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
SIZES = st.integers(1, 65535)
INTERFACES = st.builds(
    Interface, name=TEXT, mac=st.just("") | TEXT, mtu=st.just(0) | SIZES, sandbox=st.just("") | TEXT, pci_id=TEXT
)
ROUTES = st.fixed_dictionaries(
    {"dst": addresses(prefixed=True)},
    optional={"gw": addresses(prefixed=False), "mtu": SIZES, "priority": SIZES, "table": st.integers(0, 255)},
).map(Route.model_validate)
IPS = st.fixed_dictionaries(
    {"address": addresses(prefixed=True)},
    optional={"gateway": addresses(prefixed=False), "interface": st.integers(0, 9)},
).map(IPConfig.model_validate)
RESULTS = st.builds(
    Result,
    interfaces=st.lists(INTERFACES, max_size=3).map(tuple),
    ips=st.lists(IPS, min_size=1, max_size=4).map(tuple),
    routes=st.lists(ROUTES, max_size=3).map(tuple),
    dns=st.builds(DNS, nameservers=st.lists(TEXT, max_size=2).map(tuple), domain=st.just("") | TEXT),
)


@deterministic
@given(RESULTS, st.sampled_from(NEWEST))
def test_the_newest_versions_carry_everything(original: Result, version: str):
    assert convert.decode(json.loads(convert.to_json(original, version)), "") == original


@deterministic
@given(RESULTS, st.sampled_from(versions.SUPPORTED))
def test_what_a_version_can_say_survives_being_read(original: Result, version: str):
    encoded = convert.encode(original, version)
    assert convert.encode(convert.decode(encoded, ""), version) == encoded


@deterministic
@given(RESULTS, st.sampled_from(versions.SUPPORTED), st.sampled_from(versions.SUPPORTED))
def test_the_way_through_a_version_that_can_say_as_much_loses_nothing(original: Result, first: str, second: str):
    through, last = sorted((first, second), key=versions.parse, reverse=True)
    assert convert.encode(convert.decode(convert.encode(original, through), ""), last) == convert.encode(original, last)


@deterministic
@given(RESULTS, st.sampled_from(versions.SUPPORTED))
def test_what_is_printed_is_json_that_says_the_same(original: Result, version: str):
    printed = convert.to_json(original, version)
    assert json.loads(printed) == convert.encode(original, version)
    assert not set(printed) & set("<>&\u2028\u2029")
