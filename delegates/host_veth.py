"""The host's end of an attachment: how it is named, marked as ours, and found again."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Iterable, Iterator

from cni.linux import netns
from cni.linux.link import Link
from cni.linux.links import Links
from cni.linux.netns import NetnsMissing
from cni.spec.errors import InvalidConfiguration, KernelFailure
from cni.spec.request import Request

DIGITS = 8
TRIES = 4
"""Names an attachment may have; two in 4 billion share their first."""
MARK = "plexus"
NETWORK_BYTES, CONTAINER_BYTES = 80, 150
"""With the longest interface name, an alias of the 255 bytes that the kernel keeps."""


def names(request: Request) -> Iterator[str]:
    """The names that the host's end may have, in the order they are tried."""
    identity = (request.network + request.container_id + request.ifname).encode(errors="surrogateescape")
    digest = hashlib.sha512(identity).hexdigest()
    return (f"veth{digest[start : start + DIGITS]}" for start in range(0, DIGITS * TRIES, DIGITS))


def alias(request: Request) -> str:
    """The mark on the host's end that says whose it is, to us and to operators (`ip link`)."""
    return alias_of(request.network, request.container_id, request.ifname)


def alias_of(network: str, container_id: str, ifname: str) -> str:
    """The mark for an attachment."""
    return f"{prefix(network)}{_short(container_id, CONTAINER_BYTES)}:{ifname}"


def attachment_of(mark: str, container_id: str) -> tuple[str, str] | None:
    """The network, its name cut to what a mark holds, and the ifname that a mark of this container's tells."""
    whose, _, ifname = mark.rpartition(":")
    network = whose.removesuffix(f":{_short(container_id, CONTAINER_BYTES)}").removeprefix(f"{MARK}:")
    return (network, ifname) if network and mark == alias_of(network, container_id, ifname) else None


def prefix(network: str) -> str:
    """How the marks of all attachments to a network begin."""
    return f"{MARK}:{_short(network, NETWORK_BYTES)}:"


def create(request: Request, host: Links, make: Callable[[str], None]) -> str:
    """Have `make` create the pair under the first name that is free, and return that.

    Raises InvalidConfiguration when the interface's name is taken in the sandbox.
    """
    for name in names(request):
        try:
            make(name)
            return name
        except KernelFailure as error:
            if error.errno != errno.EEXIST:
                raise
            taken = host.find(name)
            if taken is None:
                raise _ifname_taken(request, "the sandbox has an interface of that name already") from error
            if taken.alias == alias(request):
                raise _ifname_taken(request, f'the container is attached already, by "{name}": DEL it first') from error
    raise KernelFailure(
        f'could not name the host side of "{request.ifname}"',
        f"all of {', '.join(names(request))} are taken by others",
        id="PLX-HOST-IFNAME",
    )


def find(request: Request, host: Links) -> Link | None:
    """The host's end, recognised by its mark."""
    for name in names(request):
        found = host.find(name)
        if found and found.alias == alias(request):
            return found
    return None


def delete_together(requests: Iterable[Request]) -> None:
    """Delete the pairs of these attachments that are marked as theirs, all of them as one. Raises KernelFailure."""
    with Links() as host:
        ours = [link for request in requests if (link := find(request, host))]
        if ours:
            host.delete_together(ours)


def delete(request: Request) -> None:
    """Delete the attachment's pair, wherever its other end has gone and whatever it is called there by now.

    Without a mark on the host's end, as when a reference plugin made it, the sandbox's interface of the requested name
    is deleted; but only a veth, and none that is marked as another attachment's: such a one took the name later.
    Raises KernelFailure, InvalidNetns.
    """
    with Links() as host:
        ours = find(request, host)
        if ours:
            host.delete(ours)
            return
        if not request.netns:
            return
        try:
            with netns.opened(request.netns) as sandbox:
                _delete_inside(request, host, sandbox)
        except NetnsMissing:
            return


def _delete_inside(request: Request, host: Links, sandbox: int) -> None:
    def find_there() -> Link | None:
        with Links() as links:
            return links.find(request.ifname)

    def delete_there(unwanted: Link) -> None:
        with Links() as links:
            links.delete(unwanted)

    found = netns.enter(sandbox, find_there)
    if found is None or found.kind != "veth" or _is_anothers(request, found, host):
        return
    netns.enter(sandbox, lambda: delete_there(found))


def _is_anothers(request: Request, inside: Link, host: Links) -> bool:
    outside = host.find_index(inside.peer) if inside.peer else None
    if outside is None or outside.peer != inside.index:
        return False
    return outside.alias.startswith(f"{MARK}:") and outside.alias != alias(request)


def _ifname_taken(request: Request, reason: str) -> InvalidConfiguration:
    return InvalidConfiguration(
        f'could not create interface "{request.ifname}" in "{request.netns}": container veth name'
        f' ("{request.ifname}") already exists',
        reason,
        id="PLX-IFNAME-TAKEN",
    )


def _short(text: str, size: int) -> str:
    return text if len(text) <= size else hashlib.sha512(text.encode()).hexdigest()[: 4 * DIGITS]
