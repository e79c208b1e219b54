"""static: where its addresses come from, what CHECK compares, and the verbs that have nothing to do."""

from typing import Any

import pytest

from cni.spec.errors import CheckFailed, CNIError, DecodingFailure, InvalidConfiguration, InvalidEnvironment
from cni.spec.request import Request
from cni.spec.result import Result
from ipam import static

WRITTEN = [{"address": "10.0.0.1/24", "gateway": "10.0.0.254"}, {"address": "2001:db8::1/64"}]


def request(verb: str = "ADD", addresses: Any = None, *, args: str = "", ipam: Any = None, **conf: Any) -> Request:
    keys = {"type": "static"} | ({} if addresses is None else {"addresses": addresses}) | (ipam or {})
    return Request(
        command=verb,
        container_id="c1",
        ifname="eth0",
        args=args,
        conf={"cniVersion": "1.0.0", "name": "n", "ipam": keys} | {key.rstrip("_"): conf[key] for key in conf},
    )


def told(result: Result) -> list[str]:
    return [f"{ip.address}" + (f" via {ip.gateway}" if ip.gateway else "") for ip in result.ips]


def added(addresses: Any = None, **conf: Any) -> list[str]:
    return told(static.add(request(addresses=addresses, **conf)))


def refused(addresses: Any = None, *, verb: Any = static.add, **conf: Any) -> CNIError:
    with pytest.raises(CNIError) as caught:
        verb(request(addresses=addresses, **conf))
    return caught.value


class TestWhereAddressesComeFrom:
    def test_those_that_are_written_come_in_their_order_with_their_gateways(self):
        assert added(WRITTEN) == ["10.0.0.1/24 via 10.0.0.254", "2001:db8::1/64"]

    def test_those_of_cni_args_are_appended(self):
        assert added(WRITTEN, args="IP=10.0.0.5/24, 2001:db8::9/64") == [
            "10.0.0.1/24 via 10.0.0.254",
            "2001:db8::1/64",
            "10.0.0.5/24",
            "2001:db8::9/64",
        ]

    def test_a_gateway_of_cni_args_goes_to_the_addresses_whose_subnet_has_it(self):
        args = "IP=10.1.0.5/24,10.2.0.5/24,2001:db8:1::9/64;GATEWAY=10.1.0.1,2001:db8:1::1"
        assert added([], args=args) == [
            "10.1.0.5/24 via 10.1.0.1",
            "10.2.0.5/24",
            "2001:db8:1::9/64 via 2001:db8:1::1",
        ]

    def test_of_two_gateways_in_one_subnet_the_last_counts(self):
        assert added([], args="IP=10.1.0.5/24;GATEWAY=10.1.0.1,10.1.0.2") == ["10.1.0.5/24 via 10.1.0.2"]

    def test_a_gateway_of_cni_args_completes_what_is_written_and_replaces_nothing(self):
        assert added(WRITTEN, args="GATEWAY=10.0.0.253,2001:db8::fe") == [
            "10.0.0.1/24 via 10.0.0.254",
            "2001:db8::1/64 via 2001:db8::fe",
        ]

    def test_args_replace_what_is_written_and_what_is_in_cni_args(self):
        asked = {"cni": {"ips": ["10.9.0.9/16"]}}
        assert added(WRITTEN, args="IP=10.0.0.5/24;GATEWAY=10.9.0.1", args_=asked) == ["10.9.0.9/16"]

    def test_the_runtimes_replace_all_others(self):
        both = {"args_": {"cni": {"ips": ["10.9.0.9/16"]}}, "runtimeConfig": {"ips": ["10.8.0.8/16", "2001:db8::8/64"]}}
        assert added(WRITTEN, **both) == ["10.8.0.8/16", "2001:db8::8/64"]

    @pytest.mark.parametrize("ips", [[], None])
    def test_an_empty_list_replaces_nothing(self, ips: Any):
        assert added(WRITTEN[:1], args_={"cni": {"ips": ips}}, runtimeConfig={"ips": ips}) == [
            "10.0.0.1/24 via 10.0.0.254"
        ]

    def test_what_is_replaced_may_be_wrong(self):
        assert added([{"address": "nonsense"}], runtimeConfig={"ips": ["10.8.0.8/16"]}) == ["10.8.0.8/16"]

    def test_an_empty_gateway_is_none(self):
        assert added([{"address": "10.0.0.1/24", "gateway": ""}]) == ["10.0.0.1/24"]

    @pytest.mark.parametrize("addresses", [None, []])
    def test_no_address_is_a_success_without_any(self, addresses: Any):
        assert added(addresses) == []

    def test_routes_and_name_resolution_are_passed_on(self):
        ipam = {"routes": [{"dst": "0.0.0.0/0"}], "dns": {"nameservers": ["192.0.2.53"]}}
        result = static.add(request(ipam=ipam))
        assert [str(route.dst) for route in result.routes] == ["0.0.0.0/0"]
        assert result.dns.nameservers == ("192.0.2.53",)


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("args", "msg"),
        [
            ("IP=10.0.0.5", "the 'ip' field is expected to be in CIDR notation, got: '10.0.0.5'"),
            ("IP=10.0.0.5/24,", "the 'ip' field is expected to be in CIDR notation, got: ''"),
            ("GATEWAY=10.0.0.1/24", "invalid gateway address: 10.0.0.1/24"),
            ("ip=10.0.0.5/24", 'ARGS: unknown args ["ip=10.0.0.5/24"]'),
        ],
    )
    def test_cni_args_that_make_no_sense_are_named(self, args: str, msg: str):
        error = refused(WRITTEN, args=args)
        assert isinstance(error, InvalidEnvironment)
        assert error.msg == msg

    def test_cni_args_of_others_are_passed_over_where_that_is_allowed(self):
        assert added([], args="IgnoreUnknown=1;K8S_POD_NAME=vm;IP=10.0.0.5/24") == ["10.0.0.5/24"]

    @pytest.mark.parametrize(
        ("conf", "msg", "where"),
        [
            (
                {"addresses": [{"address": "10.0.0.1"}]},
                "the 'address' field is expected to be in CIDR notation, got: '10.0.0.1'",
                "ipam.addresses[0].address: ",
            ),
            (
                {"addresses": [*WRITTEN, {"gateway": "10.0.0.1"}]},
                "the 'address' field is expected to be in CIDR notation, got: ''",
                "ipam.addresses[2].address: ",
            ),
            (
                {"args_": {"cni": {"ips": ["10.0.0.1/24", "10.0.0.2"]}}},
                "an entry in the 'ips' field is NOT in CIDR notation, got: '10.0.0.2'",
                "args.cni.ips[1]: ",
            ),
            (
                {"runtimeConfig": {"ips": ["10.0.0.3/33"]}},
                "an entry in the 'ips' field is NOT in CIDR notation, got: '10.0.0.3/33'",
                "runtimeConfig.ips[0]: ",
            ),
            ({"addresses": [{"address": 7}]}, "could not read the configuration of static", "ipam.addresses[0].addr"),
            ({"addresses": WRITTEN[0]}, "could not read the configuration of static", "ipam.addresses: must be a"),
            ({"addresses": [{"gateway": "zz"}]}, "could not read the configuration of static", "ipam.addresses[0].gat"),
        ],
    )
    def test_a_value_that_makes_no_sense_is_named_with_its_path(self, conf: dict[str, Any], msg: str, where: str):
        error = refused(**conf)
        assert isinstance(error, InvalidConfiguration)
        assert (error.msg, error.reason[: len(where)]) == (msg, where)

    def test_a_configuration_without_ipam_is_refused(self):
        with pytest.raises(InvalidConfiguration, match="IPAM config missing 'ipam' key"):
            static.add(Request(command="ADD", conf={"cniVersion": "1.0.0", "name": "n"}))

    @pytest.mark.parametrize("version", ["", "0.1.0", "0.2.0"])
    def test_two_addresses_of_a_family_are_refused_where_a_result_has_room_for_one(self, version: str):
        two = [{"address": "10.0.0.1/24"}, {"address": "10.0.0.2/24"}]
        error = refused(two, cniVersion=version)
        assert error.msg == f"CNI version {version} does not support more than 1 address per family"
        assert added(WRITTEN, cniVersion=version)
        assert added(two, cniVersion="0.3.0")


