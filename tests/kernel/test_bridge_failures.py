"""An ADD that fails leaves nothing behind but the bridge, whichever change to the kernel it is that fails."""

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from machine import Runtime, fail_at

from cni.spec.errors import CNIError

V4, V6 = "10.1.2.0/24", "fd00:1::/64"
ROUTES = [{"dst": "10.9.0.0/16"}, {"dst": "fd00:9::/48"}]

ATTACHMENTS: dict[str, tuple[int, Callable[[Runtime], dict[str, Any]]]] = {
    "layer 2": (5, lambda bridge: {"hairpinMode": True, "portIsolation": True}),
    "one address": (8, lambda bridge: {"ipam": bridge.ipam(V4)}),
    "gateway and masquerade, dual stack": (
        19,
        lambda bridge: {"isDefaultGateway": True, "ipMasq": True, "ipam": bridge.ipam(V4, V6, routes=ROUTES)},
    ),
    "checked source MAC": (8, lambda bridge: {"macspoofchk": True, "promiscMode": True}),
}
"""Each with the changes to the kernel it takes at least: a loop that ends too early would prove nothing."""


@pytest.mark.parametrize("name", ATTACHMENTS)
def test_an_add_that_fails_at_any_change_leaves_only_the_bridge(name: str, bridge: Runtime):
    least, keys = ATTACHMENTS[name]
    conf = bridge.conf(**keys(bridge))
    before = bridge.state(without="cni0")

    for step in count(1):
        try:
            with fail_at(step) as failing:
                bridge.add(conf)
        except CNIError as error:
            assert failing.failed in error.msg
        else:  # a change that need not succeed failed, or none did
            bridge.delete(conf)
            bridge.host.ip("addr flush dev cni0 scope global")
        assert bridge.state(without="cni0") == before, f"after failing to {failing.failed}"
        if not failing.failed:
            break
        forget_the_bridge(bridge)

    assert step > least


def forget_the_bridge(bridge: Runtime) -> None:
    """So that the next ADD takes the same steps."""
    off = "echo 0 > /proc/sys/net/ipv4/ip_forward; echo 0 > /proc/sys/net/ipv6/conf/all/forwarding"
    bridge.host.run("sh", "-c", f"ip link del cni0; nft flush ruleset; {off}")


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
    forget_the_bridge(bridge)
    with fail_at(counting.seen) as failing:
        bridge.fails("ADD", conf)

    assert failing.failed.startswith("masquerade")
    assert bridge.state(without="cni0") == before
