"""What `bridge` and `veth` accept in a configuration, and what they say of the rest."""

from typing import Any

import pytest

from cni.spec.errors import CNIError
from cni.spec.request import Request
from delegates import bridge_add, config

IPAM = {"ipam": {"type": "host-local"}}


def request(args: str = "", **conf: Any) -> Request:
    return Request(command="ADD", args=args).with_conf({"cniVersion": "1.1.0", "name": "net"} | conf)


def test_defaults_are_those_of_the_reference():
    conf = config.bridge(request())

    assert conf.bridge == "cni0"
    on = (conf.gateway, conf.force_address, conf.ip_masq, conf.hairpin_mode, conf.promisc_mode, conf.macspoofchk)
    assert not any(on)
    assert not any((conf.enabledad, conf.preserve_default_vlan, conf.port_isolation, conf.disable_container_interface))
    assert (conf.mtu, conf.vlan, conf.vlan_trunk) == (0, 0, None)
    assert not conf.vlan_filtering
    assert not conf.overrides_dns


def test_keys_are_read_in_any_case_and_null_is_the_default():
    conf = config.bridge(request(BRIDGE="br7", ISGATEWAY=True, MacSpoofChk=True, enableDAD=True, mtu=None))

    assert (conf.bridge, conf.gateway, conf.macspoofchk, conf.enabledad, conf.mtu) == ("br7", True, True, True, 0)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"bridge": ""}, "bridge: "),
    ({"bridge": "a-name-that-is-too-long"}, 'bridge: "a-name-that-is-too-long" cannot be the name of a bridge'),
    ({"bridge": 5}, "bridge: "),
    ({"isGateway": "yes"}, "isGateway: "),
    ({"mtu": -5}, "mtu: -5 is not between 68 and 65535"),
    ({"mtu": 10}, "mtu: 10 is not between 68 and 65535"),
    ({"mtu": 70000}, "mtu: 70000 is not between 68 and 65535"),
    ({"mtu": "1500"}, "mtu: "),
    ({"mtu": True}, "mtu: "),
    ({"vlan": -100}, "vlan: invalid VLAN ID -100 (must be between 0 and 4094)"),
    ({"vlan": 4095}, "vlan: invalid VLAN ID 4095 (must be between 0 and 4094)"),
    ({"vlan": 5000}, "vlan: invalid VLAN ID 5000 (must be between 0 and 4094)"),
    ({"vlanTrunk": {"id": 1}}, "vlanTrunk: "),
    ({"vlanTrunk": [{"minID": -1, "maxID": 5}]}, "vlanTrunk[0]: incorrect trunk minID parameter"),
    ({"vlanTrunk": [{"minID": 5000, "maxID": 5}]}, "vlanTrunk[0]: incorrect trunk minID parameter"),
    ({"vlanTrunk": [{"id": 3}, {"minID": 5, "maxID": 5000}]}, "vlanTrunk[1]: incorrect trunk maxID parameter"),
    ({"vlanTrunk": [{"id": 5000}]}, "vlanTrunk[0]: incorrect trunk id parameter"),
    ({"vlanTrunk": [{"id": -1}]}, "vlanTrunk[0]: incorrect trunk id parameter"),
    ({"vlanTrunk": [{"minID": 5}]}, "minID and maxID should be configured simultaneously, maxID is missing"),
    ({"vlanTrunk": [{"maxID": 5}]}, "minID and maxID should be configured simultaneously, minID is missing"),
    ({"vlanTrunk": [{"minID": 6, "maxID": 5}]}, "minID is greater than maxID in trunk parameter"),
    ({"vlanTrunk": [None]}, "vlanTrunk[0]: "),
    ({"hairpinMode": True, "promiscMode": True}, "cannot set hairpin mode and promiscuous mode at the same time"),
    (IPAM | {"disableContainerInterface": True}, "cannot use IPAM when DisableContainerInterface flag is set"),
    (IPAM | {"ipMasq": True, "ipMasqBackend": "foo"}, 'unknown ipmasq backend "foo"'),
    (IPAM | {"bridge": "twelve-chars", "vlan": 1234, "isGateway": True}, '"twelve-chars.1234"'),
    ({"ipam": 5}, "ipam"),
    ({"runtimeConfig": {"mac": 5}}, "runtimeConfig.mac: "),
]


@pytest.mark.parametrize(("keys", "told"), WRONG, ids=str)
def test_what_is_wrong_is_named_with_its_place_and_value(keys: dict[str, Any], told: str):
    with pytest.raises(CNIError) as caught:
        config.bridge(request(**keys))

    assert told in str(caught.value)
    assert caught.value.code == 7


