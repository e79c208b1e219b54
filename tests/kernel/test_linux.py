"""The door to the kernel: what each change does, and how a refusal is told."""

import errno
import ipaddress
import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from machine import Namespace

from cni.linux import addresses, kernel, netns, routes, sysctl
from cni.linux.links import Links
from cni.linux.netns import NetnsMissing
from cni.spec.errors import CNIError, KernelFailure

T = TypeVar("T")


def inside(namespace: Namespace, work: Callable[[Links], T]) -> T:
    """Do something with the links of a namespace."""

    def open_and_work() -> T:
        with Links() as links:
            return work(links)

    return netns.run_inside(namespace.path, open_and_work)


def cidr(text: str) -> Any:
    return ipaddress.ip_interface(text)


def test_work_in_a_namespace_leaves_the_callers_thread_where_it_was(host: Namespace):
    before = os.stat("/proc/thread-self/ns/net").st_ino

    found = netns.run_inside(host.path, lambda: os.stat("/proc/thread-self/ns/net").st_ino)

    assert found == os.stat(host.path).st_ino
    assert os.stat("/proc/thread-self/ns/net").st_ino == before


def test_what_the_work_in_a_namespace_raises_reaches_the_caller(host: Namespace):
    def fail() -> None:
        raise LookupError(threading.current_thread().name)

    with pytest.raises(LookupError):
        netns.run_inside(host.path, fail)


@pytest.mark.parametrize("path", ["/nonexistent", "/etc/passwd", "/etc/passwd/x", "/proc/self/ns/mnt", "/tmp", "a\0b"])
def test_a_path_without_a_namespace_is_named(path: str):
    with pytest.raises(Exception, match="failed to open netns") as caught:
        netns.open_path(path)

    assert caught.value.id == "PLX-NETNS"
    assert isinstance(caught.value, NetnsMissing) or "\0" in path


def test_links_that_do_not_exist_are_none_or_an_error(host: Namespace):
    assert inside(host, lambda links: links.find("nope")) is None
    assert inside(host, lambda links: links.find("a-name-that-is-too-long")) is None
    assert inside(host, lambda links: links.find_index(4711)) is None
    with pytest.raises(KernelFailure, match='could not find link "nope"'):
        inside(host, lambda links: links.get("nope"))


def test_deleting_a_link_twice_succeeds(host: Namespace):
    host.ip("link add br0 type bridge")
    link = inside(host, lambda links: links.get("br0"))

    inside(host, lambda links: links.delete(link))
    inside(host, lambda links: links.delete(link))

    assert host.links() == ["lo"]


def test_bridges_are_created_once_even_by_many_at_once(host: Namespace):
    failures: list[CNIError] = []

    def create() -> None:
        try:
            inside(host, lambda links: links.create_bridge("br0", alias="ours", mtu=1400))
        except CNIError as error:
            failures.append(error)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert host.link("br0")["mtu"] == 1400


def test_a_refusal_says_what_could_not_be_done_and_why(host: Namespace):
    host.ip("link add br0 type bridge")
    address = cidr("10.0.0.1/24")

    def add_twice(links: Links) -> None:
        link = links.get("br0")
        addresses.add(links, link, address)
        addresses.add(links, link, address)

    with pytest.raises(KernelFailure) as caught:
        inside(host, add_twice)

    assert caught.value.msg == 'could not add address 10.0.0.1/24 to link "br0"'
    assert caught.value.details == "File exists [PLX-KERNEL]"
    assert caught.value.errno == errno.EEXIST


def test_the_mtu_that_the_kernel_refuses_is_an_error_and_leaves_no_veth(host: Namespace, sandbox: Namespace):
    with netns.opened(sandbox.path) as descriptor, pytest.raises(KernelFailure, match='create interface "eth0"'):
        inside(host, lambda links: links.add_veth("veth0", peer="eth0", peer_netns=descriptor, mtu=70000))

    assert host.links() == sandbox.links() == ["lo"]


UNSENDABLE = [{"priority": 2**40}, {"priority": -1}, {"table": 2**40}, {"scope": 999}, {"mtu": -1}]


@pytest.mark.parametrize("values", UNSENDABLE, ids=str)
def test_a_number_that_no_message_can_hold_is_a_refusal_too(values: dict[str, int], host: Namespace):
    host.ip("link add br0 type bridge")
    route = routes.Route(dst=ipaddress.ip_network("10.9.0.0/16"), **values)

    with pytest.raises(KernelFailure, match=r"could not add route 10\.9\.0\.0/16"):
        inside(host, lambda links: routes.add(links, links.get("br0"), route))


