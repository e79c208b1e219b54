"""Kernel parameters under /proc/sys; those of net/ belong to the namespace of the calling thread."""

from __future__ import annotations

from cni.linux import kernel
from cni.spec.errors import KernelFailure

ROOT = "/proc/sys/"


def read(key: str) -> str:
    """The value of a key written with slashes, for example "net/ipv4/ip_forward". Raises KernelFailure."""
    return kernel.ask(f"read the sysctl {key}", _read, key)


def ensure(key: str, value: str) -> bool:
    """Set the value unless it is that already; whether it was changed. Raises KernelFailure."""
    if read(key) == value:
        return False
    kernel.change(f"set the sysctl {key} to {value}", _write, key, value)
    return True


def ensure_quietly(key: str, value: str) -> bool:
    """Set the value where that is possible; a kernel without IPv6, say, lacks the key."""
    try:
        return ensure(key, value)
    except KernelFailure:
        return False


def _read(key: str) -> str:
    with open(ROOT + key, encoding="ascii") as file:
        return file.read().strip()


def _write(key: str, value: str) -> None:
    with open(ROOT + key, "w", encoding="ascii") as file:
        file.write(value)
