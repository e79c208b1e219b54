"""Versions of the CNI specification: which we speak, and how two of them compare."""

from __future__ import annotations

from cni.spec.errors import DecodingFailure

SUPPORTED = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
CURRENT = SUPPORTED[-1]
UNSTATED = "0.1.0"
"""What a configuration without `cniVersion` means."""

PARTS = ("major", "minor", "micro")


def parse(version: str) -> tuple[int, int, int]:
    """Return (major, minor, micro); missing parts are 0, and "" is 0.1.0.

    Raises DecodingFailure.
    """
    parts = (version or UNSTATED).split(".")
    if len(parts) > len(PARTS):
        raise DecodingFailure(f'invalid version "{version}": too many parts')
    numbers = [_number(part, name, version) for part, name in zip(parts, PARTS, strict=False)]
    major, minor, micro = [*numbers, 0, 0][:3]
    return major, minor, micro


def at_least(version: str, other: str) -> bool:
    """Whether `version` is `other` or newer. Raises DecodingFailure."""
    return parse(version) >= parse(other)


def _number(part: str, name: str, version: str) -> int:
    if not (part.isascii() and part.isdigit()):
        raise DecodingFailure(f'failed to convert {name} version part "{part}"', f'in version "{version}"')
    return int(part)
