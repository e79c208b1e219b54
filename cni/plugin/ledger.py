"""What was attached to each container: one record, written before the first delegate runs.

It is written again around each delegate that is executed, and at the end.

DEL, CHECK and GC replay the record; they need neither the API, nor the pod, nor its networks' definitions to exist
still. A record belongs to one call of the runtime, (container ID, CNI_IFNAME), as everything in CNI does; it is the
JSON file `<directory>/<container ID>@<CNI_IFNAME>.json`, readable by root only.

Other versions of plexus read it too. What one of them does not know it keeps; where it must know, `format` is another
number, and it leaves the record to who does (docs/adr/0023-records-of-other-versions.md).
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

from cni.plugin import files, hold
from cni.spec import document, versions
from cni.spec.errors import CNIError, DecodingFailure, IOFailure

if TYPE_CHECKING:
    from cni.spec.result import Result

FORMAT = 1
SUFFIX = ".json"
LONGEST_NAME = 255
"""Bytes that the name of a file can have."""
SINCE_FORMAT_1 = ("pid_namespace", "failure")
"""Keys that the first builds that wrote this format refused: they are left out where they say nothing."""
SHOWN = 500
"""Characters that are kept of why something could not be undone."""


P = TypeVar("P", bound="Part")


class DamagedRecord(DecodingFailure):
    """A record exists but cannot be read; `path` is where it was."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f'could not read the record "{path}"', reason, id="PLX-LEDGER-DAMAGED")
        self.path = path


class NewerRecord(DecodingFailure):
    """A record is of a format that only newer versions know; nothing is wrong with it."""

    def __init__(self, path: str, number: int) -> None:
        reason = (
            f"a newer version of plexus wrote it, in format {number}, and this one knows {FORMAT}: install that one"
        )
        super().__init__(f'could not read the record "{path}"', reason, id="PLX-LEDGER-NEWER")
        self.path = path


@dataclass(frozen=True, kw_only=True)
class Part:
    """Something that a record is made of."""

    unknown: dict[str, Any] = field(default_factory=dict)
    """What another version has written here besides; it is written again as it is."""


@dataclass(frozen=True, kw_only=True)
class Failure(Part):
    """What an attachment could not be undone for."""

    reason: str
    """What was said the last time."""

    since: int
    """When it was for the first time, in seconds since 1970."""

    tries: int
    """How often it was tried."""


@dataclass(frozen=True, kw_only=True)
class Entry(Part):
    """One attachment, exactly as its delegates were called."""

    network: str
    """What the pod calls the network, for example "default/multus-br", or the configuration's name."""

    conf: str
    """The text of the network configuration or list."""

    ifname: str
    args: str = ""
    """CNI_ARGS."""

    runtime_config: dict[str, Any] = field(default_factory=dict)
    default: bool = False
    """Whether this is the cluster network, whose result is the runtime's."""

    result: dict[str, Any] | None = None
    """The result of ADD in the newest version's JSON; None until it succeeded."""

    device_info: dict[str, Any] | None = None
    """What is known of its device (NPWG device information), if it has one."""

    failure: Failure | None = None
    """Why it is still here after a DEL, if there was one."""

    def failed(self, reason: str, now: float) -> Entry:
        """The same entry after a DEL that could not undo it; a clock that was set back begins anew."""
        before = self.failure or Failure(reason="", since=int(now), tries=0)
        since = min(before.since, int(now))
        return replace(self, failure=replace(before, reason=reason[:SHOWN], since=since, tries=before.tries + 1))

    def attached(self, result: Result, device_info: dict[str, Any] | None = None) -> Entry:
        """The same entry after its ADD."""
        from cni.spec import convert

        return replace(self, result=convert.encode(result, versions.CURRENT), device_info=device_info)

    def get_result(self) -> Result | None:
        """The result of ADD as a value, or None when it did not get that far."""
        from cni.spec import convert

        return None if self.result is None else convert.decode(self.result, versions.CURRENT, "a recorded result")


