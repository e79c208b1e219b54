"""From the name of a network to its configuration."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from cni.kube import objects
from cni.kube.objects import NetworkAttachmentDefinition
from cni.kube.source import Source
from cni.meta import untrusted
from cni.meta.config import MetaConf
from cni.meta.definitions import Definitions, Key
from cni.meta.selection import NetworkSelection
from cni.plugin import confdir, invoke
from cni.spec import document, names, netconf
from cni.spec.errors import CNIError, InvalidConfiguration
from cni.spec.netconf import NetConfList

BEGINNING = {"type": "passthru"}
"""What a chain begins with whose plugins expect a result to add to."""
AUXILIARY = {"disableCheck": True}
"""Such a chain makes no interface, and the CHECK of `tuning`, for one, fails without."""

LONGEST_NAME = 200
"""Characters of a network's name: plugins make files of it, and of what they add."""


@dataclass(frozen=True)
class Network:
    """A network as the pod knows it, and how it is configured."""

    name: str
    """For example "default/multus-br"; the configuration's own name where there is no definition."""

    conf: NetConfList
    resource: str = ""
    """The resource that its attachments take devices of."""


class Networks:
    """Looks networks up in the source and on the node."""

    def __init__(self, conf: MetaConf, source: Source | Definitions) -> None:
        self.conf = conf
        self.source = source

    def keys(self, named: Iterable[str], selections: Iterable[NetworkSelection]) -> Iterator[Key]:
        """Of the definitions that may be needed, for what the node's configuration names and a pod selects."""
        yield from ((self.conf.multus_namespace, name) for name in named if objects.is_name(name))
        for selection in selections:
            yield selection.namespace, selection.name

    def selected(self, selection: NetworkSelection, *, pod_namespace: str) -> Network:
        """The network that a pod selects. Raises InvalidConfiguration, DecodingFailure, TryAgainLater."""
        definition = self.source.find_network(selection.namespace, selection.name)
        if not self._is_allowed(selection, definition, pod_namespace):
            raise self._isolated(selection, pod_namespace)
        if definition is None:
            raise InvalidConfiguration(
                f'could not find NetworkAttachmentDefinition "{selection.full_name}"',
                f"create it in namespace {selection.namespace}, or correct the pod's annotation",
                id="PLX-NAD-MISSING",
            )
        network = self._by_its_author(definition)
        self._check_request(selection, definition)
        return self._by_the_node(network)

    def named(self, name: str) -> Network:
        """The network that the node's configuration names: a definition, a configuration, a file or a directory."""
        try:
            return self._by_the_node(self._named(name))
        except CNIError as error:
            raise error.within(f'network "{name}" of the node\'s configuration') from error

    def every_pods(self) -> list[Network]:
        """The cluster network, then those of `delegates` that every pod gets besides."""
        if self.conf.cluster_network:
            return [self.named(self.conf.cluster_network)]
        inline = (self._inline(delegate, index) for index, delegate in enumerate(self.conf.delegates))
        return [self._by_the_node(network) for network in inline]

    def auxiliary(self) -> list[Network]:
        """The chain that every pod gets last, of the plugins in a directory beside the cluster network's file.

        None where there is no such directory, or no plugin in it. Raises DecodingFailure, InvalidConfiguration.
        """
        name = self.conf.auxiliary_cni_chain_name
        path = self.conf.cluster_network
        plugins = confdir.drop_ins(path if os.path.isdir(path) else os.path.dirname(path), name) if name else ()
        if not plugins:
            return []
        chain = AUXILIARY | {"cniVersion": self.conf.cni_version, "name": name, "plugins": [BEGINNING, *plugins]}
        conf = netconf.parse(document.dump(chain))
        _check(conf, f'auxiliaryCNIChainName "{name}"')
        return [self._by_the_node(Network(name, conf))]

    def configured(self) -> list[Network]:
        """The networks that containers get though no pod asks for them, the cluster network first."""
        return [*self.every_pods(), *self.auxiliary()]

    def _by_the_node(self, network: Network) -> Network:
        """The network with what the node's configuration has to say in its own."""
        if self.conf.create_bridge:
            return network
        return replace(network, conf=_without_new_bridges(network.conf))

    def _named(self, name: str) -> Network:
        if "/" in name:
            return self._by_path(name)
        definition = None
        if objects.is_name(name):
            definition = self.source.find_network(self.conf.multus_namespace, name)
        if definition is not None:
            return self._defined(definition)
        besides = f"; and there is no NetworkAttachmentDefinition {self.conf.multus_namespace}/{name}"
        return self._on_disk(name, "its configuration", besides)

    def _by_its_author(self, definition: NetworkAttachmentDefinition) -> Network:
        """The network of a definition that anybody may have written, who has said nothing that he may not."""
        what = _what(definition)
        if not definition.config:
            network = self._in_a_file(definition)
            if self.conf.rules is not None:
                self.conf.rules.check_file(definition.namespace, network.conf.name, what)
            return network
        untrusted.check_length(definition.config, what)
        conf = _parsed(definition)
        untrusted.check_conf(conf, self._paths_for(definition), what)
        if self.conf.rules is not None:
            self.conf.rules.check(definition.namespace, conf.plugins, what)
        return _complete(conf, definition)

    def _check_request(self, selection: NetworkSelection, definition: NetworkAttachmentDefinition) -> None:
        """Raise InvalidConfiguration for what a pod may not ask of the network."""
        what = f'what the pod asks of network "{definition.full_name}"'
        if selection.device_id and not definition.resource:  # else it must be one of the kubelet's
            untrusted.check({"deviceID": selection.device_id}, (), what)
        if selection.cni_args:
            untrusted.check(selection.cni_args, self._paths_for(definition), what, "cni-args.")
        if self.conf.rules is not None:
            self.conf.rules.check_request(definition.namespace, selection.ips, selection.cni_args, what)

    def _paths_for(self, definition: NetworkAttachmentDefinition) -> tuple[str, ...]:
        """Paths of the host that the definition may name."""
        if self.conf.rules is None:
            return self.conf.host_paths
        return self.conf.host_paths + self.conf.rules.paths_for(definition.namespace, _what(definition))

    def _defined(self, definition: NetworkAttachmentDefinition) -> Network:
        return _complete(_parsed(definition), definition) if definition.config else self._in_a_file(definition)

    def _in_a_file(self, definition: NetworkAttachmentDefinition) -> Network:
        found = self._on_disk(definition.name, f"the configuration of {_what(definition)}")
        return Network(definition.full_name, found.conf, definition.resource)

    def _on_disk(self, name: str, what: str, besides: str = "") -> Network:
        try:
            conf = confdir.load(self.conf.conf_dir, name)
        except InvalidConfiguration as error:
            reason = f"{error.msg}; {error.reason}{besides}"
            raise InvalidConfiguration(f"could not find {what}", reason, id="PLX-NETWORK-MISSING") from error
        _check(conf, what)
        return Network(conf.name, conf)

    def _by_path(self, path: str) -> Network:
        conf = confdir.load_default(path) if os.path.isdir(path) else confdir.load_file(path)
        _check(conf, f'"{path}"')
        return Network(conf.name, conf)

    def _inline(self, delegate: document.Document, index: int) -> Network:
        conf = netconf.parse(document.dump(delegate), f"delegates[{index}]")
        _check(conf, f"delegates[{index}]")
        return Network(conf.name, conf)

    def _is_allowed(
        self, selection: NetworkSelection, definition: NetworkAttachmentDefinition | None, pod_namespace: str
    ) -> bool:
        """Whether the pod may know the network, by namespace isolation or because the definition grants it."""
        if not self.conf.namespace_isolation or selection.namespace in self.conf.shared_namespaces | {pod_namespace}:
            return True
        return definition is not None and untrusted.matches(pod_namespace, definition.granted_namespaces)

    def _isolated(self, selection: NetworkSelection, pod_namespace: str) -> InvalidConfiguration:
        return InvalidConfiguration(
            f'could not use network "{selection.full_name}" in namespace "{pod_namespace}"',
            "namespace isolation is on: use a network of the pod's own namespace, or of "
            + ", ".join(sorted(self.conf.shared_namespaces))
            + f", or have its definition grant this one with the annotation {objects.GRANT}",
            id="PLX-ISOLATION",
        )


