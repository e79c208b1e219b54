"""The runtime's entry: the configuration that makes plexus every pod's plugin, with the primary as its first delegate.

The primary is embedded, as it was when it was last valid: an ADD can meet neither half a file nor none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cni.meta.config import MetaConf
from cni.plugin import files
from cni.spec import document, model, netconf, versions
from cni.spec.document import Document
from cni.spec.errors import CNIError, InvalidConfiguration
from cni.spec.netconf import NetConfList

FILE = "00-plexus.conflist"
NAME = "multus-cni-network"
"""What Multus calls its network: what runtimes remember of pods stays valid when one follows the other."""
FIRST_LIST_VERSION = "0.3.1"
"""Older versions have no lists."""
GENERATED = ("type", "name", "cniVersion", "delegates", "clusterNetwork", "capabilities", "runtimeConfig", "prevResult")
"""Keys that are not for an administrator's settings, because we write them, or the runtime does."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the entry says besides the primary."""

    name: str = NAME
    bin_dir: str = ""
    kubeconfig: str = ""
    kubelet_dir: str = ""
    """The kubelet's root, where that is not the usual one."""
    extra: Document | None = None
    """The administrator's own keys for plexus."""


def parse_extra(text: bytes, what: str) -> dict[str, Any]:
    """Read an administrator's settings. Raises DecodingFailure, InvalidConfiguration."""
    extra = document.decode(text, what) if text.strip() else {}
    for key in GENERATED:
        if document.lookup(extra, key) is not None:
            raise InvalidConfiguration(f"could not use {what}", f"`{key}` is written by the node agent", id="PLX-CONF")
    return extra


def build(network: NetConfList, path: str, settings: Settings) -> bytes:
    """The entry for the primary `network`, whose file is the host's `path`. Raises InvalidConfiguration."""
    primary = document.decode(network.text, f'"{path}"')
    plugin = {
        "type": "plexus",
        "primary": path,
        "binDir": settings.bin_dir,
        "kubeconfig": settings.kubeconfig,
        "kubeletDir": settings.kubelet_dir,
        "capabilities": dict.fromkeys(sorted(network.capabilities), True),
        "delegates": [primary],
    }
    plugin = {key: value for key, value in plugin.items() if value}
    plugin = document.derive(plugin, **_without_null(settings.extra or {}))
    if document.lookup(plugin, "manifests"):
        plugin.pop("kubeconfig", None)
    _ = model.parse(MetaConf, plugin, "the settings of plexus").rules
    return _encode(
        {
            **_versions(network, primary),
            "name": settings.name,
            # A drop-in directory is the primary's, whose plugins are in it by now.
            "loadOnlyInlinedPlugins": True,
            "plugins": [plugin],
        }
    )


def find_primary(path: str) -> str:
    """The name of the primary in an entry that was written before, or "" where that cannot be told."""
    try:
        content = files.read(path)
        entry = netconf.parse_list((content or b"").decode(errors="replace"))
    except CNIError:
        return ""
    found = document.lookup(entry.plugins[0], "primary") if entry.plugins else None
    return found.rpartition("/")[2] if isinstance(found, str) else ""


def _versions(network: NetConfList, primary: Document) -> dict[str, Any]:
    """The primary's version, or versions: the runtime chooses as it would without us."""
    version = document.lookup(primary, "cniVersion") or network.cni_version
    if not versions.at_least(version, FIRST_LIST_VERSION):
        version = FIRST_LIST_VERSION
    offered = document.lookup(primary, "cniVersions")
    return {"cniVersion": version} | ({"cniVersions": offered} if offered else {})


def _without_null(extra: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in extra.items() if value is not None}


def _encode(entry: Document) -> bytes:
    return (json.dumps(entry, indent=2) + "\n").encode()
