"""Network configurations: one plugin's (NetConf) and a chain of them (NetConfList), as libcni reads them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
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
RESERVED = "cni.dev/"
"""Keys of this prefix are the runtime's; what a configuration says there is not passed on."""


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
        data = document.decode(self.text, "the list")
        if lookup(data, "type"):  # a single plugin's configuration becomes a list
            data = {"cniVersion": self.cni_version, "name": self.name}
        return replace(self, plugins=plugins, text=document.dump(document.derive(data, plugins=list(plugins))))

    def with_each_plugin(self, change: Callable[[NetConf], NetConf]) -> NetConfList:
        """The same network, the configuration of each of its plugins changed."""
        data = document.decode(self.text, "the list")
        if lookup(data, "type"):
            return parse(document.dump(change(data)))
        return parse(document.dump(document.derive(data, plugins=[change(plugin) for plugin in self.plugins])))

    def as_list(self) -> NetConfList:
        """The same network, its `text` a list even where a single plugin's configuration was written."""
        return self.with_plugins(()) if lookup(document.decode(self.text, "the list"), "type") else self

    def conf_for(
        self, plugin: NetConf, *, prev_result: Document | None = None, runtime_config: Document | None = None
    ) -> dict[str, Any]:
        """What `plugin` reads from stdin: its own object and what the runtime adds (section 3).

        Of `runtime_config` it gets what its `capabilities` claim.
        """
        granted = {key: value for key, value in (runtime_config or {}).items() if key in capabilities(plugin)}
        conf = document.derive(
            plugin,
            name=self.name,
            cniVersion=self.cni_version,
            capabilities=None,
            prevResult=prev_result,
            runtimeConfig=granted or lookup(plugin, "runtimeConfig"),
        )
        return {key: value for key, value in conf.items() if not key.casefold().startswith(RESERVED)}

    @property
    def capabilities(self) -> set[str]:
        """What at least one plugin claims."""
        return {name for plugin in self.plugins for name in capabilities(plugin)}


def plugin_type(plugin: NetConf) -> str:
    """The plugin's `type`. Raises InvalidConfiguration."""
    value = lookup(plugin, "type")
    if not value:
        raise InvalidConfiguration(f"{SINGLE}: missing 'type'", 'every plugin needs one, for example "bridge"')
    if not isinstance(value, str):
        raise InvalidConfiguration(f"{SINGLE}: invalid 'type'", f"it must be a string, not {kind(value)}")
    return value


def ipam_type(plugin: NetConf) -> str:
    """The type of the IPAM plugin that the plugin delegates to, or "". Raises InvalidConfiguration."""
    ipam = lookup(plugin, "ipam")
    if ipam is None:
        return ""
    if not isinstance(ipam, dict):
        raise InvalidConfiguration("could not read the configuration", "`ipam` must be an object", id="PLX-CONF")
    return str(lookup(ipam, "type") or "")


def capabilities(plugin: NetConf) -> set[str]:
    """The capabilities that the plugin claims. Raises InvalidConfiguration."""
    claims = lookup(plugin, "capabilities")
    if claims is None:
        return set()
    if not isinstance(claims, Mapping):
        raise InvalidConfiguration(f"{SINGLE}: invalid 'capabilities'", f"it must be an object, not {kind(claims)}")
    for name, claimed in claims.items():
        if claimed is not None and not isinstance(claimed, bool):
            reason = f"`capabilities.{name}` must be true or false, not {kind(claimed)}"
            raise InvalidConfiguration(f"{SINGLE}: invalid 'capabilities'", reason)
    return {name for name, claimed in claims.items() if claimed}


def parse(text: str, what: str = "the network configuration") -> NetConfList:
    """Read a list, or a single plugin's configuration as a list of one; what has a `type` is the latter.

    The name may be missing: a NetworkAttachmentDefinition lends its own. Raises DecodingFailure or
    InvalidConfiguration.
    """
    try:
        data = document.decode(text, what)
    except DecodingFailure as error:
        raise DecodingFailure(error.msg, error.reason, id="PLX-JSON") from error
    with _located(what):
        if not lookup(data, "type") and lookup(data, "plugins") is not None:
            return _list(data, text)
        return _single(data, text)


