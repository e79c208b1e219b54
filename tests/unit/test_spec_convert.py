"""Results of every version of the specification, to and from every other, byte for byte."""

from typing import Any

import pytest

from cni.spec import convert, versions
from cni.spec.errors import CNIError, DecodingFailure
from cni.spec.model import InvalidField
from cni.spec.result import Result

OLDEST = ("0.1.0", "0.2.0")
MIDDLE = ("0.3.0", "0.3.1", "0.4.0")
NEWEST = ("1.0.0", "1.1.0")


def result(**keys: Any) -> Result:
    return Result.model_validate(keys)


FULL = {
    "interfaces": [
        {"name": "br0", "mac": "00:11:22:33:44:55", "mtu": 1500},
        {
            "name": "eth0",
            "mac": "00:11:22:33:44:66",
            "sandbox": "/ns/1",
            "pciID": "0000:00:1f.6",
            "socketPath": "/run/x.sock",
        },
    ],
    "ips": [
        {"interface": 0, "address": "10.0.0.5/24", "gateway": "10.0.0.1"},
        {"interface": 1, "address": "2001:db8::5/64"},
        {"address": "10.0.1.5/24"},
    ],
    "routes": [
        {"dst": "0.0.0.0/0", "gw": "10.0.0.1", "mtu": 1500, "advmss": 1340, "priority": 100, "table": 50, "scope": 253},
        {"dst": "10.9.9.9/8", "table": 0, "scope": 0},
        {"dst": "::/0"},
    ],
    "dns": {"nameservers": ["192.0.2.1"], "domain": "example.com", "search": ["a<b>&c", "é"], "options": ["ndots:5"]},
}

PRINTED_1_1_0 = """{
    "cniVersion": "1.1.0",
    "dns": {
        "domain": "example.com",
        "nameservers": [
            "192.0.2.1"
        ],
        "options": [
            "ndots:5"
        ],
        "search": [
            "a\\u003cb\\u003e\\u0026c",
            "é"
        ]
    },
    "interfaces": [
        {
            "mac": "00:11:22:33:44:55",
            "mtu": 1500,
            "name": "br0"
        },
        {
            "mac": "00:11:22:33:44:66",
            "name": "eth0",
            "pciID": "0000:00:1f.6",
            "sandbox": "/ns/1",
            "socketPath": "/run/x.sock"
        }
    ],
    "ips": [
        {
            "address": "10.0.0.5/24",
            "gateway": "10.0.0.1",
            "interface": 0
        },
        {
            "address": "2001:db8::5/64",
            "interface": 1
        },
        {
            "address": "10.0.1.5/24"
        }
    ],
    "routes": [
        {
            "advmss": 1340,
            "dst": "0.0.0.0/0",
            "gw": "10.0.0.1",
            "mtu": 1500,
            "priority": 100,
            "scope": 253,
            "table": 50
        },
        {
            "dst": "10.9.9.9/8",
            "scope": 0,
            "table": 0
        },
        {
            "dst": "::/0"
        }
    ]
}"""

PRINTED_0_4_0 = """{
    "cniVersion": "0.4.0",
    "interfaces": [
        {
            "name": "br0",
            "mac": "00:11:22:33:44:55"
        },
        {
            "name": "eth0",
            "mac": "00:11:22:33:44:66",
            "sandbox": "/ns/1"
        }
    ],
    "ips": [
        {
            "version": "4",
            "interface": 0,
            "address": "10.0.0.5/24",
            "gateway": "10.0.0.1"
        },
        {
            "version": "6",
            "interface": 1,
            "address": "2001:db8::5/64"
        },
        {
            "version": "4",
            "address": "10.0.1.5/24"
        }
    ],
    "routes": [
        {
            "dst": "0.0.0.0/0",
            "gw": "10.0.0.1",
            "mtu": 1500,
            "advmss": 1340,
            "priority": 100,
            "table": 50,
            "scope": 253
        },
        {
            "dst": "10.9.9.9/8",
            "table": 0,
            "scope": 0
        },
        {
            "dst": "::/0"
        }
    ],
    "dns": {
        "nameservers": [
            "192.0.2.1"
        ],
        "domain": "example.com",
        "search": [
            "a\\u003cb\\u003e\\u0026c",
            "é"
        ],
        "options": [
            "ndots:5"
        ]
    }
}"""