@dataclass(frozen=True, kw_only=True)
class Record(Part):
    """All attachments that one ADD of the runtime made in a container, in their order."""

    container_id: str
    ifname: str
    """The interface the runtime asked for, for example "eth0"."""

    netns: str
    pod_namespace: str = ""
    pod_name: str = ""
    pod_uid: str = ""
    boot_id: str = ""
    """The boot that the container lived in: /proc/sys/kernel/random/boot_id."""

    netns_inode: int = 0
    """Identity of the sandbox's namespace while it lives; 0 when it could not be told."""

    netns_cookie: int = 0
    """The same for ever, where the kernel tells it: an inode is given to the next namespace when this one is gone."""

    pid_namespace: int = 0
    """From which PID namespace it was attached; 0 for the machine's own. From another, not all processes are seen."""

    path: tuple[str, ...] = ()
    """Where plugins were found."""

    entries: tuple[Entry, ...] = ()

    @property
    def pod(self) -> str:
        """Its namespace and name joined by a slash, or "" for a container that is no pod's."""
        return f"{self.pod_namespace}/{self.pod_name}" if self.pod_name else ""

    def with_entry(self, index: int, entry: Entry) -> Record:
        """The same record with one entry replaced."""
        return replace(self, entries=(*self.entries[:index], entry, *self.entries[index + 1 :]))

    def with_entries(self, entries: tuple[Entry, ...]) -> Record:
        """The same record with other entries."""
        return replace(self, entries=entries)


class Ledger:
    """The records below one directory, which is created by the first write."""

    def __init__(self, directory: str) -> None:
        self.directory = directory

    @property
    def unfinished(self) -> Ledger:
        """The records of what DEL left behind, beside these."""
        return Ledger(os.path.join(os.path.dirname(self.directory), "unfinished"))

    def make(self) -> None:
        """Create the directory, where it is missing. Raises IOFailure."""
        files.ensure_directory(self.directory)

    def write(self, record: Record, *, first: bool = True) -> None:
        """Make `record` the container's; what is there after a power failure is it, or what was there before.

        After the `first`, which must not be lost, no time is spent on the directory. Raises IOFailure.
        """
        if first:
            self.make()
        # ASCII: a path that is not UTF-8 comes back as it was
        content = json.dumps({"format": FORMAT} | _encoded(record)).encode()
        files.replace(self._path(record.container_id, record.ifname), content, lasting=first)

    def find(self, container_id: str, ifname: str) -> Record | None:
        """The record of one ADD, if there is one. Raises DamagedRecord, NewerRecord, IOFailure."""
        return self._read(self._path(container_id, ifname))

    def can_have(self, container_id: str, ifname: str) -> bool:
        """Whether a file can have the name of that ADD's record."""
        return len(os.fsencode(_name(container_id, ifname))) <= LONGEST_NAME

    def has(self, container_id: str, ifname: str) -> bool:
        """Whether there is a record of one ADD, readable or not."""
        return os.path.lexists(self._path(container_id, ifname))

    def _read(self, path: str) -> Record | None:
        try:
            content = files.read_own(path)
        except files.Unusable as error:
            raise DamagedRecord(path, error.reason) from error
        record = None if content is None else _parse(content, path)
        if record is not None and self._path(record.container_id, record.ifname) != path:
            raise DamagedRecord(path, f'it is that of container "{record.container_id}", interface "{record.ifname}"')
        return record

    def remove(self, container_id: str, ifname: str) -> None:
        """Forget one ADD. Raises IOFailure."""
        files.remove(self._path(container_id, ifname))

    def held(self, container_id: str, ifname: str, *, despite_others: bool = False) -> AbstractContextManager[None]:
        """Be the only one at work on the container, here and among the unfinished, as `hold.held` has it."""
        return hold.held(os.path.dirname(self.directory), _name(container_id, ifname), despite_others=despite_others)

    def claimed(self, container_id: str, ifname: str) -> AbstractContextManager[bool]:
        """The same without waiting: whether nobody else is at work on it."""
        return hold.claimed(os.path.dirname(self.directory), _name(container_id, ifname))

    def set_aside(self, container_id: str, ifname: str) -> str:
        """Rename a damaged record, so that it is not read again; return its new path. Raises IOFailure."""
        return files.set_aside(self._path(container_id, ifname))

    def leave(self, container_id: str, ifname: str) -> str:
        """Have a record that cannot be read here among the unfinished, as it is; return its new path.

        Raises IOFailure.
        """
        path = self._path(container_id, ifname)
        unfinished = self.unfinished.directory
        if self.unfinished.has(container_id, ifname):
            return self.set_aside(container_id, ifname)
        files.ensure_directory(unfinished)
        left = os.path.join(unfinished, os.path.basename(path))
        files.change(f'move the record "{path}"', os.rename, path, left)
        return left

    def records(self) -> Iterator[Record]:
        """All records that can be read."""
        for path in self._paths():
            try:
                record = self._read(path)
            except CNIError:
                continue
            if record is not None:
                yield record

    def damaged(self) -> list[str]:
        """The paths of records that cannot be read, and of those that were set aside."""
        aside = [os.path.join(self.directory, name) for name in self._names() if name.endswith(files.DAMAGED)]
        return sorted([*aside, *(path for path, error in self._unreadable() if not isinstance(error, NewerRecord))])

    def newer(self) -> list[str]:
        """The paths of records that only a newer version can read."""
        return [path for path, error in self._unreadable() if isinstance(error, NewerRecord)]

    def is_newer(self, container_id: str, ifname: str) -> bool:
        """Whether the record of one ADD is one of those."""
        try:
            self.find(container_id, ifname)
        except CNIError as error:
            return isinstance(error, NewerRecord)
        return False

    def _unreadable(self) -> Iterator[tuple[str, CNIError]]:
        for path in self._paths():
            try:
                self._read(path)
            except CNIError as error:
                yield path, error

    def _names(self) -> list[str]:
        try:
            return sorted(files.change(f'list "{self.directory}"', os.listdir, self.directory))
        except IOFailure as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return []
            raise

    def _paths(self) -> list[str]:
        names = self._names()
        return [os.path.join(self.directory, name) for name in names if name.endswith(SUFFIX) and name[0] != "."]

    def _path(self, container_id: str, ifname: str) -> str:
        return os.path.join(self.directory, _name(container_id, ifname))