def test_addresses_are_listed_and_deleted(host: Namespace):
    host.ip("link add br0 type bridge")
    wanted = [cidr("10.0.0.1/24"), cidr("fd00::1/64")]

    def add(links: Links) -> list[Any]:
        link = links.get("br0")
        for address in wanted:
            addresses.add(links, link, address)
        return [found.address for found in addresses.every(links, link)]

    assert inside(host, add) == wanted
    inside(host, lambda links: addresses.delete(links, links.get("br0"), wanted[0]))
    inside(host, lambda links: addresses.delete(links, links.get("br0"), wanted[0]))
    assert host.addresses("br0") == ["fd00::1/64"]


def test_routes_are_read_back_as_they_were_made(host: Namespace):
    host.run("sh", "-c", "ip link add br0 type bridge; ip link set br0 up; ip addr add 10.0.0.1/24 dev br0")
    gateway = ipaddress.ip_address("10.0.0.9")
    wanted = routes.Route(
        dst=ipaddress.ip_network("10.9.0.0/16"), gateway=gateway, priority=7, table=1000, mtu=1300, advmss=1200
    )

    inside(host, lambda links: routes.add(links, links.get("br0"), wanted))
    inside(host, lambda links: routes.add(links, links.get("br0"), wanted))

    found = inside(host, lambda links: routes.every(links, 4, links.get("br0")))
    assert [route for route in found if route.table == 1000] == [
        routes.Route(dst=wanted.dst, gateway=gateway, priority=7, table=1000, scope=0, mtu=1300, advmss=1200)
    ]


def test_default_routes_of_one_link_are_replaced(host: Namespace):
    host.run(
        "sh", "-c", "ip link add br0 type bridge; ip link set br0 up; ip link add br1 type bridge; ip link set br1 up"
    )
    for number in (0, 1):
        host.ip(f"addr add 10.0.{number}.1/24 dev br{number}")
        host.ip(f"addr add fd00:{number}::1/64 dev br{number}")
        host.ip(f"route append default via 10.0.{number}.9 dev br{number} metric {number}")
        host.ip(f"-6 route append default via fd00:{number}::9 dev br{number} metric {number + 1}")

    for family, gateway in ((4, "10.0.0.2"), (6, "fd00::2")):
        gateways = [ipaddress.ip_address(gateway)]
        netns.run_inside(
            host.path, lambda family=family, gateways=gateways: routes.set_default("br0", family, gateways)
        )

    found = {(route["gateway"], route["dev"]) for route in host.routes() if route["dst"] == "default"}
    assert found == {("10.0.0.2", "br0"), ("fd00::2", "br0"), ("10.0.1.9", "br1"), ("fd00:1::9", "br1")}


def test_sysctls_are_those_of_the_namespace(host: Namespace, sandbox: Namespace):
    key = "net/ipv4/ip_forward"

    assert netns.run_inside(host.path, lambda: sysctl.ensure(key, "1"))
    assert not netns.run_inside(host.path, lambda: sysctl.ensure(key, "1"))

    assert host.sysctl(key) == "1"
    assert sandbox.sysctl(key) == "0"


def test_a_sysctl_that_does_not_exist_is_named_or_passed_over(host: Namespace):
    with pytest.raises(KernelFailure, match="could not read the sysctl net/nope"):
        netns.run_inside(host.path, lambda: sysctl.ensure("net/nope", "1"))
    assert not netns.run_inside(host.path, lambda: sysctl.ensure_quietly("net/nope", "1"))


def test_what_results_tell_of_a_link_is_what_the_kernel_says(host: Namespace):
    host.ip("link add some0 mtu 1400 type veth peer name other0")

    found = inside(host, lambda links: links.get_device("some0"))

    shown = host.link("some0")
    assert (found.index, found.mac, found.mtu) == (shown["ifindex"], shown["address"], 1400)


@pytest.mark.parametrize("name", ["nope", "a-name-that-is-too-long", "lo\0x"])
def test_there_is_no_device_of_a_name_that_no_link_has(name: str, host: Namespace):
    assert inside(host, lambda links: links.find_device(name)) is None
    with pytest.raises(KernelFailure, match="could not find link"):
        inside(host, lambda links: links.get_device(name))


@pytest.mark.parametrize("number", sorted(kernel.GONE))
def test_what_is_gone_already_is_known_by_its_number(number: int):
    assert kernel.already_gone(KernelFailure("could not", errno=number))
    assert not kernel.already_gone(KernelFailure("could not", errno=errno.EPERM))
