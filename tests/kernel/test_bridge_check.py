"""CHECK of both delegates: silent after ADD, and exact about every difference."""

from typing import Any

import pytest
from machine import Runtime, fail_at

from cni.spec import convert
from cni.spec.result import Result

V4, V6 = "10.1.2.0/24", "fd00:1::/64"


def full(runtime: Runtime) -> dict[str, Any]:
    return runtime.conf(
        isDefaultGateway=True,
        ipMasq=True,
        mtu=1400,
        macspoofchk=True,
        ipam=runtime.ipam(V4, V6, routes=[{"dst": "10.9.0.0/16"}]),
    )


CONFIGURATIONS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "layer 2": ((), {}),
    "layer 2, left down": ((), {"disableContainerInterface": True}),
    "IPv4": ((V4,), {"isDefaultGateway": True}),
    "IPv6": ((V6,), {"isDefaultGateway": True}),
    "dual stack": ((V4, V6), {"isGateway": True, "ipMasq": True}),
    "no gateway": ((V4,), {}),
    "every flag": ((V4,), {"hairpinMode": True, "portIsolation": True, "macspoofchk": True, "mtu": 1400}),
    "promiscuous": ((V4,), {"promiscMode": True}),
}


@pytest.mark.parametrize("version", ["0.4.0", "1.0.0", "1.1.0"])
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_check_passes_after_add(name: str, version: str, bridge: Runtime):
    subnets, keys = CONFIGURATIONS[name]
    ipam = {"ipam": bridge.ipam(*subnets)} if subnets else {}
    conf = bridge.conf(cniVersion=version, **keys, **ipam)

    bridge.check(conf, bridge.add(conf))


def test_check_passes_after_add_of_a_veth(veth: Runtime):
    conf = veth.conf(ipMasq=True, mtu=1400, ipam=veth.ipam(V4, V6, routes=[{"dst": "0.0.0.0/0"}]))

    veth.check(conf, veth.add(conf))


def test_check_changes_nothing(bridge: Runtime):
    conf = full(bridge)
    result = bridge.add(conf)
    before = bridge.state()

    with fail_at(1) as failing:
        bridge.check(conf, result)

    assert failing.seen == 0
    assert bridge.state() == before


SANDBOX_CHANGES: list[tuple[str, str]] = [
    ("ip link set eth0 address 02:00:00:00:00:77", 'MAC of "eth0": expected {mac}, found 02:00:00:00:00:77'),
    ("ip link set eth0 down", 'state of "eth0": expected up, found down'),
    ("ip addr del 10.1.2.2/24 dev eth0", 'addresses of "eth0": expected 10.1.2.2/24, found '),
    ("ip route del 10.9.0.0/16", "routes of the sandbox: expected 10.9.0.0/16, found none such"),
    ("ip link set eth0 down; ip link set eth0 name nic", 'interface "eth0": expected eth0, found nic'),
    ("ip link del eth0", 'interface "eth0": expected eth0, found none'),
    ("ip link del eth0", "the host's end: expected veth, found none"),
]
HOST_CHANGES: list[tuple[str, str]] = [
    ("ip link set PORT down", 'state of port "PORT": expected up, found down'),
    ("ip link set PORT nomaster", 'bridge of port "PORT": expected cni0, found none'),
    ("ip link set PORT mtu 1300", 'MTU of port "PORT": expected 1400, found 1300'),
    ("bridge link set dev PORT hairpin on", 'hairpin mode of port "PORT": expected off, found on'),
    ("bridge link set dev PORT isolated on", 'isolation of port "PORT": expected off, found on'),
    ("ip link set cni0 down", 'state of bridge "cni0": expected up, found down'),
    ("ip link set cni0 promisc on", 'promiscuous mode of bridge "cni0": expected off, found on'),
    ("ip link set cni0 address 02:00:00:00:00:78", 'MAC of bridge "cni0": expected '),
    ("ip addr del 10.1.2.1/24 dev cni0", 'addresses of "cni0": expected 10.1.2.1/24, found '),
    ("echo 0 > /proc/sys/net/ipv4/ip_forward", "sysctl net/ipv4/ip_forward: expected 1, found 0"),
    ("nft flush chain inet cni_plugins_masquerade masq_checks", "masqueraded addresses: expected 10.1.2.2, found none"),
    ("nft flush chain bridge nat PREROUTING", "check of the source MAC: expected on, found off"),
    ("ip link del cni0", 'bridge "cni0": expected bridge, found none'),
]
VETH_CHANGES: list[tuple[str, str]] = [
    ("ip link set PORT down", 'state of "PORT": expected up, found down'),
    ("ip addr del 10.1.2.1/32 dev PORT", 'addresses of "PORT": expected 10.1.2.1/32, found '),
    ("ip route del 10.1.2.2/32", 'routes by way of "PORT": expected 10.1.2.2/32, found '),
    ("nft flush chain inet cni_plugins_masquerade masq_checks", "masqueraded addresses: expected 10.1.2.2, found none"),
]


