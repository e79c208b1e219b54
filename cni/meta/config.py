"""The meta plugin's own configuration: Multus' keys, and ours."""

from __future__ import annotations

import contextlib
import os
from typing import Annotated, Any

import pydantic

from cni.spec import document, model
from cni.spec.errors import InvalidConfiguration
from cni.spec.model import Many, Model
from cni.spec.request import Request

STATE_DIRECTORY = "/var/lib/cni/plexus"


class MetaConf(Model):
    """What the meta plugin reads from its network configuration."""

    delegates: Many[dict[str, Any]] = ()
    """The cluster network and others that every pod gets, inline; unused when `cluster_network` is set."""

    cluster_network: str = ""
    """The network every pod gets first: a definition's name, a configuration's name, a file or a directory."""

    default_networks: Many[str] = ()
    """More networks for the pods of all namespaces but `system_namespaces`; named like `cluster_network`."""

    conf_dir: str = "/etc/cni/multus/net.d"
    """Where networks without `spec.config` are looked up by name."""

    cni_dir: str = STATE_DIRECTORY
    """Where we remember what was attached."""

    bin_dir: str = "/opt/cni/bin"
    """Where plugins are looked for before CNI_PATH."""

    manifests: str = "/etc/plexus/manifests"
    """The directory of Pod and NetworkAttachmentDefinition manifests."""

    kubeconfig: str = ""
    """How to reach the API server that knows pods and definitions, instead of `manifests`."""

    api_timeout: Annotated[float, pydantic.Field(gt=0)] = 30
    """Seconds that each question to the API server may take, tries included."""

    external: Many[str] = ()
    """Built-in plugin types that are executed all the same."""

    create_bridge: bool = True
    """Whether bridges are made where they are missing, by networks that do not say so themselves."""

    system_namespaces: Many[str] = ("kube-system",)
    multus_namespace: str = "kube-system"
    """Namespace of the definitions that `cluster_network`, `default_networks` and the annotation for them name."""

    namespace_isolation: bool = False
    """Whether pods may only use definitions of their own and of the global namespaces."""

    global_namespaces: str = "default"
    """Comma-separated."""

    runtime_config: dict[str, Any] = pydantic.Field(default_factory=dict)

    @property
    def ledger_directory(self) -> str:
        """Where the records are."""
        return os.path.join(self.cni_dir, "containers")

    @property
    def status_directory(self) -> str:
        """Where the network-status of pods from manifests goes."""
        return os.path.join(self.cni_dir, "network-status")

    @property
    def shared_namespaces(self) -> frozenset[str]:
        """Namespaces whose definitions every pod may use."""
        return frozenset(name.strip() for name in self.global_namespaces.split(","))


def parse(request: Request) -> MetaConf:
    """Read and check the configuration. Raises InvalidConfiguration."""
    what = f'the configuration of network "{request.network}"'
    conf = model.parse(MetaConf, request.conf, what)
    if not conf.delegates and not conf.cluster_network:
        raise InvalidConfiguration(
            f"could not read {what}", "it needs `delegates` or `clusterNetwork`: every pod gets one", id="PLX-CONF"
        )
    if conf.kubeconfig and "manifests" in conf.model_fields_set:
        raise InvalidConfiguration(
            f"could not read {what}", "`kubeconfig` and `manifests` exclude each other: keep one", id="PLX-CONF"
        )
    return conf


def parse_for_delete(request: Request) -> MetaConf:
    """Read what DEL needs, each key alone: it must work whatever the rest of the configuration has become."""
    readable = {}
    for key in ("cniDir", "binDir", "manifests", "external"):
        value = document.lookup(request.conf, key)
        with contextlib.suppress(InvalidConfiguration):
            model.parse(MetaConf, {key: value}, key)
            readable[key] = value
    return model.parse(MetaConf, readable, "the configuration")