PRINTED_0_2_0 = """{
    "cniVersion": "0.2.0",
    "ip4": {
        "ip": "10.0.0.5/24",
        "gateway": "10.0.0.1",
        "routes": [
            {
                "dst": "0.0.0.0/0",
                "gw": "10.0.0.1"
            },
            {
                "dst": "10.9.9.9/8"
            }
        ]
    },
    "ip6": {
        "ip": "2001:db8::5/64",
        "routes": [
            {
                "dst": "::/0"
            }
        ]
    },
    "dns": {
        "nameservers": [
            "192.0.2.1"
        ],
        "domain": "example.com",
        "search": [
            "a\\u003cb\\u003e\\u0026c",
            "é"
        ],
        "options": [
            "ndots:5"
        ]
    }
}"""


@pytest.mark.parametrize(
    ("version", "printed"),
    [(version, PRINTED_1_1_0) for version in NEWEST]
    + [(version, PRINTED_0_4_0) for version in MIDDLE]
    + [(version, PRINTED_0_2_0) for version in OLDEST],
)
def test_a_result_is_printed_as_the_reference_prints_it(version: str, printed: str):
    of_that_version = printed.split("\n", 2)
    of_that_version[1] = f'    "cniVersion": "{version}",'
    assert convert.to_json(result(**FULL), version) == "\n".join(of_that_version)


@pytest.mark.parametrize(
    ("version", "printed"),
    [
        ("1.1.0", '{\n    "cniVersion": "1.1.0"\n}'),
        ("1.0.0", '{\n    "cniVersion": "1.0.0"\n}'),
        ("0.4.0", '{\n    "cniVersion": "0.4.0",\n    "dns": {}\n}'),
        ("0.3.0", '{\n    "cniVersion": "0.3.0",\n    "dns": {}\n}'),
    ],
)
def test_an_empty_result_has_dns_only_where_it_was_always_printed(version: str, printed: str):
    assert convert.to_json(Result(), version) == printed


@pytest.mark.parametrize("version", ["", *OLDEST])
def test_without_addresses_the_oldest_versions_cannot_express_a_result(version: str):
    with pytest.raises(DecodingFailure) as caught:
        convert.encode(result(interfaces=[{"name": "br0"}]), version)
    assert caught.value.msg == "cannot convert: no valid IP addresses"


def test_no_version_is_the_oldest():
    encoded = convert.encode(result(ips=[{"address": "10.0.0.5/24"}]), "")
    assert encoded == {"cniVersion": "0.1.0", "ip4": {"ip": "10.0.0.5/24"}, "dns": {}}


@pytest.mark.parametrize("version", ["9.9.9", "1.2.0", "0.3.2", "one"])
def test_a_version_that_nobody_knows_is_named(version: str):
    for call in (lambda: convert.encode(Result(), version), lambda: convert.decode({"cniVersion": version}, "1.1.0")):
        with pytest.raises(DecodingFailure) as caught:
            call()
        assert caught.value.msg == f'unsupported CNI result version "{version}"'


@pytest.mark.parametrize(("default", "stated"), [("0.3.1", None), ("0.3.1", ""), ("1.1.0", None)])
def test_a_result_that_states_no_version_has_the_configurations(default: str, stated: str | None):
    ips = [{"version": "4", "address": "10.0.0.5/24"}]
    assert convert.decode({"cniVersion": stated, "ips": ips}, default).ips[0].address.version == 4


def test_a_result_without_any_version_is_of_the_oldest():
    decoded = convert.decode({"ip4": {"ip": "10.0.0.5/24", "gateway": "10.0.0.1"}}, "")
    assert [(str(ip.address), str(ip.gateway)) for ip in decoded.ips] == [("10.0.0.5/24", "10.0.0.1")]


