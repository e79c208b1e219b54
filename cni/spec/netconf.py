"""Network configurations: one plugin's (NetConf) and a chain of them (NetConfList), as libcni reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cni.spec import document, versions
from cni.spec.document import Document, kind, lookup
from cni.spec.errors import DecodingFailure, InvalidConfiguration

NetConf = Document
"""One plugin's configuration: what it reads from stdin."""

BOOLEAN = {"true": True, "false": False}
LIST = "error parsing configuration list"
SINGLE = "error parsing configuration"


@dataclass(frozen=True, kw_only=True)
class NetConfList:
    """A chain of plugins for one network. `text` is the document as it was written."""

    name: str
    cni_version: str
    plugins: tuple[NetConf, ...]
    text: str
    disable_check: bool = False
    disable_gc: bool = False
    load_only_inlined_plugins: bool = False

    def with_plugins(self, more: tuple[NetConf, ...]) -> NetConfList:
        """The same list with plugins appended, and a `text` that holds them too."""
        plugins = self.plugins + more
        derived = document.derive(document.decode(self.text, "the list"), plugins=list(plugins))
        return replace(self, plugins=plugins, text=document.encode(derived).decode())

    def conf_for(
        self, plugin: NetConf, *, prev_result: Document | None = None, runtime_config: Document | None = None
    ) -> dict[str, Any]:
        """What `plugin` reads from stdin: its own object and what the runtime adds (section 3).

        Of `runtime_config` it gets what its `capabilities` claim.
        """
        claimed = lookup(plugin, "capabilities")
        claims = claimed if isinstance(claimed, Mapping) else {}
        granted = {key: value for key, value in (runtime_config or {}).items() if claims.get(key) is True}
        return document.derive(
            plugin,
            name=self.name,
            cniVersion=self.cni_version,
            capabilities=None,
            prevResult=prev_result,
            runtimeConfig=granted or lookup(plugin, "runtimeConfig"),
        )

    @property
    def capabilities(self) -> set[str]:
        """What at least one plugin claims."""
        found = (lookup(plugin, "capabilities") for plugin in self.plugins)
        return {key for claims in found if isinstance(claims, Mapping) for key, on in claims.items() if on is True}


def plugin_type(plugin: NetConf) -> str:
    """The plugin's `type`. Raises InvalidConfiguration."""
    value = lookup(plugin, "type")
    if not isinstance(value, str) or not value:
        raise InvalidConfiguration(f"{SINGLE}: missing 'type'", 'every plugin needs one, for example "bridge"')
    return value


def parse(text: str, what: str = "the network configuration") -> NetConfList:
    """Read a list, or a single plugin's configuration as a list of one.

    Raises DecodingFailure or InvalidConfiguration.
    """
    data = document.decode(text, what)
    if lookup(data, "type") is None and lookup(data, "plugins") is not None:
        return parse_list(text, what)
    return parse_single(text, what)


def parse_single(text: str, what: str = "the network configuration") -> NetConfList:
    """Read one plugin's configuration as a list of one. Raises DecodingFailure or InvalidConfiguration."""
    data = _decode(text, SINGLE, what)
    plugin_type(data)
    return NetConfList(name=_name(data, SINGLE), cni_version=_version(data, SINGLE), plugins=(data,), text=text)


def parse_list(text: str, what: str = "the network configuration list") -> NetConfList:
    """Read a list; one without `plugins` is left empty, for a drop-in directory to fill.

    Raises DecodingFailure or InvalidConfiguration.
    """
    data = _decode(text, LIST, what)
    name = _name(data, LIST)
    if not name:
        raise InvalidConfiguration(f"{LIST}: no name", f"{what} needs a `name`")
    only_inlined = _boolean(data, "loadOnlyInlinedPlugins")
    return NetConfList(
        name=name,
        cni_version=_chosen_version(data),
        plugins=_plugins(data, only_inlined),
        text=text,
        disable_check=_boolean(data, "disableCheck"),
        disable_gc=_boolean(data, "disableGC"),
        load_only_inlined_plugins=only_inlined,
    )


def _decode(text: str, prefix: str, what: str) -> dict[str, Any]:
    try:
        return document.decode(text, what)
    except DecodingFailure as error:
        raise DecodingFailure(f"{prefix}: {error.reason}", f"in {what}", id="PLX-JSON") from error


def _name(data: Document, prefix: str) -> str:
    name = lookup(data, "name")
    if name is not None and not isinstance(name, str):
        raise InvalidConfiguration(f"{prefix}: invalid name type", f"`name` must be a string, not {kind(name)}")
    return name or ""


def _version(data: Document, prefix: str) -> str:
    version = lookup(data, "cniVersion")
    if version is not None and not isinstance(version, str):
        raise InvalidConfiguration(
            f"{prefix}: invalid cniVersion type", f"`cniVersion` must be a string, not {kind(version)}"
        )
    return version or ""


def _chosen_version(data: Document) -> str:
    """The highest version of `cniVersions` and `cniVersion` that we speak; `cniVersion` as it is without the former."""
    version = _version(data, LIST)
    offered = lookup(data, "cniVersions")
    if offered is None:
        return version
    if not isinstance(offered, list):
        raise InvalidConfiguration(f"{LIST}: invalid type for cniVersions", f"it must be a list, not {kind(offered)}")
    for index, entry in enumerate(offered):
        _check_version_entry(entry, index)
    candidates = [*offered, version] if version else offered
    spoken = [entry for entry in candidates if versions.at_least(versions.CURRENT, entry)]
    return max(spoken, key=versions.parse, default=version)


def _check_version_entry(entry: Any, index: int) -> None:
    if not isinstance(entry, str):
        raise InvalidConfiguration(f"{LIST}: invalid type for cniVersions index {index}", f"not {kind(entry)}")
    try:
        versions.parse(entry)
    except DecodingFailure as error:
        raise InvalidConfiguration(
            f"{LIST}: invalid cniVersions entry {entry} at index {index}: {error.msg}"
        ) from error


def _boolean(data: Document, key: str) -> bool:
    value = lookup(data, key)
    if isinstance(value, str):
        if value.lower() not in BOOLEAN:
            raise InvalidConfiguration(f'{LIST}: invalid value "{value}" for {key}', "use true or false")
        return BOOLEAN[value.lower()]
    if value is not None and not isinstance(value, bool):
        raise InvalidConfiguration(f"{LIST}: invalid type for {key}", f"it must be true or false, not {kind(value)}")
    return bool(value)


def _plugins(data: Document, only_inlined: bool) -> tuple[NetConf, ...]:
    plugins = lookup(data, "plugins")
    if plugins is None:
        if only_inlined:
            raise InvalidConfiguration(f"{LIST}: `loadOnlyInlinedPlugins` is true, and no 'plugins' key")
        return ()
    if not isinstance(plugins, list):
        raise InvalidConfiguration(f"{LIST}: invalid 'plugins' type", f"it must be a list, not {kind(plugins)}")
    if not plugins:
        raise InvalidConfiguration(f"{LIST}: no plugins in list")
    return tuple(_plugin(entry, index) for index, entry in enumerate(plugins))


def _plugin(entry: Any, index: int) -> NetConf:
    where = f"failed to parse plugin config {index}"
    if not isinstance(entry, Mapping):
        raise InvalidConfiguration(f"{where}: it must be an object, not {kind(entry)}")
    try:
        plugin_type(entry)
    except InvalidConfiguration as error:
        raise InvalidConfiguration(f"{where}: {error.msg}", error.reason) from error
    return entry
