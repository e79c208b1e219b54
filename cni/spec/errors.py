"""The error object of the CNI specification (section 5, "Error"), one class per code."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self


class CNIError(Exception):
    """What a plugin answers when it fails; anything that is not of this family is a defect of ours.

    `msg` says what could not be done, with names quoted; `details` says why and what to do next; `id` is the stable
    short name under which docs/errors.md explains it, and ends the details.
    """

    code = 999

    def __init__(self, msg: str, details: str = "", *, id: str = "", code: int | None = None) -> None:
        self.msg = msg
        self.reason = details
        self.id = id
        if code is not None:
            self.code = code
        super().__init__(msg, details)

    @property
    def details(self) -> str:
        """The reason, then the id in brackets."""
        return f"{self.reason} [{self.id}]".strip() if self.id else self.reason

    def within(self, context: str) -> Self:
        """The same error, told as having happened in `context`."""
        told = type(self).__new__(type(self))
        told.__dict__.update(self.__dict__, msg=f"{context}: {self.msg}")
        told.args = (told.msg, self.reason)
        told.__cause__ = self
        return told

    def __str__(self) -> str:
        return f"{self.msg}; {self.details}" if self.details else self.msg


class IncompatibleVersion(CNIError):
    """The configuration asks for a version of the specification, or an operation in it, that we do not speak."""

    code = 1


class UnsupportedField(CNIError):
    """The configuration is valid, but asks for something that cannot be had; names the key and its value."""

    code = 2


class UnknownContainer(CNIError):
    """The container does not exist: the runtime need not clean up after it."""

    code = 3


class InvalidEnvironment(CNIError):
    """A CNI_* variable is missing or malformed; names the variables."""

    code = 4


class IOFailure(CNIError):
    """Something could not be read or written."""

    code = 5


class DecodingFailure(CNIError):
    """Something that had to be JSON (or a version, or a result) is not."""

    code = 6


class InvalidConfiguration(CNIError):
    """The network configuration is well-formed but wrong; names the JSON path."""

    code = 7


class InvalidNetns(CNIError):
    """CNI_NETNS is the plugin's own namespace, or not a network namespace (the reference plugins' code)."""

    code = 8


class TryAgainLater(CNIError):
    """A passing condition: the runtime should try again."""

    code = 11


class Exhausted(TryAgainLater):
    """Memory, descriptors, threads or processes have run out: of the caller, of its cgroup, or of the machine."""

    def __init__(self, msg: str, reason: str) -> None:
        super().__init__(msg, f"{reason}; {self.remedy}", id="PLX-EXHAUSTED")

    remedy = "raise the limit of whoever calls (ulimit, its cgroup), or give the machine more"


class PluginUnavailable(CNIError):
    """STATUS: an ADD would fail."""

    code = 50


class LimitedConnectivity(CNIError):
    """STATUS: an ADD would fail, and existing containers may have limited connectivity."""

    code = 51


class KernelFailure(CNIError):
    """The kernel refused a change; `errno` is its reason, or 0 where it gave none."""

    code = 101

    def __init__(self, msg: str, details: str = "", *, errno: int = 0, id: str = "PLX-KERNEL") -> None:
        super().__init__(msg, details, id=id)
        self.errno = errno


class CheckFailed(CNIError):
    """CHECK: the machine is not as ADD left it; `details` lists each difference."""

    code = 102


class DeleteIncomplete(CNIError):
    """DEL or GC tried everything and could not undo all of it; `details` lists what is left."""

    code = 103

    def __init__(self, msg: str, details: str = "", *, id: str = "", failures: Iterable[CNIError] = ()) -> None:
        super().__init__(msg, details, id=id)
        self.failures = tuple(failures)


class PluginFailed(CNIError):
    """An executed plugin failed, or answered something that is not CNI; carries the plugin's own code."""

    code = 104


class NotExecuted(PluginFailed):
    """A plugin is not there, or could not be started: it has done nothing. `plugin` is its type."""

    def __init__(self, plugin: str, msg: str, details: str = "", *, id: str = "") -> None:
        super().__init__(msg, details, id=id)
        self.plugin = plugin
