"""The configuration of host-local: what is refused, in whose words, and where it stands."""

from typing import Any

import pytest

from cni.spec.errors import CNIError, InvalidConfiguration, InvalidEnvironment
from cni.spec.request import Request
from ipam import config, resolv_conf
from ipam.config import Config

SUBNET = {"subnet": "10.0.0.0/24"}


def parse(ipam: Any, cni_args: str = "", **conf: Any) -> Config:
    return config.parse(
        Request(command="ADD", args=cni_args, conf={"name": "n", "cniVersion": "1.1.0", "ipam": ipam} | conf)
    )


def refused(ipam: Any, cni_args: str = "", **conf: Any) -> CNIError:
    with pytest.raises(CNIError) as caught:
        parse(ipam, cni_args, **conf)
    return caught.value


@pytest.mark.parametrize(
    ("ipam", "msg", "where"),
    [
        (None, "IPAM config missing 'ipam' key", "ipam"),
        ({}, "no IP ranges specified", "ipam.ranges"),
        ({"ranges": []}, "no IP ranges specified", "ipam.ranges"),
        ({"gateway": "10.0.0.1"}, "no IP ranges specified", "ipam.ranges"),
        ({"subnet": "nope"}, "invalid CIDR address: nope", "ipam.subnet"),
        ({"subnet": "10.0.0.0"}, "invalid CIDR address: 10.0.0.0", "ipam.subnet"),
        ({"subnet": "10.0.0.0/33"}, "invalid CIDR address: 10.0.0.0/33", "ipam.subnet"),
        ({"subnet": "10.0.0.0/255.0.0.0"}, "invalid CIDR address: 10.0.0.0/255.0.0.0", "ipam.subnet"),
        ({"subnet": "fe80::%eth0/64"}, "invalid CIDR address: fe80::%eth0/64", "ipam.subnet"),
        (SUBNET | {"rangeEnd": "x"}, "invalid IP address: x", "ipam.rangeEnd"),
        (SUBNET | {"gateway": "10.0.0.1/24"}, "invalid IP address: 10.0.0.1/24", "ipam.gateway"),
        (SUBNET | {"routes": [{"dst": "bad"}]}, "invalid CIDR address: bad", "ipam.routes[0].dst"),
        (SUBNET | {"routes": [{"dst": "::/0", "gw": "z"}]}, "invalid IP address: z", "ipam.routes[0].gw"),
        ({"ranges": [[SUBNET, {"subnet": "y"}]]}, "invalid CIDR address: y", "ipam.ranges[0][1].subnet"),
        ({"ranges": [[]]}, "invalid range set 0: empty range set", "ipam.ranges[0]"),
        ({"ranges": [[{}]]}, "invalid range set 0: a range without a subnet", "ipam.ranges[0][0].subnet"),
        (
            SUBNET | {"ranges": [[{"subnet": "10.1.0.0/31"}]]},
            "invalid range set 1: Network 10.1.0.0/31 too small to allocate from",
            "ipam.ranges[0][0].subnet",
        ),
        (
            SUBNET | {"rangeStart": "10.9.0.1"},
            "invalid range set 0: RangeStart 10.9.0.1 not in network 10.0.0.0/24",
            "ipam.rangeStart",
        ),
        (
            {"ranges": [[SUBNET, {"subnet": "10.1.0.0/24", "rangeEnd": "10.0.0.9"}]]},
            "invalid range set 0: RangeEnd 10.0.0.9 not in network 10.1.0.0/24",
            "ipam.ranges[0][1].rangeEnd",
        ),
        (
            {"ranges": [[SUBNET, {"subnet": "fd00::/64"}]]},
            "invalid range set 0: mixed address families",
            "ipam.ranges[0][1].subnet",
        ),
        (
            {"ranges": [[SUBNET, SUBNET]]},
            "invalid range set 0: subnets 10.0.0.1-10.0.0.254 and 10.0.0.1-10.0.0.254 overlap",
            "ipam.ranges[0][1]",
        ),
        (SUBNET | {"ranges": [[SUBNET]]}, "range set 0 overlaps with 1", "ipam.ranges[0]"),
    ],
)
def test_a_value_is_refused_in_the_references_words_with_its_path(ipam: Any, msg: str, where: str):
    error = refused(ipam)
    assert isinstance(error, InvalidConfiguration)
    assert (error.msg, error.details) == (msg, f"{where} [PLX-IPAM-CONF]")


@pytest.mark.parametrize(
    ("conf", "details"),
    [
        ({"ipam": 5}, "ipam: "),
        ({"ipam": []}, "ipam: "),
        ({"ipam": {"subnet": 5}}, "ipam.subnet: must be a string, not a number"),
        ({"ipam": {"subnet": ["10.0.0.0/24"]}}, "ipam.subnet: must be a string, not a list"),
        ({"ipam": SUBNET | {"gateway": 0}}, "ipam.gateway: must be a string, not a number"),
        ({"ipam": {"ranges": {}}}, "ipam.ranges: "),
        ({"ipam": {"ranges": [SUBNET]}}, "ipam.ranges[0]: "),
        ({"ipam": {"ranges": [["10.0.0.0/24"]]}}, "ipam.ranges[0][0]: "),
        ({"ipam": SUBNET | {"routes": "0.0.0.0/0"}}, "ipam.routes: "),
        ({"ipam": SUBNET | {"routes": [{}]}}, "ipam.routes[0].dst: is missing"),
        ({"ipam": SUBNET | {"routes": [{"dst": "::/0", "mtu": "1400"}]}}, "ipam.routes[0].mtu: "),
        ({"ipam": SUBNET | {"resolvConf": {}}}, "ipam.resolvConf: "),
        ({"ipam": SUBNET, "args": []}, "args: "),
        ({"ipam": SUBNET, "args": {"cni": {"ips": "10.0.0.9"}}}, "args.cni.ips: "),
        ({"ipam": SUBNET, "runtimeConfig": {"ips": [5]}}, "runtimeConfig.ips[0]: "),
        ({"ipam": SUBNET, "runtimeConfig": {"ipRanges": [{}]}}, "runtimeConfig.ipRanges[0]: "),
    ],
)
def test_a_wrong_type_is_refused_with_its_path(conf: dict[str, Any], details: str):
    error = refused(**conf)
    assert isinstance(error, InvalidConfiguration)
    assert error.msg == "could not read the configuration of host-local"
    assert error.details.startswith(details)
    assert error.details.endswith("[PLX-CONF]")