@pytest.mark.parametrize(("change", "told"), SANDBOX_CHANGES)
@pytest.mark.parametrize("kind", ["bridge", "veth"])
def test_check_tells_what_differs_in_the_sandbox(kind: str, change: str, told: str, request: pytest.FixtureRequest):
    runtime: Runtime = request.getfixturevalue(kind)
    conf = full(runtime)
    result = runtime.add(conf)
    mac = runtime.sandbox.link("eth0")["address"]
    runtime.sandbox.run("sh", "-c", change)

    error = fails(runtime, conf, result)

    assert told.format(mac=mac) in error


@pytest.mark.parametrize(
    ("kind", "change", "told"),
    [("bridge", *change) for change in HOST_CHANGES] + [("veth", *change) for change in VETH_CHANGES],
)
def test_check_tells_what_differs_on_the_host(kind: str, change: str, told: str, request: pytest.FixtureRequest):
    runtime: Runtime = request.getfixturevalue(kind)
    conf = full(runtime)
    result = runtime.add(conf)
    port = runtime.port()
    runtime.host.run("sh", "-c", change.replace("PORT", port))

    error = fails(runtime, conf, result)

    assert told.replace("PORT", port) in error


def test_check_tells_all_that_kubevirt_changed_at_once(bridge: Runtime):
    conf = bridge.conf()
    result = bridge.add(conf)
    bridge.sandbox.run(
        "sh", "-c", "ip link set eth0 down; ip link set eth0 name nic; ip link set nic address 02:00:00:00:00:77"
    )

    error = fails(bridge, conf, result)

    assert error == (
        f'attachment "eth0" to network "net" is not as ADD left it; interface "eth0": expected eth0, found nic;'
        f' MAC of "nic": expected {result.interfaces[2].mac}, found 02:00:00:00:00:77;'
        ' state of "nic": expected up, found down [PLX-CHECK]'
    )


def test_check_needs_the_result_of_add(bridge: Runtime):
    conf = bridge.conf()
    bridge.add(conf)

    assert bridge.fails("CHECK", conf).msg == "Required prevResult missing"


def test_check_in_another_sandbox_says_so(bridge: Runtime):
    conf = bridge.conf()
    result = bridge.add(conf)
    moved = result.replace(
        interfaces=(*result.interfaces[:2], result.interfaces[2].model_copy(update={"sandbox": "/run/netns/elsewhere"}))
    )

    assert f"expected {bridge.sandbox.path}, found /run/netns/elsewhere" in fails(bridge, conf, moved)


def test_check_accepts_routes_that_a_later_plugin_moved_to_another_table(bridge: Runtime):
    conf = bridge.conf(isDefaultGateway=True, ipam=bridge.ipam(V4, routes=[{"dst": "10.9.0.0/16"}]))
    result = bridge.add(conf)
    bridge.sandbox.ip("route add 10.9.0.0/16 via 10.1.2.1 table 100")
    bridge.sandbox.ip("route del 10.9.0.0/16 table main")

    bridge.check(conf, result)


def test_check_asks_ipam_too(bridge: Runtime):
    conf = bridge.conf(ipam=bridge.ipam(V4))
    result = bridge.add(conf)
    (bridge.data_dir / "net" / "10.1.2.2").unlink()

    assert "Failed to find address added by container c1" in fails(bridge, conf, result)


def test_check_before_its_version_is_refused(bridge: Runtime):
    conf = bridge.conf(cniVersion="0.3.1")
    bridge.add(conf)

    error = bridge.fails("CHECK", conf)

    assert (error.code, error.msg) == (1, "config version does not allow CHECK")


def fails(runtime: Runtime, conf: dict[str, Any], result: Result) -> str:
    error = runtime.fails("CHECK", conf | {"prevResult": convert.encode(result, conf["cniVersion"])})
    return str(error)
