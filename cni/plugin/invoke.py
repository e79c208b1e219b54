"""Call a plugin by its type: in this process where it is built in, else by executing it (section 4)."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, cast

from cni.plugin import execute, log, serve
from cni.plugin.serve import Plugin
from cni.spec import names, netconf
from cni.spec.errors import DecodingFailure, InvalidConfiguration
from cni.spec.netconf import NetConf
from cni.spec.request import Request

if TYPE_CHECKING:
    from cni.spec.result import Result

Call = Callable[[str, Request], "Result | None"]
"""A way to have a plugin, by its type, serve a request."""

BUILT_IN = {
    "bridge": "delegates.bridge",
    "veth": "delegates.veth",
    "ptp": "delegates.veth",
    "host-local": "ipam.host_local",
    "static": "ipam.static",
    "passthru": "delegates.passthru",
}
"""The modules that are plugins, by type; imported when called."""

META = {"plexus": "cni.meta.plugin", "multus": "cni.meta.plugin"}
"""The meta plugin, by the names it is installed under; never a delegate."""


def load(name: str) -> Plugin:
    """Import the plugin `name`."""
    return cast("Plugin", importlib.import_module((BUILT_IN | META)[name]))


def call(plugin_type: str, request: Request) -> Result | None:
    """Have the delegate `plugin_type` serve `request`. Raises CNIError, the plugin's own where it gave one."""
    if plugin_type in META:
        raise InvalidConfiguration(
            f'could not delegate to "{plugin_type}"', "the meta plugin cannot be its own delegate", id="PLX-RECURSION"
        )
    return call_as_runtime(plugin_type, request)


def call_as_runtime(plugin_type: str, request: Request) -> Result | None:
    """Have any plugin, the meta plugin too, serve `request`. Raises CNIError, the plugin's own where it gave one."""
    validate(plugin_type, request)
    with log.delegate(plugin_type, request):
        if is_built_in(plugin_type, request.external):
            return serve.handle(load(plugin_type), request)
        return execute.execute(plugin_type, request)


def add(plugin_type: str, request: Request, call: Call = call) -> Result:
    """Have the plugin add; its result is in the newest shape."""
    result = call(plugin_type, request.replace(command="ADD"))
    if result is None:
        raise DecodingFailure(f'could not read the result of plugin "{plugin_type}"', "it printed nothing")
    return result


def validate(plugin_type: str, request: Request) -> None:
    """Raise the CNIError of a call that cannot even begin: a bad name, or a plugin that is not there."""
    if request.command in ("ADD", "DEL", "CHECK"):
        names.validate_container_id(request.container_id)
        names.validate_ifname(request.ifname)
    names.validate_network_name(request.network)
    if not is_built_in(plugin_type, request.external):
        execute.find(plugin_type, request.path)
    elif plugin_type not in META:
        _validate_built_in(request)


def find_executed(conf: NetConf, request: Request) -> None:
    """Raise the CNIError of a configuration whose plugin, or what that calls for addresses, cannot be executed."""
    kind, ipam = netconf.plugin_type(conf), netconf.ipam_type(conf)
    if not is_built_in(kind, request.external):
        execute.find(kind, request.path)
    elif ipam and not is_built_in(ipam, request.external):
        execute.find(ipam, request.path)


def is_built_in(plugin_type: str, external: Collection[str]) -> bool:
    """Whether the plugin runs in this process, where the operator wants those of `external` executed."""
    return plugin_type in BUILT_IN | META and plugin_type not in external


def is_all_built_in(conf: NetConf, external: Collection[str]) -> bool:
    """Whether the configuration's plugin, and its IPAM plugin, run in this process."""
    kinds = filter(None, (netconf.plugin_type(conf), netconf.ipam_type(conf)))
    return all(is_built_in(kind, external) for kind in kinds)


def _validate_built_in(request: Request) -> None:
    """Raise what the plugin would meet after it has made its interface: an IPAM plugin that is not there, say."""
    serve.check(request)
    kind = netconf.ipam_type(request.conf)
    if request.command == "ADD" and kind and not is_built_in(kind, request.external):
        execute.find(kind, request.path)