def test_keys_are_matched_in_any_case_null_is_absent_and_unknown_ones_are_left_alone():
    conf = parse({"SUBNET": "10.0.0.0/24", "rangestart": "10.0.0.5", "gateway": None, "rangeEnd": "", "x": 1})
    assert str(conf.range_sets[0]) == "10.0.0.5-10.0.0.254"


def test_range_sets_come_in_order_the_runtimes_first_then_the_flat_one():
    ipam = SUBNET | {"ranges": [[{"subnet": "10.1.0.0/24"}]]}
    conf = parse(ipam, runtimeConfig={"ipRanges": [[{"subnet": "10.2.0.0/24"}]]})
    assert [str(entry.ranges[0].network) for entry in conf.range_sets] == ["10.2.0.0/24", "10.0.0.0/24", "10.1.0.0/24"]


@pytest.mark.parametrize(("version", "allowed"), [("", False), ("0.2.0", False), ("0.3.0", True), ("1.1.0", True)])
def test_two_sets_of_one_family_need_a_version_that_can_express_them(version: str, allowed: bool):
    ipam = {"ranges": [[SUBNET], [{"subnet": "10.1.0.0/24"}]]}
    if allowed:
        assert len(parse(ipam, cniVersion=version).range_sets) == 2
    else:
        error = refused(ipam, cniVersion=version)
        assert error.msg == f"CNI version {version} does not support more than 1 address per family"


def test_one_set_of_each_family_fits_every_version():
    ipam = {"ranges": [[SUBNET], [{"subnet": "fd00::/64"}]]}
    assert [entry.family for entry in parse(ipam, cniVersion="0.1.0").range_sets] == [4, 6]


class TestRequests:
    def test_all_three_sources_are_joined_and_each_address_counts_once(self):
        conf = {
            "ipam": SUBNET,
            "args": {"cni": {"ips": ["10.0.0.8/24", "10.0.0.9"]}},
            "runtimeConfig": {"ips": ["10.0.0.7", "fd00::9"]},
        }
        parsed = config.parse(Request(command="ADD", args="IP=10.0.0.7/8,10.0.0.8", conf=conf))
        assert [str(address) for address in parsed.requested] == ["10.0.0.7", "10.0.0.8", "10.0.0.9", "fd00::9"]

    @pytest.mark.parametrize("args", ["", "IP=", "IgnoreUnknown=1;K8S_POD_NAME=vm"])
    def test_nothing_asked_for_is_nothing_requested(self, args: str):
        assert parse(SUBNET, args).requested == ()

    def test_an_address_of_cni_args_that_is_none_is_an_error_of_the_environment(self):
        error = refused(SUBNET, "IP=300.1.1.1")
        assert isinstance(error, InvalidEnvironment)
        assert error.msg == 'ARGS: error parsing value of pair "IP=300.1.1.1": invalid IP address 300.1.1.1'

    def test_cni_args_are_read_before_the_ranges_as_in_the_reference(self):
        assert isinstance(refused({"subnet": "10.0.0.0/31"}, "A=1"), InvalidEnvironment)

    @pytest.mark.parametrize("args", ["A=1", "ip=10.0.0.5", "MAC=02:00:00:00:00:01"])
    def test_a_key_of_cni_args_that_is_not_known_is_an_error_of_the_environment(self, args: str):
        error = refused(SUBNET, args)
        assert isinstance(error, InvalidEnvironment)
        assert error.msg == f'ARGS: unknown args ["{args}"]'

    @pytest.mark.parametrize(("key", "path"), [("args", "args.cni.ips[1]"), ("runtimeConfig", "runtimeConfig.ips[1]")])
    def test_an_address_of_the_configuration_that_is_none_is_named_with_its_path(self, key: str, path: str):
        ips = {"ips": ["10.0.0.9", "10.0.0.9/x"]}
        conf = {"ipam": SUBNET, key: {"cni": ips} if key == "args" else ips}
        with pytest.raises(InvalidConfiguration) as caught:
            config.parse(Request(command="ADD", conf=conf))
        assert (caught.value.msg, caught.value.reason) == ("invalid IP address 10.0.0.9/x", path)


def test_resolv_conf_is_read_as_the_resolver_does():
    text = (
        "nameserver 192.0.2.1\n  nameserver\t192.0.2.2 trailing\r\n#nameserver 192.0.2.3\n;search no\n"
        "domain example.com\ndomain example.org\nsearch a b\nsearch c\noptions ndots:5\nsortlist x\nnameserver\n\n"
    )
    dns = resolv_conf.parse(text)
    assert dns.nameservers == ("192.0.2.1", "192.0.2.2")
    assert (dns.domain, dns.search, dns.options) == ("example.org", ("a", "b", "c"), ("ndots:5",))
