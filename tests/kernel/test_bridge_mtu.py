"""The bridge's MTU is its maker's: attachments take it, and whatever they ask for themselves they never change it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest
from machine import Namespace, Runtime, fail_at

from cni.spec.errors import CNIError

V4 = "10.1.2.0/24"
CHOSEN = "ip link add cni0 type bridge; ip link set cni0 mtu 9000"
AT_CREATION = "ip link add cni0 mtu 9000 type bridge"
UP = f"{AT_CREATION}; ip link set cni0 up"
BY_UPLINK = (
    "ip link add cni0 type bridge; ip link add up0 mtu 9000 type veth peer name wire; ip link set up0 master cni0"
)
JUMBO = [CHOSEN, AT_CREATION, UP, BY_UPLINK]
"""A bridge whose MTU somebody chose keeps it; another has its ports' lowest, and 1500 without ports."""


def mtus(bridge: Runtime) -> tuple[int, int, int]:
    """Of the bridge, of the host's end, of the sandbox's interface."""
    return mtu(bridge), bridge.host.link(bridge.port())["mtu"], bridge.sandbox.link("eth0")["mtu"]


def mtu(bridge: Runtime) -> int:
    return bridge.host.link("cni0")["mtu"]


def carries(sandbox: Namespace, size: int, address: str) -> bool:
    """Whether a packet of so many bytes passes in one piece, at the second try, when the neighbour is known."""
    command = ["ping", "-n", "-c1", "-W1", "-M", "do", "-s", str(size - 28), address]
    return any("1 received" in sandbox.run(*command, ok=False) for _ in range(2))


@pytest.mark.parametrize("made", JUMBO)
def test_an_attachment_takes_the_mtu_of_the_bridge_and_leaves_it(made: str, bridge: Runtime):
    bridge.host.run("sh", "-c", made)
    conf = bridge.conf(ipam=bridge.ipam(V4))

    result = bridge.add(conf)

    assert mtus(bridge) == (9000, 9000, 9000)
    assert [interface.mtu for interface in result.interfaces] == [9000, 9000, 9000]
    bridge.check(conf, result)
    bridge.delete(conf)
    assert mtu(bridge) == 9000


@pytest.mark.parametrize("made", [*JUMBO, "ip link add cni0 type bridge"])
def test_a_smaller_mtu_is_the_sandboxs_only(made: str, bridge: Runtime):
    bridge.host.run("sh", "-c", made)
    before = mtu(bridge)
    conf = bridge.conf(mtu=1400, isGateway=True, ipam=bridge.ipam(V4))

    result = bridge.add(conf)

    assert mtus(bridge) == (before, before, 1400)
    bridge.check(conf, result)
    assert carries(bridge.sandbox, 1400, "10.1.2.1")
    bridge.delete(conf)
    assert mtu(bridge) == before


@pytest.mark.parametrize(("made", "asked"), [(BY_UPLINK, 9001), (BY_UPLINK.replace("9000", "1500"), 9000)])
def test_a_larger_mtu_than_the_wires_is_refused_before_anything_is_made(made: str, asked: int, bridge: Runtime):
    bridge.host.run("sh", "-c", made)
    before, size = bridge.state(), mtu(bridge)

    error = bridge.fails("ADD", bridge.conf(mtu=asked, ipam=bridge.ipam(V4)))

    assert (error.id, error.code) == ("PLX-BRIDGE-MTU", 2)
    assert f"`mtu` is {asked}" in error.msg
    assert f"ask for {size} at most" in error.details
    assert '"up0"' in error.details
    assert (bridge.state(), mtu(bridge)) == (before, size)


