"""Whether a device that an attachment took is still in the machine."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

from cni.plugin.ledger import Entry
from cni.spec import netconf
from cni.spec.document import lookup
from cni.spec.errors import CNIError

DEVICES = "/sys/bus/pci/devices"
KEYS = ("deviceID", "pciBusID")
ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", re.IGNORECASE)
"""Of a device on a PCI bus: device IDs of other kinds do not tell where to look."""


def any_of(entry: Entry, directory: str = DEVICES) -> bool:
    """Whether the entry names a PCI device that is not there; False where this machine shows no PCI devices at all."""
    return os.path.isdir(directory) and any(
        not os.path.lexists(os.path.join(directory, address.lower())) for address in _addresses(entry)
    )


def _addresses(entry: Entry) -> Iterator[str]:
    try:
        plugins = netconf.parse(entry.conf).plugins
    except CNIError:
        plugins = ()
    for document in (*plugins, entry.runtime_config):
        for key in KEYS:
            yield from _pci(lookup(document, key))


def _pci(value: Any) -> Iterator[str]:
    if isinstance(value, str) and ADDRESS.fullmatch(value):
        yield value
