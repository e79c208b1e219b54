"""The names the specification restricts: container IDs, network names, interface names (section 2)."""

from __future__ import annotations

import re

from cni.spec.errors import InvalidConfiguration, InvalidEnvironment, UnknownContainer

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")
IFNAME_BYTES = 15
"""The kernel's IFNAMSIZ less the final NUL."""


def validate_container_id(container_id: str) -> None:
    """Raise UnknownContainer when it is empty, InvalidEnvironment when it has other characters than a name may."""
    if not container_id:
        raise UnknownContainer("missing containerID")
    if not NAME.fullmatch(container_id):
        raise InvalidEnvironment("invalid characters in containerID", container_id)


def validate_network_name(name: str) -> None:
    """Raise InvalidConfiguration unless `name` is one."""
    if not name:
        raise InvalidConfiguration("missing network name")
    if not NAME.fullmatch(name):
        raise InvalidConfiguration("invalid characters found in network name", name)


def validate_ifname(ifname: str) -> None:
    """Raise InvalidEnvironment unless Linux takes `ifname` as the name of an interface."""
    if not ifname:
        raise InvalidEnvironment("interface name is empty")
    try:
        size = len(ifname.encode(errors="surrogateescape"))
    except UnicodeEncodeError as error:  # half of a surrogate pair, which JSON can say
        raise InvalidEnvironment("interface name is not UTF-8", ascii(ifname)) from error
    if size > IFNAME_BYTES:
        raise InvalidEnvironment("interface name is too long", "interface name should be less than 16 characters")
    if ifname in (".", ".."):
        raise InvalidEnvironment("interface name is . or ..")
    if "%" in ifname:
        raise InvalidEnvironment("interface name contains %", "the kernel would put a number in its place")
    if any(character in "/:\0" or character.isspace() for character in ifname):
        raise InvalidEnvironment("interface name contains / or : or whitespace characters")