@pytest.mark.parametrize("made", ["ip link add cni0 type bridge", CHOSEN.replace("9000", "2000")])
def test_a_larger_mtu_is_granted_where_frames_do_not_leave_the_machine(
    made: str, bridge: Runtime, namespace: Callable[[str], Namespace]
):
    bridge.host.run("sh", "-c", made)
    before = mtu(bridge)
    small, large = bridge.conf(ipam=bridge.ipam(V4)), bridge.conf(mtu=9000, ipam=bridge.ipam(V4))
    bridge.add(small, container_id="small", netns=namespace("small").path)

    bridge.add(large)
    bridge.delete(small, container_id="small", netns="")

    assert mtus(bridge) == (before, 9000, 9000)
    other = namespace("other")
    bridge.add(large, container_id="c2", netns=other.path)
    assert carries(bridge.sandbox, 9000, "10.1.2.4")
    bridge.delete(large, container_id="c2", netns="")
    bridge.delete(large)
    assert mtu(bridge) == before


def test_a_bridge_that_we_make_has_the_mtu_that_is_asked_for_and_keeps_it(bridge: Runtime):
    bridge.add(bridge.conf(mtu=9000))
    assert mtus(bridge) == (9000, 9000, 9000)
    bridge.delete(bridge.conf(mtu=9000))
    assert mtu(bridge) == 9000

    bridge.add(bridge.conf())

    assert mtus(bridge) == (9000, 9000, 9000)


def test_a_bridge_that_nobody_chose_an_mtu_for_still_follows_its_maker(bridge: Runtime):
    """The kernel's way, which a choice of ours would have ended."""
    bridge.add(bridge.conf())
    bridge.host.run("sh", "-c", "ip link add up0 mtu 1400 type veth peer name wire; ip link set up0 master cni0")

    assert mtu(bridge) == 1400


def test_many_first_attachments_at_once_agree_on_the_mtu(bridge: Runtime, namespace: Callable[[str], Namespace]):
    bridge.host.run("sh", "-c", AT_CREATION)
    sandboxes = [namespace("pod") for _ in range(8)]
    conf = bridge.conf()

    with ThreadPoolExecutor(len(sandboxes)) as threads:
        calls = [threads.submit(bridge.add, conf, netns=there.path, container_id=there.name) for there in sandboxes]
        results = [call.result() for call in calls]

    assert {interface.mtu for result in results for interface in result.interfaces} == {9000}
    for there in sandboxes:
        bridge.delete(conf, netns="", container_id=there.name)
    assert mtu(bridge) == 9000


FAILING: list[tuple[str, int, dict[str, Any]]] = [
    (AT_CREATION, 9000, {}),
    (AT_CREATION, 9000, {"mtu": 1400}),
    ("ip link add cni0 type bridge", 1500, {"mtu": 9000}),
]


@pytest.mark.parametrize(("made", "size", "keys"), FAILING)
def test_an_add_that_fails_at_any_change_leaves_the_mtu(made: str, size: int, keys: dict[str, Any], bridge: Runtime):
    failures = []
    for step in count(1):
        bridge.host.run("sh", "-c", made)
        before = bridge.state()
        conf = bridge.conf(**keys)
        try:
            with fail_at(step) as failing:
                bridge.add(conf)
        except CNIError as error:
            failures.append(error.msg)
        else:
            bridge.delete(conf)
        assert mtu(bridge) == size, f"after failing to {failing.failed}"
        assert bridge.state() == before
        if not failing.failed:
            break
        bridge.host.ip("link del cni0")

    assert sum("keep its MTU" in failure for failure in failures) == 2


def test_a_bridge_that_cannot_have_the_mtu_is_not_left_half_made(bridge: Runtime):
    """All changes of its making are undone, but for the bridge once it is whole."""
    for step in count(1):
        with fail_at(step) as failing:
            error = None
            try:
                bridge.add(bridge.conf(mtu=9000))
            except CNIError as caught:
                error = caught
        if error is None and not failing.failed:
            break
        assert not any(link["ifname"] == "cni0" and link["mtu"] != 9000 for link in bridge.host.ip_json("link"))
        bridge.delete(bridge.conf())
        bridge.host.run("sh", "-c", "ip link del cni0 2>&- || :")
    assert step > 4