def parse_single(text: str, what: str = "the network configuration") -> NetConfList:
    """Read one plugin's configuration as a list of one. Raises DecodingFailure or InvalidConfiguration."""
    data = _decode(text, SINGLE, what)
    with _located(what):
        return _single(data, text)


def parse_list(text: str, what: str = "the network configuration list") -> NetConfList:
    """Read a list; one without `plugins` is left empty, for a drop-in directory to fill.

    Raises DecodingFailure or InvalidConfiguration.
    """
    data = _decode(text, LIST, what)
    with _located(what):
        if not _name(data, LIST):
            raise InvalidConfiguration(f"{LIST}: no name", "a network needs a `name`")
        return _list(data, text)


def _single(data: Document, text: str) -> NetConfList:
    if not lookup(data, "type") and lookup(data, "plugins") is not None:
        raise InvalidConfiguration(f"{SINGLE}: missing 'type'", "it has `plugins`: a list's file is named .conflist")
    name, version = _name(data, SINGLE), _version(data, SINGLE)
    return NetConfList(name=name, cni_version=version, plugins=(_checked(data),), text=text)


def _list(data: Document, text: str) -> NetConfList:
    only_inlined = _boolean(data, "loadOnlyInlinedPlugins")
    return NetConfList(
        name=_name(data, LIST),
        cni_version=_chosen_version(data),
        plugins=_plugins(data, only_inlined),
        text=text,
        disable_check=_boolean(data, "disableCheck"),
        disable_gc=_boolean(data, "disableGC"),
        load_only_inlined_plugins=only_inlined,
    )


@contextlib.contextmanager
def _located(what: str) -> Iterator[None]:
    """Have the block's complaints say which document they are about."""
    try:
        yield
    except InvalidConfiguration as error:
        reason = f"{error.reason}, in {what}" if error.reason else f"in {what}"
        raise InvalidConfiguration(error.msg, reason, id="PLX-CONF") from error


def _decode(text: str, prefix: str, what: str) -> dict[str, Any]:
    try:
        return document.decode(text, what)
    except DecodingFailure as error:
        raise DecodingFailure(f"{prefix}: {error.reason}", f"in {what}", id="PLX-JSON") from error


def _name(data: Document, prefix: str) -> str:
    return _string(data, "name", prefix)


def _version(data: Document, prefix: str) -> str:
    return _string(data, "cniVersion", prefix)


def _string(data: Document, key: str, prefix: str) -> str:
    value = lookup(data, key)
    if value is not None and not isinstance(value, str):
        raise InvalidConfiguration(f"{prefix}: invalid {key} type", f"`{key}` must be a string, not {kind(value)}")
    return value or ""


def _chosen_version(data: Document) -> str:
    """The highest version of `cniVersions` and `cniVersion` that we speak; `cniVersion` as it is without the former."""
    version = _version(data, LIST)
    offered = lookup(data, "cniVersions")
    if offered is None:
        return version
    if not isinstance(offered, list):
        raise InvalidConfiguration(f"{LIST}: invalid type for cniVersions", f"it must be a list, not {kind(offered)}")
    for index, entry in enumerate(offered):
        if not isinstance(entry, str):
            reason = f"it must be a string, not {kind(entry)}"
            raise InvalidConfiguration(f"{LIST}: invalid type for cniVersions index {index}", reason)
        _check_version(entry, f"cniVersions entry {entry} at index {index}")
    _check_version(version, f"cniVersion {version}")
    candidates = [*offered, version] if version else offered
    spoken = [entry for entry in candidates if versions.at_least(versions.CURRENT, entry)]
    return max(spoken, key=versions.parse, default=version)


def _check_version(version: str, name: str) -> None:
    try:
        versions.parse(version)
    except DecodingFailure as error:
        raise InvalidConfiguration(f"{LIST}: invalid {name}: {error.msg}") from error


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
        return _checked(entry)
    except InvalidConfiguration as error:
        raise InvalidConfiguration(f"{where}: {error.msg}", error.reason) from error


def _checked(plugin: NetConf) -> NetConf:
    """The plugin's configuration, of which we only need the type and the capabilities to be right."""
    plugin_type(plugin)
    capabilities(plugin)
    return plugin
