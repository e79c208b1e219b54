"""Netlink sockets: requests and what is answered to them, by the kernel and by a kernel that is played."""

import errno
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest
from machine import Namespace
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from cni.linux import netlink, netns
from cni.linux.netlink import Socket
from cni.linux.wire import Attributes

GET_LINK, NEW_LINK = 18, 16
DONE = struct.pack("=i", 0)
T = TypeVar("T")


def inside(namespace: Namespace, work: Callable[[Socket], T]) -> T:
    """Do something with a socket of a namespace."""

    def open_and_work() -> T:
        with Socket() as opened:
            return work(opened)

    return netns.run_inside(namespace.path, open_and_work)


def named(name: str) -> Any:
    return netlink.message(ifinfmsg, ("IFLA_IFNAME", name))


def test_what_exists_is_told_with_its_attributes(host: Namespace):
    (found,) = inside(host, lambda opened: opened.ask(GET_LINK, named("lo")))

    attributes = Attributes.of(found)
    assert (found["index"], attributes.get("IFLA_IFNAME"), attributes.get("IFLA_MTU")) == (1, "lo", 65536)
    assert attributes.get("IFLA_MASTER") is None
    assert attributes.within("IFLA_LINKINFO").get("IFLA_INFO_KIND", "hardware") == "hardware"


def test_a_refusal_has_the_kernels_number_and_the_next_request_is_answered(host: Namespace):
    def refused_and_answered(opened: Socket) -> int:
        with pytest.raises(OSError, match="No such device") as caught:
            opened.ask(GET_LINK, named("nope"))
        assert caught.value.errno == errno.ENODEV
        return len(opened.ask(GET_LINK, named("lo")))

    assert inside(host, refused_and_answered) == 1


def test_a_message_that_cannot_be_sent_leaves_the_socket_as_it_was(host: Namespace):
    def unsendable_and_answered(opened: Socket) -> int:
        with pytest.raises(struct.error):
            opened.ask(NEW_LINK, netlink.message(ifinfmsg, ("IFLA_MTU", -1), index=1))
        return len(opened.ask(GET_LINK, named("lo")))

    assert inside(host, unsendable_and_answered) == 1


def test_a_list_of_many_answers_is_complete(host: Namespace):
    host.run("sh", "-c", "for n in $(seq 60); do ip link add many$n type veth peer name peer$n; done")

    found = inside(host, lambda opened: opened.dump(GET_LINK, netlink.message(ifinfmsg)))

    names = [Attributes.of(message).get("IFLA_IFNAME") for message in found]
    assert sorted(names) == sorted(["lo", *(f"{end}{n}" for end in ("many", "peer") for n in range(1, 61))])


@pytest.fixture
def played() -> Iterator[tuple[Socket, socket.socket]]:
    """A netlink socket, and the other end of it, which plays the kernel."""
    ours, kernels = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with Socket() as opened, kernels:
        opened.close()
        opened._socket = ours
        yield opened, kernels


def answer(kind: int, content: bytes = b"", *, sequence: int = 1, flags: int = 0) -> bytes:
    return netlink.HEADER.pack(netlink.HEADER.size + len(content), kind, flags, sequence, 0) + content


def link(index: int) -> bytes:
    return struct.pack("=BxHiII", 0, 0, index, 0, 0)


def test_an_answer_to_an_earlier_request_is_nobodys(played: tuple[Socket, socket.socket]):
    opened, kernel = played
    kernel.send(answer(NEW_LINK, link(7), sequence=0) + answer(NEW_LINK, link(8)))
    kernel.send(answer(netlink.ERROR, DONE, sequence=0))
    kernel.send(answer(netlink.ERROR, DONE))

    assert [found["index"] for found in opened.ask(GET_LINK, named("x"))] == [8]


def test_a_list_that_changed_meanwhile_is_asked_for_again(played: tuple[Socket, socket.socket]):
    opened, kernel = played
    kernel.send(answer(NEW_LINK, link(7), flags=netlink.DUMP_INTERRUPTED))
    kernel.send(answer(netlink.DONE, DONE))
    kernel.send(answer(NEW_LINK, link(8), sequence=2) + answer(netlink.DONE, DONE, sequence=2))

    assert [found["index"] for found in opened.dump(GET_LINK, netlink.message(ifinfmsg))] == [8]


def test_a_list_that_never_stops_changing_is_given_up(played: tuple[Socket, socket.socket]):
    opened, kernel = played
    for sequence in range(1, netlink.DUMP_TRIES + 1):
        kernel.send(answer(netlink.DONE, DONE, sequence=sequence, flags=netlink.DUMP_INTERRUPTED))

    with pytest.raises(OSError, match="temporarily unavailable"):
        opened.dump(GET_LINK, netlink.message(ifinfmsg))


def test_of_a_list_only_what_is_about_something_is_looked_at(host: Namespace):
    host.ip("link add sought type veth peer name other")

    found = inside(host, lambda opened: opened.dump(GET_LINK, netlink.message(ifinfmsg), about=b"sought\0"))

    assert [Attributes.of(message).get("IFLA_IFNAME") for message in found] == ["sought"]


def test_a_list_that_ends_in_a_failure_is_none(played: tuple[Socket, socket.socket]):
    opened, kernel = played
    kernel.send(answer(NEW_LINK, link(7)) + answer(netlink.DONE, struct.pack("=i", -errno.ENOBUFS)))

    with pytest.raises(OSError, match="No buffer space") as caught:
        opened.dump(GET_LINK, netlink.message(ifinfmsg))
    assert caught.value.errno == errno.ENOBUFS


def test_an_answer_that_does_not_fit_is_a_failure(
    played: tuple[Socket, socket.socket], monkeypatch: pytest.MonkeyPatch
):
    opened, kernel = played
    monkeypatch.setattr(netlink, "LARGEST", 20)
    kernel.send(answer(NEW_LINK, link(7)))

    with pytest.raises(OSError, match="too long"):
        opened.ask(GET_LINK, named("x"))
