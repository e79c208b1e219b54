"""One call of one plugin: the environment and stdin of the protocol as a value (sections 2 and 4)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cni.spec import document
from cni.spec.document import lookup
from cni.spec.errors import DecodingFailure
from cni.spec.netconf import NetConf

if TYPE_CHECKING:
    from cni.spec.result import Result


PLUGIN_TIMEOUT = 120.0
"""Seconds that an executed plugin gets, unless the node's configuration says otherwise: all that an ADD has."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a plugin is asked to do."""

    command: str
    """ADD, DEL, CHECK, GC or STATUS. From CNI_COMMAND."""

    container_id: str = ""
    """From CNI_CONTAINERID; empty for GC and STATUS."""

    netns: str = ""
    """Path of the sandbox. From CNI_NETNS; may be empty for DEL."""

    ifname: str = ""
    """The interface to make in the sandbox, for example "eth0". From CNI_IFNAME."""

    args: str = ""
    """From CNI_ARGS, for example "IgnoreUnknown=1;K8S_POD_NAME=vm"."""

    path: tuple[str, ...] = ()
    """Directories that hold plugins. From CNI_PATH."""

    conf: NetConf = field(default_factory=dict)
    """From stdin."""

    stdin: bytes = b""
    """The bytes `conf` was read from: a delegate gets exactly these."""

    environ: Mapping[str, str] = field(default_factory=dict)
    """The environment we were called with: a delegate inherits it."""

    external: frozenset[str] = frozenset()
    """Types that are built in, but that the operator wants executed."""

    plugin_timeout: float = PLUGIN_TIMEOUT
    """Seconds that a plugin gets that is executed."""

    def replace(self, **changes: Any) -> Request:
        """A copy with these fields changed."""
        return dataclasses.replace(self, **changes)

    def with_conf(self, conf: NetConf) -> Request:
        """The same request with another configuration."""
        return self.replace(conf=conf, stdin=document.encode(conf))

    @property
    def network(self) -> str:
        """The network's name."""
        return str(lookup(self.conf, "name") or "")

    @property
    def cni_version(self) -> str:
        """The version the answer must have; "" means 0.1.0."""
        return str(lookup(self.conf, "cniVersion") or "")

    @property
    def prev_result(self) -> Result | None:
        """What earlier plugins of the chain made, or (DEL, CHECK) what ADD answered. Raises DecodingFailure."""
        from cni.spec import convert  # pydantic costs 60 ms, and only some verbs of some plugins need it

        data = lookup(self.conf, "prevResult")
        return None if data is None else convert.decode_prev_result(data, self.cni_version)

    def require_prev_result(self) -> Result:
        """The prevResult that CHECK and chained plugins cannot do without. Raises DecodingFailure."""
        result = self.prev_result
        if result is None:
            raise DecodingFailure("Required prevResult missing", f'network "{self.network}", {self.command}')
        return result

    def valid_attachments(self) -> list[tuple[str, str]]:
        """GC: the (container ID, ifname) pairs that live. Raises DecodingFailure."""
        entries = lookup(self.conf, "cni.dev/valid-attachments")
        if entries is None:
            return []
        if not isinstance(entries, list):
            raise _no_attachments()
        try:
            attachments = [(lookup(entry, "containerID"), lookup(entry, "ifname")) for entry in entries]
        except (AttributeError, TypeError) as error:
            raise _no_attachments() from error
        if any(not isinstance(text, str) for attachment in attachments for text in attachment):
            raise _no_attachments()  # guessing what lives would cost the others their interfaces
        return attachments


def _no_attachments() -> DecodingFailure:
    return DecodingFailure(
        "could not read cni.dev/valid-attachments", "it must be a list of {containerID, ifname} objects"
    )