@pytest.mark.parametrize("gw", [{}, {"gw": "10.0.0.254"}])
def test_an_old_result_comes_back_unchanged_through_a_newer_version(gw: dict[str, str]):
    old = {
        "cniVersion": "0.2.0",
        "ip4": {"ip": "10.0.0.5/24", "gateway": "10.0.0.1", "routes": [{"dst": "0.0.0.0/0"} | gw]},
        "ip6": {"ip": "2001:db8::5/64", "routes": [{"dst": "::/0"}]},
        "dns": {"nameservers": ["192.0.2.1"]},
    }
    newer = convert.encode(convert.decode(old, ""), "0.4.0")
    assert newer["ips"][1] == {"version": "6", "address": "2001:db8::5/64"}
    assert convert.encode(convert.decode(newer, ""), "0.2.0") == old


def test_only_the_first_address_of_each_family_fits_the_oldest_versions():
    many = result(ips=[{"address": text} for text in ("fd00::1/64", "10.0.0.1/8", "fd00::2/64", "10.0.0.2/8")])
    encoded = convert.encode(many, "0.1.0")
    assert (encoded["ip4"]["ip"], encoded["ip6"]["ip"]) == ("10.0.0.1/8", "fd00::1/64")


class TestPrevResult:
    @pytest.mark.parametrize("version", ["", *versions.SUPPORTED])
    def test_one_that_states_no_version_has_the_configurations(self, version: str):
        assert convert.decode_prev_result({"dns": {"domain": "x"}}, version).dns.domain == "x"

    @pytest.mark.parametrize(("stated", "conf"), [(one, other) for one in NEWEST for other in NEWEST])
    def test_the_newest_versions_are_each_others(self, stated: str, conf: str):
        ips = [{"address": "10.0.0.5/24"}]
        assert convert.decode_prev_result({"cniVersion": stated, "ips": ips}, conf).ips

    @pytest.mark.parametrize("stated", ["5678.456", "0.2.0", "0.4.0"])
    def test_one_of_another_shape_is_refused_as_the_reference_does(self, stated: str):
        with pytest.raises(DecodingFailure) as caught:
            convert.decode_prev_result({"cniVersion": stated}, "1.1.0")
        assert caught.value.msg == (
            f'could not parse prevResult: result type supports [1.0.0 1.1.0] but unmarshalled CNIVersion is "{stated}"'
        )

    @pytest.mark.parametrize("value", [5, "x", [], True])
    def test_one_that_is_no_object_is_refused(self, value: Any):
        with pytest.raises(DecodingFailure):
            convert.decode_prev_result(value, "1.1.0")


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({"ips": 5}, "ips"),
        ({"ips": [5]}, "ips[0]"),
        ({"ips": [{}]}, "ips[0].address"),
        ({"ips": [{"address": "10.0.0.5"}]}, "ips[0].address"),
        ({"ips": [{"address": "10.0.0.5/24", "interface": "0"}]}, "ips[0].interface"),
        ({"ips": [{"address": "10.0.0.5/24", "interface": True}]}, "ips[0].interface"),
        ({"interfaces": [{"name": 5}]}, "interfaces[0].name"),
        ({"interfaces": [{"pciID": 5}]}, "interfaces[0].pciID"),
        ({"routes": [{"dst": "0.0.0.0/0", "gw": "x"}]}, "routes[0].gw"),
        ({"routes": {"dst": "0.0.0.0/0"}}, "routes"),
        ({"dns": []}, "dns"),
    ],
)
def test_a_bad_value_is_named_with_its_path(data: dict[str, Any], path: str):
    with pytest.raises(InvalidField) as caught:
        convert.decode({"cniVersion": "1.1.0"} | data, "")
    assert caught.value.path == path


@pytest.mark.parametrize("family", ["ip4", "ip6"])
@pytest.mark.parametrize("value", [5, "10.0.0.1/24", [], {"ip": 5}, {"ip": "10.0.0.1/24", "routes": 5}])
def test_a_bad_value_of_the_oldest_shape_is_an_error_of_ours(family: str, value: Any):
    with pytest.raises(CNIError):
        convert.decode({"cniVersion": "0.2.0", family: value}, "")
