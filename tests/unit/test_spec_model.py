"""Models: forgiving about keys, strict about values."""

from typing import Any

import pydantic
import pytest

from cni.spec import model
from cni.spec.model import CIDR, Address, InvalidAddress, InvalidField, Many, Model, parse_address, parse_cidr


class Inner(Model):
    mac_address: str = ""
    address: Address | None = None


class Outer(Model):
    is_gateway: bool = False
    mtu: int = 0
    subnet: CIDR | None = None
    inner: Inner = Inner()
    many: Many[Inner] = ()
    other_name: int = pydantic.Field(default=0, alias="pciID")


@pytest.mark.parametrize("key", ["isGateway", "ISGATEWAY", "isgateway", "is_gateway"])
def test_keys_match_in_any_case(key: str):
    assert model.parse(Outer, {key: True}, "x").is_gateway


def test_an_alias_of_its_own_is_matched_in_any_case_too():
    assert model.parse(Outer, {"PCIid": 5}, "x").other_name == 5


def test_unknown_keys_are_left_alone_and_null_leaves_the_default():
    assert model.parse(Outer, {"mtu": None, "inner": None, "many": None, "nonsense": {}}, "x") == Outer()


def test_of_keys_that_differ_only_in_case_the_last_counts():
    assert model.parse(Outer, {"mtu": 1, "MTU": 2}, "x").mtu == 2
    assert model.parse(Outer, {"MTU": 2, "mtu": None}, "x").mtu == 2


def test_values_are_frozen():
    with pytest.raises(pydantic.ValidationError):
        Outer().mtu = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({"isGateway": "true"}, "isGateway"),
        ({"isGateway": 1}, "isGateway"),
        ({"mtu": "1500"}, "mtu"),
        ({"mtu": 1.5}, "mtu"),
        ({"mtu": True}, "mtu"),
        ({"inner": []}, "inner"),
        ({"inner": {"macAddress": 5}}, "inner.macAddress"),
        ({"inner": {"ADDRESS": "10.0.0.1/24"}}, "inner.address"),
        ({"many": [{}, {"address": "x"}]}, "many[1].address"),
        ({"many": {}}, "many"),
        ({"many": "x"}, "many"),
        ({"subnet": "10.0.0.0"}, "subnet"),
        ({"subnet": 5}, "subnet"),
        ({"PCIID": "x"}, "pciID"),
    ],
)
def test_a_value_of_a_wrong_kind_is_refused_with_its_path(data: dict[str, Any], path: str):
    with pytest.raises(InvalidField) as caught:
        model.parse(Outer, data, "the configuration")
    assert caught.value.code == 7
    assert caught.value.path == path
    assert caught.value.msg == "could not read the configuration"
    assert caught.value.details.startswith(f"{path}: ")
    assert "pydantic" not in str(caught.value).lower()


def test_the_reason_says_what_was_expected_and_what_was_found():
    with pytest.raises(InvalidField) as caught:
        model.parse(Outer, {"mtu": "1500"}, "x")
    assert caught.value.problem == "must be an integer, not '1500'"


def test_the_cause_tells_a_text_that_is_no_address_from_what_is_no_text():
    for value, is_address in (("nope", True), (5, False)):
        with pytest.raises(InvalidField) as caught:
            model.parse(Outer, {"subnet": value}, "x")
        assert isinstance(caught.value.__cause__, InvalidAddress) is is_address


@pytest.mark.parametrize("text", ["10.0.0.5/24", "2001:db8::5/64", "0.0.0.0/0", "::/0", "10.0.0.5/32"])
def test_a_cidr_keeps_its_host_bits(text: str):
    assert str(parse_cidr(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "10.0.0.5",
        "10.0.0.5/",
        "10.0.0.5/33",
        "::/129",
        "10.0.0/24",
        "010.0.0.1/8",
        "10.0.0.5/255.0.0.0",
        "10.0.0.5/\u0662",
        "fe80::1%eth0/64",
        "10.0.0.5/-1",
        "10.0.0.5/24/8",
        " 10.0.0.5/24",
    ],
)
def test_what_is_no_cidr_is_named(text: str):
    with pytest.raises(InvalidAddress) as caught:
        parse_cidr(text)
    assert str(caught.value) == f"invalid CIDR address: {text}"


@pytest.mark.parametrize("text", ["", "x", "10.0.0.5/24", "10.0.0", "1", "fe80::1%eth0", "010.0.0.1", "10.0.0.1 "])
def test_what_is_no_address_is_named(text: str):
    with pytest.raises(InvalidAddress) as caught:
        parse_address(text)
    assert str(caught.value) == f"invalid IP address: {text}"
