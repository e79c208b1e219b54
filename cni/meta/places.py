"""The few keys of the meta plugin's configuration that DEL and CHECK need: where ADD left what, and what is executed.

Each is read alone, and by hand: they must work whatever the rest of the configuration has become, and without what
reads all of it, whose import takes half of a call's time. `config.MetaConf` has the same keys, and says what they mean.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, ClassVar

from cni.spec.document import kind, lookup
from cni.spec.errors import InvalidConfiguration
from cni.spec.request import PLUGIN_TIMEOUT, Request

STATE_DIRECTORY = "/var/lib/cni/plexus"
BIN_DIRECTORY = "/opt/cni/bin"
MANIFESTS = "/etc/plexus/manifests"
SHORTEST_TIMEOUT, LONGEST_TIMEOUT = 1.0, 120.0
"""Seconds that an executed plugin may be given."""


@dataclass(frozen=True, kw_only=True)
class Places:
    """What DEL and CHECK know; a value that cannot be read is the default."""

    cni_dir: str = STATE_DIRECTORY
    bin_dir: str = BIN_DIRECTORY
    manifests: str = MANIFESTS
    external: tuple[str, ...] = ()
    parallel: bool = True
    plugin_timeout: float = PLUGIN_TIMEOUT
    has_manifests: bool = False
    """Whether the configuration names them."""

    kubeconfig: ClassVar[str] = ""
    api_timeout: ClassVar[float] = 30
    """DEL does not ask the API."""

    @property
    def ledger_directory(self) -> str:
        """Where the records are."""
        return ledger_directory(self.cni_dir)

    @property
    def status_directory(self) -> str:
        """Where the network-status of pods from manifests goes."""
        return status_directory(self.cni_dir)


def ledger_directory(cni_dir: str) -> str:
    """Where the records are."""
    return os.path.join(cni_dir, "containers")


def status_directory(cni_dir: str) -> str:
    """Where the network-status of pods from manifests goes."""
    return os.path.join(cni_dir, "network-status")


def parse(request: Request) -> Places:
    """Read what DEL needs. Raises InvalidConfiguration for a wrong `cniDir`: elsewhere it would find no record."""
    cni_dir = lookup(request.conf, "cniDir")
    if not isinstance(cni_dir, str | None):
        what = f'the configuration of network "{request.network}"'
        problem = f"cniDir: must be a string, not {kind(cni_dir)}"
        raise InvalidConfiguration(f"could not read {what}", problem, id="PLX-CONF")
    external, parallel = lookup(request.conf, "external"), lookup(request.conf, "parallel")
    manifests = _text(request, "manifests")
    return Places(
        cni_dir=cni_dir or STATE_DIRECTORY,
        bin_dir=_text(request, "binDir") or BIN_DIRECTORY,
        manifests=manifests or MANIFESTS,
        external=tuple(external) if _is_texts(external) else (),
        parallel=parallel if isinstance(parallel, bool) else True,
        plugin_timeout=_seconds(lookup(request.conf, "pluginTimeout")),
        has_manifests=bool(manifests),
    )


def _text(request: Request, key: str) -> str:
    value = lookup(request.conf, key)
    return value if isinstance(value, str) else ""


def _seconds(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and SHORTEST_TIMEOUT <= value <= LONGEST_TIMEOUT:
        return float(value)
    return PLUGIN_TIMEOUT


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
