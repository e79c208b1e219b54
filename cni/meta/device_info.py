"""Device-information files: what a device plugin tells CNI plugins, and these tell the pod (NPWG device-info 1.1.0)."""

from __future__ import annotations

import logging
import os
from typing import Any

from cni.plugin import files
from cni.plugin.ledger import Entry
from cni.spec import document
from cni.spec.errors import CNIError, DecodingFailure, TryAgainLater

CAPABILITY = "CNIDeviceInfoFile"
LARGEST = 16 * 1024
"""Bytes: a few hundred are usual, and all of it goes into an annotation."""
LONGEST_NAME = 255
log = logging.getLogger(__name__)


def written_by_plugin(directory: str, resource: str, device: str) -> str:
    """Where the resource's device plugin describes the device, if it does."""
    return os.path.join(directory, "dp", f"{_flat(resource)}-{_flat(device)}-device.json")


def path(directory: str, network: str, container_id: str, ifname: str) -> str:
    """The attachment's own file."""
    return os.path.join(directory, "cni", _name(network, container_id, ifname))


def place(entry: Entry, container_id: str, described: str) -> None:
    """Copy the file `described`, if there is one, to where the attachment's plugins look for it.

    Raises TryAgainLater when it is not, or not yet, what it should be, IOFailure.
    """
    own = _own(entry, container_id)
    if not own:
        return
    files.clear(own)  # of an attachment whose DEL never came
    try:
        info = _read(described) if described else None
    except DecodingFailure as error:
        raise TryAgainLater(
            f'could not read what the device plugin wrote to "{described}"', error.reason, id="PLX-DEVICE-INFO"
        ) from error
    if info is not None:
        files.ensure_directory(os.path.dirname(own), 0o755)
        files.replace(own, document.encode(info), 0o444, durable=False)


def find(entry: Entry, container_id: str) -> dict[str, Any] | None:
    """What the attachment's file says after its ADD; None when there is none, or it cannot be read, which is logged."""
    own = _own(entry, container_id)
    try:
        return _read(own) if own else None
    except CNIError as error:
        log.warning("network-status of %s goes without device-info: %s", entry.network, error)
        return None


def remove(entry: Entry, container_id: str) -> None:
    """Remove the attachment's file. Raises IOFailure."""
    own = _own(entry, container_id)
    if own:
        files.clear(own)


def _own(entry: Entry, container_id: str) -> str:
    """The file that `path` gave the attachment; "" where it has none, or another's, which its runtime passed."""
    recorded = entry.runtime_config.get(CAPABILITY)
    own = _name(entry.network, container_id, entry.ifname)
    return recorded if isinstance(recorded, str) and os.path.basename(recorded) == own else ""


def _read(path: str) -> dict[str, Any] | None:
    try:
        content = files.read(path, largest=LARGEST)
    except files.Unusable as error:
        raise DecodingFailure(f'could not decode "{path}"', error.reason) from error
    return None if content is None else document.decode(content, f'"{path}"')


def _name(network: str, container_id: str, ifname: str) -> str:
    attachment = f"-{container_id}_{ifname}"
    return _flat(network)[: LONGEST_NAME - len(attachment)] + attachment


def _flat(name: str) -> str:
    return name.replace("/", "-")