def _what(definition: NetworkAttachmentDefinition) -> str:
    return f'NetworkAttachmentDefinition "{definition.full_name}"'


def _parsed(definition: NetworkAttachmentDefinition) -> NetConfList:
    return netconf.parse(definition.config, f"spec.config of {_what(definition)}")


def _complete(conf: NetConfList, definition: NetworkAttachmentDefinition) -> Network:
    if not conf.name:
        conf = _named(conf, definition.name)
    _check(conf, _what(definition))
    return Network(definition.full_name, conf, definition.resource)


def _without_new_bridges(conf: NetConfList) -> NetConfList:
    """The configuration with `createBridge` false for every `bridge` that says nothing of it."""
    silent = [_is_silent_bridge(plugin) for plugin in conf.plugins]
    if not any(silent):
        return conf
    plugins = [
        document.derive(plugin, createBridge=False) if told else plugin
        for plugin, told in zip(conf.plugins, silent, strict=True)
    ]
    data = document.decode(conf.text, "the configuration")
    changed = plugins[0] if document.lookup(data, "type") else document.derive(data, plugins=plugins)
    return netconf.parse(document.dump(changed))


def _is_silent_bridge(plugin: document.Document) -> bool:
    return netconf.plugin_type(plugin) == "bridge" and document.lookup(plugin, "createBridge") is None


def _named(conf: NetConfList, name: str) -> NetConfList:
    data = document.derive(document.decode(conf.text, "the configuration"), name=name)
    return netconf.parse(document.dump(data))


def _check(conf: NetConfList, what: str) -> None:
    """Refuse what no plugin would take, before anything is attached."""
    try:
        names.validate_network_name(conf.name)
    except InvalidConfiguration as error:
        raise InvalidConfiguration(f"could not use {what}: {error.msg}", error.reason, id="PLX-NAD-CONFIG") from error
    if len(conf.name) > LONGEST_NAME:
        reason = f"its `name` has {len(conf.name)} characters, and at most {LONGEST_NAME} fit into the names of files"
        raise InvalidConfiguration(f"could not use {what}", reason, id="PLX-TOO-LARGE")
    if not conf.plugins:
        raise InvalidConfiguration(f"could not use {what}", "it has no plugins", id="PLX-NAD-CONFIG")
    for plugin in conf.plugins:
        if netconf.plugin_type(plugin) in invoke.META:
            raise InvalidConfiguration(
                f"could not use {what}", "the meta plugin cannot be its own delegate", id="PLX-RECURSION"
            )
