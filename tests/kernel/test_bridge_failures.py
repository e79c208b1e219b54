"""An ADD that fails leaves nothing behind but the bridge, whichever change to the kernel it is that fails."""

from itertools import count
from typing import Any

import pytest
from machine import Runtime, fail_at

from cni.spec.errors import CNIError

V4, V6 = "10.1.2.0/24", "fd00:1::/64"
ROUTES = [{"dst": "10.9.0.0/16"}, {"dst": "fd00:9::/48"}]

FULL = {"isDefaultGateway": True, "ipMasq": True}
ATTACHMENTS: dict[str, tuple[str, int, tuple[str, ...], dict[str, Any]]] = {
    "layer 2": ("bridge", 5, (), {"hairpinMode": True, "portIsolation": True}),
    "one address": ("bridge", 8, (V4,), {}),
    "gateway and masquerade": ("bridge", 14, (V4,), FULL),
    "gateway and masquerade, IPv6": ("bridge", 14, (V6,), FULL),
    "gateway and masquerade, dual stack": ("bridge", 19, (V4, V6), FULL),
    "checked source MAC": ("bridge", 8, (), {"macspoofchk": True, "promiscMode": True}),
    "veth": ("veth", 10, (V4,), {}),
    "veth and masquerade, dual stack": ("veth", 17, (V4, V6), {"ipMasq": True}),
}
"""Delegate, the least number of changes (a loop that ends too early would prove nothing), subnets, other keys."""


@pytest.mark.parametrize("name", ATTACHMENTS)
def test_an_add_that_fails_at_any_change_leaves_only_the_bridge(name: str, request: pytest.FixtureRequest):
    kind, least, subnets, keys = ATTACHMENTS[name]
    runtime: Runtime = request.getfixturevalue(kind)
    ipam = {"ipam": runtime.ipam(*subnets, routes=ROUTES[: len(subnets)])} if subnets else {}
    conf = runtime.conf(**keys, **ipam)
    before = runtime.state(without="cni0")

    for step in count(1):
        failed, error = attempt(runtime, conf, step)
        assert failed in error
        assert runtime.state(without="cni0") == before, f"after failing to {failed}"
        if not failed:
            break
        forget_what_is_shared(runtime)

    assert step > least


def attempt(runtime: Runtime, conf: dict[str, Any], step: int) -> tuple[str, str]:
    """ADD with one failing change: what failed (nothing, beyond the last), and the error it gave."""
    try:
        with fail_at(step) as failing:
            runtime.add(conf)
    except CNIError as error:
        return failing.failed, error.msg
    # Either nothing failed, or a change that need not succeed.
    runtime.delete(conf)
    runtime.host.run("sh", "-c", "! ip link show cni0 >&- 2>&- || ip addr flush dev cni0 scope global")
    return failing.failed, failing.failed


def forget_what_is_shared(runtime: Runtime) -> None:
    """Bridge, forwarding and the nftables skeleton: so that the next ADD takes the same steps."""
    off = "echo 0 > /proc/sys/net/ipv4/ip_forward; echo 0 > /proc/sys/net/ipv6/conf/all/forwarding"
    runtime.host.run("sh", "-c", f"ip link del cni0 2>&-; nft flush ruleset; {off}")


def test_an_add_that_fails_gives_back_the_address_that_it_replaced(bridge: Runtime):
    bridge.host.run("sh", "-c", "ip link add cni0 type bridge; ip addr add 10.0.0.1/8 dev cni0; ip link set cni0 up")
    conf = bridge.conf(isGateway=True, forceAddress=True, ipam=bridge.ipam("10.1.0.0/16"))

    for step in count(1):
        try:
            with fail_at(step) as failing:
                bridge.add(conf)
        except CNIError:
            assert bridge.host.addresses("cni0") == ["10.0.0.1/8"], f"after failing to {failing.failed}"
            continue
        if not failing.failed:
            break
        bridge.delete(conf)
        bridge.host.run("sh", "-c", "ip addr flush dev cni0; ip addr add 10.0.0.1/8 dev cni0")

    assert bridge.host.addresses("cni0") == ["10.1.0.1/16"]


def test_ipv6_that_was_off_in_the_sandbox_is_off_again_after_a_failed_add(bridge: Runtime):
    bridge.sandbox.run("sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/lo/disable_ipv6")
    conf = bridge.conf(ipMasq=True, ipam=bridge.ipam(V6))
    before = bridge.state(without="cni0")

    with fail_at(0) as counting:
        bridge.add(conf)
    assert bridge.sandbox.sysctl("net/ipv6/conf/lo/disable_ipv6") == "0"
    bridge.delete(conf)
    bridge.sandbox.run("sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/lo/disable_ipv6")
    forget_what_is_shared(bridge)
    with fail_at(counting.seen) as failing:
        bridge.fails("ADD", conf)

    assert failing.failed.startswith("masquerade")
    assert bridge.state(without="cni0") == before
