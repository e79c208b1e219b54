"""What a runtime remembers of each ADD for CHECK, DEL and GC, in the files that libcni reads and writes."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cni.plugin import files
from cni.plugin.chain import Attachment
from cni.spec import document, names
from cni.spec.document import Document
from cni.spec.errors import CNIError, DecodingFailure
from cni.spec.netconf import NetConfList

if TYPE_CHECKING:
    from cni.spec.result import Result

DIRECTORY = "/var/lib/cni"
KIND = "cniCacheV1"


class DamagedCache(DecodingFailure):
    """An attachment was remembered, but what the file says cannot be understood."""

    def __init__(self, network: str, path: str, reason: str) -> None:
        super().__init__(
            f'failed to get network "{network}" cached result: could not read "{path}"', reason, id="PLX-CACHE-DAMAGED"
        )


@dataclass(frozen=True, kw_only=True)
class Remembered:
    """One attachment as its ADD left it."""

    network: str
    attachment: Attachment
    config: str = ""
    """The text of the network's list; "" where an older libcni did not store it."""

    path: str = ""
    result: Document = field(default_factory=dict)
    """The JSON of the result, of any version."""

    def get_result(self) -> Result:
        """The result as a value. Raises DamagedCache."""
        from cni.spec import convert

        try:
            return convert.decode(self.result, "", "the cached result")
        except CNIError as error:
            raise DamagedCache(self.network, self.path, error.reason or error.msg) from error


class Cache:
    """The attachments remembered below one directory, in `results`; the first `save` creates it."""

    def __init__(self, directory: str = DIRECTORY) -> None:
        self.directory = os.path.join(directory, "results")

    def save(self, network: NetConfList, attachment: Attachment, result: Result) -> None:
        """Remember an ADD. Raises IOFailure, and InvalidEnvironment or InvalidConfiguration for a bad name."""
        from cni.spec import convert

        path = self._path(network.name, attachment)
        record = {
            "kind": KIND,
            "containerId": attachment.container_id,
            "config": base64.b64encode(network.as_list().text.encode(errors="replace")).decode(),
            "ifName": attachment.ifname,
            "networkName": network.name,
            "netns": attachment.netns,
            "cniArgs": _pairs(attachment.args),
            "capabilityArgs": attachment.runtime_config,
            "result": convert.encode(result, network.cni_version),
        }
        files.ensure_directory(self.directory)
        kept = {key: value for key, value in record.items() if value}
        # ASCII: a path that is not UTF-8 comes back as it was
        files.replace(path, json.dumps(kept, separators=(",", ":")).encode())

    def find(self, network: str, attachment: Attachment) -> Remembered | None:
        """What was remembered of an attachment, of which only container ID and ifname count here.

        Raises DamagedCache, IOFailure, and InvalidEnvironment or InvalidConfiguration for a bad name.
        """
        path = self._path(network, attachment)
        try:
            content = files.read(path)
        except files.Unusable as error:
            raise DamagedCache(network, path, error.reason) from error
        return None if content is None else _parse(content, network, attachment, path)

    def remove(self, network: str, attachment: Attachment) -> None:
        """Forget an attachment, remembered or not. Raises IOFailure."""
        files.clear(self._path(network, attachment))

    def attachments(self, network: str = "") -> Iterator[Remembered]:
        """All that is remembered, or all of one network; files of other kinds and unreadable ones are passed over."""
        for path in self._paths():
            found = _read_current(path)
            if found is not None and network in ("", found.network):
                yield found

    def of_containers(self, container_ids: Collection[str]) -> list[Remembered]:
        """All that is remembered of some containers, what was written first at the front; unreadable files are not."""
        paths = [path for path in self._paths() if not set(container_ids).isdisjoint(os.path.basename(path).split("-"))]
        found = (_read_current(path) for path in sorted(paths, key=_written_at))
        return [known for known in found if known is not None and known.attachment.container_id in container_ids]

    def _paths(self) -> list[str]:
        try:
            return [os.path.join(self.directory, name) for name in sorted(os.listdir(self.directory))]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _path(self, network: str, attachment: Attachment) -> str:
        names.validate_network_name(network)
        names.validate_container_id(attachment.container_id)
        names.validate_ifname(attachment.ifname)
        return os.path.join(self.directory, f"{network}-{attachment.container_id}-{attachment.ifname}")


def _parse(content: bytes, network: str, attachment: Attachment, path: str) -> Remembered:
    try:
        data = document.decode(content, "it")
        if data.get("kind") == KIND:
            return _current(data, path)
    except (DecodingFailure, ValueError, TypeError, AttributeError, KeyError) as error:
        reason = error.reason if isinstance(error, DecodingFailure) else f"it has not the shape of {KIND}: {error}"
        raise DamagedCache(network, path, reason) from error
    # libcni before 0.8 stored the bare result.
    return Remembered(network=network, attachment=attachment, path=path, result=data)


def _read_current(path: str) -> Remembered | None:
    try:
        data = document.decode(files.read(path) or b"", "it")
        return _current(data, path) if data.get("kind") == KIND else None
    except (CNIError, ValueError, TypeError, AttributeError, KeyError):
        return None


def _current(data: Document, path: str) -> Remembered:
    """Read a file of today's kind. Raises ValueError, TypeError, AttributeError or KeyError where it is not."""
    result: Any = data["result"]
    attachment = Attachment(
        container_id=_text(data["containerId"]),
        ifname=_text(data["ifName"]),
        netns=_text(data.get("netns", "")),
        args=";".join(f"{_text(key)}={_text(value)}" for key, value in data.get("cniArgs") or ()),
        runtime_config=dict((data.get("capabilityArgs") or {}).items()),
    )
    return Remembered(
        network=_text(data["networkName"]),
        attachment=attachment,
        config=base64.b64decode(data.get("config") or "", validate=True).decode(),
        path=path,
        result=dict(result.items()),
    )


def _written_at(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a string is wanted, not {document.kind(value)}")
    return value


def _pairs(args: str) -> list[list[str]]:
    return [pair.split("=", 1) for pair in args.split(";") if "=" in pair]