class TestCheck:
    def check(self, *ips: dict[str, Any], **conf: Any) -> None:
        static.check(request("CHECK", prevResult={"cniVersion": "1.0.0", "ips": list(ips)}, **conf))

    def test_it_passes_where_prev_result_has_every_address(self):
        added_by_others = {"address": "192.0.2.1/24"}
        self.check(added_by_others, *WRITTEN, addresses=WRITTEN)

    def test_a_gateway_that_is_not_ours_to_name_may_be_any(self):
        self.check({"address": "10.0.0.1/24", "gateway": "10.0.0.7"}, addresses=[{"address": "10.0.0.1/24"}])

    @pytest.mark.parametrize(
        ("ips", "found"),
        [
            ([{"address": "10.0.0.1/24", "gateway": "10.0.0.7"}], "10.0.0.1/24 via 10.0.0.7"),
            ([{"address": "10.0.0.1/24"}], "10.0.0.1/24"),
            ([{"address": "10.0.0.2/24", "gateway": "10.0.0.254"}], "10.0.0.2/24 via 10.0.0.254"),
            ([], "no address"),
        ],
    )
    def test_it_fails_and_tells_what_it_found(self, ips: list[dict[str, Any]], found: str):
        with pytest.raises(CheckFailed) as caught:
            self.check(*ips, addresses=WRITTEN[:1])
        assert caught.value.msg == "static: Failed to match addr 10.0.0.1 on interface eth0"
        assert caught.value.reason == f"expected 10.0.0.1/24 via 10.0.0.254, found {found} in prevResult"

    def test_it_fails_without_prev_result(self):
        assert isinstance(refused(WRITTEN, verb=static.check), DecodingFailure)


class TestTheOtherVerbs:
    @pytest.mark.parametrize("verb", [static.delete, static.gc])
    def test_they_succeed_whatever_the_configuration_has_become(self, verb: Any):
        verb(request(addresses="nonsense", args="NONSENSE"))
        verb(Request(command="DEL"))

    def test_status_refuses_what_add_would_refuse(self):
        static.status(request("STATUS", WRITTEN))
        assert isinstance(refused([{"address": "x"}], verb=static.status), InvalidConfiguration)
