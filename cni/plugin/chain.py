"""Run a network's plugins in order, as libcni does for a runtime (section 3)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cni.plugin import invoke
from cni.plugin.invoke import Call
from cni.plugin.rollback import Teardown
from cni.spec import versions
from cni.spec.document import Document, encode, lookup
from cni.spec.errors import CNIError, IncompatibleVersion, InvalidConfiguration
from cni.spec.netconf import NetConf, NetConfList, plugin_type
from cni.spec.request import PLUGIN_TIMEOUT, Request

if TYPE_CHECKING:
    from cni.spec.result import Result


@dataclass(frozen=True, kw_only=True)
class Attachment:
    """A container's interface on one network, and how its plugins are to be called."""

    container_id: str
    ifname: str
    netns: str = ""
    args: str = ""
    runtime_config: Document = field(default_factory=dict)
    """Values for the plugins' capabilities, for example {"portMappings": […]}."""


@dataclass(frozen=True, kw_only=True)
class Host:
    """Where plugins are found, what they inherit, and how they are called."""

    path: tuple[str, ...]
    environ: Mapping[str, str]
    external: frozenset[str] = frozenset()
    plugin_timeout: float = PLUGIN_TIMEOUT
    call: Call = invoke.call
    """For delegates as it is; who plays the runtime uses invoke.call_as_runtime, which reaches the meta plugin."""

    def request(self, command: str, **fields: Any) -> Request:
        """A call here."""
        return Request(
            command=command,
            path=self.path,
            environ=self.environ,
            external=self.external,
            plugin_timeout=self.plugin_timeout,
            **fields,
        )


def validate(network: NetConfList, attachment: Attachment, host: Host) -> None:
    """Raise the CNIError of an ADD that cannot even begin: a bad name or version, or a plugin that is not there."""
    if network.cni_version not in ("", *versions.SUPPORTED):
        ours = " ".join(f'"{supported}"' for supported in versions.SUPPORTED)
        raise IncompatibleVersion(
            "incompatible CNI versions", f'network "{network.name}" has "{network.cni_version}", we know [{ours}]'
        )
    for plugin in network.plugins:
        with _told(plugin, "add"):
            invoke.validate(plugin_type(plugin), _request(network, plugin, attachment, host))


def add(network: NetConfList, attachment: Attachment, host: Host) -> Result:
    """ADD every plugin in order, each seeing the result of the one before; return the last one's.

    Raises the CNIError of the plugin that failed; the caller must then DEL the attachment (section 4).
    """
    result: Result | None = None
    for plugin in network.plugins:
        request = _request(network, plugin, attachment, host, prev_result=_encoded(result, network))
        with _told(plugin, "add"):
            result = invoke.add(plugin_type(plugin), request, host.call)
    if result is None:
        raise InvalidConfiguration(f'network "{network.name}" has no plugins', "add one to `plugins`", id="PLX-CONF")
    return result


def delete(network: NetConfList, attachment: Attachment, host: Host, result: Result | Document | None) -> None:
    """DEL every plugin in reverse order, whatever fails, with the final result of ADD as prevResult.

    It may be the result's JSON, for a network whose version has the newest shape.
    Raises one CNIError naming each failure.
    """
    prev_result = _encoded(result, network) if versions.at_least(network.cni_version, "0.4.0") else None
    teardown = Teardown()
    for plugin in reversed(network.plugins):
        with teardown.step(), _told(plugin, "delete"):
            request = _request(network, plugin, attachment, host, prev_result=prev_result)
            host.call(plugin_type(plugin), request.replace(command="DEL"))
    teardown.finish(f'could not detach "{attachment.ifname}" from network "{network.name}"')


def check(network: NetConfList, attachment: Attachment, host: Host, result: Result | None) -> None:
    """CHECK every plugin in order. A list that says `disableCheck` passes.

    Raises the first plugin's CNIError, IncompatibleVersion for a list older than the verb.
    """
    if not versions.at_least(network.cni_version, "0.4.0"):
        raise IncompatibleVersion(
            f'configuration version "{network.cni_version}" does not support the CHECK command',
            f'network "{network.name}": `cniVersion` must be 0.4.0 or newer',
        )
    if network.disable_check:
        return
    prev_result = _encoded(result, network)
    for plugin in network.plugins:
        request = _request(network, plugin, attachment, host, prev_result=prev_result)
        host.call(plugin_type(plugin), request.replace(command="CHECK"))


def is_built_in(network: NetConfList, host: Host) -> bool:
    """Whether nothing has to be executed for the network."""
    return all(invoke.is_all_built_in(plugin, host.external) for plugin in network.plugins)


def with_every_verb(network: NetConfList, host: Host) -> NetConfList:
    """The network in the newest version, where all of it is built in: its own says only what others understand."""
    if is_built_in(network, host):
        return replace(network, cni_version=versions.CURRENT)
    return network


def status(network: NetConfList, host: Host) -> None:
    """STATUS of every plugin, where the network's version has it. Raises the first plugin's CNIError."""
    if not versions.at_least(network.cni_version, "1.1.0"):
        return
    for plugin in network.plugins:
        request = host.request("STATUS").with_conf(network.conf_for(plugin))
        host.call(plugin_type(plugin), request)


def find_executed(network: NetConfList, host: Host) -> None:
    """Raise the CNIError of a network whose plugins cannot be executed, whatever verbs its version has."""
    request = Request(command="STATUS", path=host.path, environ=host.environ, external=host.external)
    for plugin in network.plugins:
        invoke.find_executed(plugin, request)


def gc(network: NetConfList, host: Host, valid: Iterable[tuple[str, str]]) -> None:
    """GC of every plugin, where the network's version has it; `valid` are the living (container ID, ifname).

    Raises one CNIError naming each failure.
    """
    if network.disable_gc or not versions.at_least(network.cni_version, "1.1.0"):
        return
    attachments = [{"containerID": container_id, "ifname": ifname} for container_id, ifname in valid]
    keys = {"cni.dev/valid-attachments": attachments, "cni.dev/attachments": attachments}
    teardown = Teardown()
    for plugin in network.plugins:
        with teardown.step(), _told(plugin, "gc"):
            request = host.request("GC").with_conf(network.conf_for(plugin) | keys)
            host.call(plugin_type(plugin), request)
    teardown.finish(f'could not collect the garbage of network "{network.name}"')


@contextlib.contextmanager
def _told(plugin: NetConf, verb: str) -> Iterator[None]:
    """Have an error of the block name the plugin, in libcni's words."""
    try:
        yield
    except CNIError as error:
        name = f' name="{lookup(plugin, "name")}"' if lookup(plugin, "name") else ""
        raise error.within(f'plugin type="{plugin_type(plugin)}"{name} failed ({verb})') from error


def _request(
    network: NetConfList, plugin: NetConf, attachment: Attachment, host: Host, *, prev_result: Document | None = None
) -> Request:
    conf = network.conf_for(plugin, prev_result=prev_result, runtime_config=attachment.runtime_config)
    return host.request(
        "ADD",
        container_id=attachment.container_id,
        netns=attachment.netns,
        ifname=attachment.ifname,
        args=attachment.args,
        conf=conf,
        stdin=encode(conf),
    )


def _encoded(result: Result | Document | None, network: NetConfList) -> Document | None:
    if result is None:
        return None
    if isinstance(result, Mapping):
        return {**result, "cniVersion": network.cni_version}
    from cni.spec import convert

    return convert.encode(result, network.cni_version)