@pytest.mark.parametrize("backend", [None, "", "auto", "nftables", "iptables"])
def test_the_programs_that_may_masquerade(backend: str | None):
    for read in (config.bridge, config.veth):
        assert read(request(ipMasq=True, ipMasqBackend=backend, **IPAM)).ip_masq_backend == (backend or "")


def test_a_backend_that_nobody_uses_does_not_matter():
    config.bridge(request(ipMasqBackend="foo", **IPAM))
    config.bridge(request(ipMasq=True, ipMasqBackend="foo"))


TRUNKS: list[tuple[list[dict[str, Any]], tuple[int, ...]]] = [
    ([], ()),
    ([{}], ()),
    ([{"minID": 100, "maxID": 105}], (100, 101, 102, 103, 104, 105)),
    ([{"id": 10}], (10,)),
    ([{"minID": 100, "maxID": 102}, {"id": 10}], (10, 100, 101, 102)),
    ([{"minID": 100, "maxID": 102, "id": 7}, {"id": 101}], (7, 100, 101, 102)),
]


@pytest.mark.parametrize(("trunk", "vids"), TRUNKS)
def test_a_trunk_is_each_vlan_once_by_number(trunk: list[dict[str, Any]], vids: tuple[int, ...]):
    conf = config.bridge(request(vlanTrunk=trunk))

    assert conf.trunk == vids
    assert conf.vlan_filtering


MEMBERSHIPS: list[tuple[dict[str, Any], list[tuple[int, bool]]]] = [
    ({}, []),
    ({"vlanTrunk": []}, []),
    ({"vlan": 100}, [(100, True)]),
    (
        {"vlanTrunk": [{"id": 101}, {"minID": 200, "maxID": 202}]},
        [(1, True), (101, False), (200, False), (201, False), (202, False)],
    ),
    ({"vlan": 5, "vlanTrunk": [{"minID": 5, "maxID": 6}]}, [(5, True), (6, False)]),
]


@pytest.mark.parametrize(("keys", "expected"), MEMBERSHIPS)
def test_the_port_joins_these_vlans(keys: dict[str, Any], expected: list[tuple[int, bool]]):
    found = bridge_add.memberships(config.bridge(request(**keys)))

    assert [(membership.vid, membership.native) for membership in found] == expected


def test_the_gateway_of_a_vlan_is_an_interface_of_its_own():
    assert config.bridge(request(bridge="br0", vlan=7)).gateway_name == "br0.7"
    assert config.bridge(request(bridge="br0")).gateway_name == "br0"


MACS = [
    ("02:00:00:00:00:AB", "02:00:00:00:00:ab"),
    ("02-00-00-00-00-ab", "02:00:00:00:00:ab"),
    ("0200.0000.00ab", "02:00:00:00:00:ab"),
]


@pytest.mark.parametrize(("written", "read"), MACS)
def test_macs_are_read_in_all_common_forms(written: str, read: str):
    asked = request(runtimeConfig={"mac": written})

    assert config.requested_mac(config.bridge(asked), asked, strict_args=True) == read


SOURCES: list[tuple[dict[str, Any], str]] = [
    ({"runtimeConfig": {"mac": "zz"}}, "runtimeConfig.mac"),
    ({"args": {"cni": {"mac": "zz"}}}, "args.cni.mac"),
]


@pytest.mark.parametrize(("keys", "source"), SOURCES)
def test_a_wrong_mac_is_told_with_its_source(keys: dict[str, Any], source: str):
    asked = Request(command="ADD").with_conf({"cniVersion": "1.1.0", "name": "net"} | keys)

    with pytest.raises(CNIError) as caught:
        config.requested_mac(config.bridge(asked), asked, strict_args=True)

    assert caught.value.msg == "address zz: invalid MAC address"
    assert source in caught.value.details


def test_cni_args_may_hold_only_what_bridge_knows():
    asked = request(args="IP=10.0.0.1")

    with pytest.raises(CNIError, match="unknown args"):
        config.requested_mac(config.bridge(asked), asked, strict_args=True)
    assert config.requested_mac(config.bridge(asked), asked, strict_args=False) == ""


@pytest.mark.parametrize("version", ["", "0.1.0", "0.2.0"])
def test_a_version_that_needs_addresses_needs_ipam(version: str):
    with pytest.raises(CNIError, match="cannot convert: no valid IP addresses"):
        config.require_expressible(request(cniVersion=version))
    config.require_expressible(request(cniVersion=version, **IPAM))
    config.require_expressible(request(cniVersion="0.3.0"))


def test_a_veth_needs_ipam():
    with pytest.raises(CNIError, match="no plugin name provided"):
        config.veth(request())
