"""MAC addresses as people write them."""

from __future__ import annotations

import re

from cni.spec.errors import InvalidConfiguration

FORMS = (
    re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}"),
    re.compile(r"[0-9a-fA-F]{2}(-[0-9a-fA-F]{2}){5}"),
    re.compile(r"[0-9a-fA-F]{4}(\.[0-9a-fA-F]{4}){2}"),
)
MULTICAST = 0x01


def parse(text: str, source: str) -> str:
    """The address as the kernel writes it. Raises InvalidConfiguration, which names the `source`."""
    if not any(form.fullmatch(text) for form in FORMS):
        raise InvalidConfiguration(
            f"address {text}: invalid MAC address", f'{source} must look like "02:00:00:00:00:01"', id="PLX-MAC"
        )
    octets = bytes.fromhex(re.sub(r"[^0-9a-fA-F]", "", text))
    if octets[0] & MULTICAST or not any(octets):
        raise InvalidConfiguration(
            f"address {text}: no interface can have this MAC address",
            f"{source} must be neither a group address nor zero",
            id="PLX-MAC",
        )
    return octets.hex(":")
