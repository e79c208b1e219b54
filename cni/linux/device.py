"""What results tell of a link, read without waiting for whoever changes links: these the kernel serves one by one.

For each pod that is deleted, all others wait a hundredth of a second; so does whoever asks for a whole `Link`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from dataclasses import dataclass

GET_MTU, GET_MAC, GET_INDEX = 0x8921, 0x8927, 0x8933
"""Requests of ioctl(2), from <linux/sockios.h>."""
REQUEST = struct.Struct("=16s24x")
MAC = struct.Struct("=18x6s16x")
NUMBER = struct.Struct("=16xi20x")
"""struct ifreq as it is asked with, and with either answer."""
LONGEST_NAME = 15


@dataclass(frozen=True, kw_only=True)
class Device:
    """A link's identity at the moment it was asked for; `index` is what stays the same."""

    index: int
    name: str
    mac: str
    mtu: int


def find(socket: int, name: str) -> Device | None:
    """The link of that name in a socket's namespace, or None. Raises OSError."""
    index = find_index(socket, name)
    try:
        if index:
            return Device(index=index, name=name, mac=_mac(socket, name), mtu=_number(socket, GET_MTU, name))
    except OSError as error:
        if error.errno != errno.ENODEV:  # it has gone since
            raise
    return None


def find_index(socket: int, name: str) -> int:
    """The index of the link of that name in a socket's namespace; 0 for none. Raises OSError."""
    if len(os.fsencode(name)) > LONGEST_NAME or "\0" in name:
        return 0
    try:
        return _number(socket, GET_INDEX, name)
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
        return 0


def _mac(socket: int, name: str) -> str:
    (mac,) = MAC.unpack(fcntl.ioctl(socket, GET_MAC, REQUEST.pack(os.fsencode(name))))
    return str(mac.hex(":"))


def _number(socket: int, request: int, name: str) -> int:
    (number,) = NUMBER.unpack(fcntl.ioctl(socket, request, REQUEST.pack(os.fsencode(name))))
    return int(number)