def _name(container_id: str, ifname: str) -> str:
    return f"{container_id}@{ifname}{SUFFIX}"


def boot_id() -> str:
    """The running boot's identity."""
    content = files.read("/proc/sys/kernel/random/boot_id")
    return content.decode().strip() if content else ""


def _encoded(part: Part) -> dict[str, Any]:
    known = {name: _json(value) for name, value in vars(part).items() if value or name not in SINCE_FORMAT_1}
    known.pop("unknown", None)
    return part.unknown | known


def _json(value: Any) -> Any:
    if isinstance(value, Part):
        return _encoded(value)
    return [_json(item) for item in value] if isinstance(value, tuple) else value


def _parse(content: bytes, path: str) -> Record:
    try:
        data = document.decode(content, "the record")
        _check_format(data.pop("format", None), path)
        data |= {"path": _items(data.get("path", [])), "entries": tuple(map(_entry, _items(data["entries"])))}
        return _part(Record, data)
    except (DamagedRecord, NewerRecord):
        raise
    except CNIError as error:
        raise DamagedRecord(path, error.reason) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise DamagedRecord(path, f"it has not the shape of a record: {error}") from error


def _check_format(number: Any, path: str) -> None:
    if type(number) is int and number > FORMAT:
        raise NewerRecord(path, number)
    if type(number) is not int or number != FORMAT:
        raise DamagedRecord(path, f"its format is not {FORMAT}")


def _entry(data: dict[str, Any]) -> Entry:
    failure = data.get("failure")
    return _part(Entry, data | {"failure": None if failure is None else _part(Failure, failure)})


def _part(kind: type[P], data: dict[str, Any]) -> P:
    """The part that these keys make; what is none of its fields is unknown. Raises TypeError, AttributeError."""
    names = kind.__dataclass_fields__.keys() - {"unknown"}
    unknown = {key: value for key, value in data.items() if key not in names}
    part = kind(unknown=unknown, **{key: value for key, value in data.items() if key in names})
    _check_types(part)
    return part


def _items(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise TypeError(f"a list is wanted, not {document.kind(value)}")
    return tuple(value)


def _check_types(value: Part) -> None:
    """Raise TypeError for a field that is not what its annotation says."""
    kind: Any = type(value)
    for name, hint in _hints(kind).items():
        if not _is(getattr(value, name), hint):
            raise TypeError(f"`{name}` must not be {document.kind(getattr(value, name))}")


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    """The types of a part's fields: telling them takes longer than to read a record."""
    return get_type_hints(kind)


def _is(value: Any, hint: Any) -> bool:
    if isinstance(hint, UnionType):
        return any(_is(value, member) for member in get_args(hint))
    if get_origin(hint) is tuple:
        return all(_is(item, get_args(hint)[0]) for item in value)
    return isinstance(value, get_origin(hint) or hint)
