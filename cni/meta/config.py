"""The meta plugin's own configuration: Multus' keys, and ours."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import pydantic

from cni.meta import places
from cni.meta.untrusted import HostPath
from cni.spec import model, names
from cni.spec.errors import InvalidConfiguration
from cni.spec.model import Many, Model
from cni.spec.request import PLUGIN_TIMEOUT, Request

if TYPE_CHECKING:
    from cni.meta.policy import Policy


class LogOptions(Model):
    """When the log's file is begun anew, and what is kept of the old ones."""

    max_age: Annotated[int, pydantic.Field(ge=0)] = 0
    max_size: Annotated[int, pydantic.Field(ge=0)] = 0
    max_backups: Annotated[int, pydantic.Field(ge=0)] = 0
    compress: bool = True


class MetaConf(Model):
    """What the meta plugin reads from its network configuration."""

    cni_version: str = ""
    """Whose shape our result has; the auxiliary chain is in it too."""

    delegates: Many[dict[str, Any]] = ()
    """The cluster network and others that every pod gets, inline; unused when `cluster_network` is set."""

    cluster_network: str = ""
    """The network every pod gets first: a definition's name, a configuration's name, a file or a directory."""

    default_networks: Many[str] = ()
    """More networks for the pods of all namespaces but `system_namespaces`; named like `cluster_network`."""

    conf_dir: str = "/etc/cni/multus/net.d"
    """Where networks without `spec.config` are looked up by name."""

    cni_dir: str = places.STATE_DIRECTORY
    """Where we remember what was attached."""

    bin_dir: str = places.BIN_DIRECTORY
    """Where plugins are looked for before CNI_PATH."""

    manifests: str = places.MANIFESTS
    """The directory of Pod and NetworkAttachmentDefinition manifests."""

    kubeconfig: str = ""
    """How to reach the API server that knows pods and definitions, instead of `manifests`."""

    api_timeout: Annotated[float, pydantic.Field(gt=0)] = 30
    """Seconds that each question to the API server may take, tries included."""

    external: Many[str] = ()
    """Built-in plugin types that are executed all the same."""

    plugin_timeout: Annotated[float, pydantic.Field(ge=places.SHORTEST_TIMEOUT, le=places.LONGEST_TIMEOUT)] = (
        PLUGIN_TIMEOUT
    )
    """Seconds that each executed plugin may take; less where the call has less left."""

    parallel: bool = True
    """Whether definitions are looked up, and executed plugins of additional networks run, at the same time."""

    create_bridge: bool = True
    """Whether bridges are made where they are missing, by networks that do not say so themselves."""

    system_namespaces: Many[str] = ("kube-system",)
    multus_namespace: str = "kube-system"
    """Namespace of the definitions that `cluster_network`, `default_networks` and the annotation for them name."""

    namespace_isolation: bool = False
    """Whether pods may only use definitions of their own and of the global namespaces."""

    global_namespaces: str = "default"
    """Comma-separated."""

    host_paths: Many[HostPath] = ()
    """Paths of the host that definitions, and pods, may name; with all that is below."""

    policy: Many[dict[str, Any]] | None = None
    """What the definitions of each namespace may say; `rules` reads it."""

    readiness_indicator_file: str = pydantic.Field(default="", alias="readinessindicatorfile")
    """A file whose existence says that the default network is ready."""

    readiness_timeout: Annotated[float, pydantic.Field(ge=0)] = 45
    """Seconds to wait for that file."""

    auxiliary_cni_chain_name: str = pydantic.Field(default="", alias="auxiliaryCNIChainName")
    """A directory beside the cluster network's file, whose plugins run for every pod as a network of their own."""

    retry_delete_on_error: bool = False
    """No choice: what a DEL could not undo is always kept for the next."""

    log_file: str = ""
    log_level: str = ""
    log_to_stderr: bool = True
    log_options: LogOptions = LogOptions()
    """Only checked here: the log reads these four for itself, so that a call with a wrong configuration is logged."""

    kubelet_dir: str = "/var/lib/kubelet"
    """The kubelet's root, where it tells which devices it gave to whom."""

    device_info_dir: str = "/var/run/k8s.cni.cncf.io/devinfo"
    """Where device plugins and CNI plugins describe devices."""

    runtime_config: dict[str, Any] = pydantic.Field(default_factory=dict)

    capabilities: dict[str, bool | None] = pydantic.Field(default_factory=dict)
    ipam: dict[str, Any] = pydantic.Field(default_factory=dict)
    dns: dict[str, Any] = pydantic.Field(default_factory=dict)
    """Keys of every network configuration; we only see to it that they are what they must be."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _drop_empty_texts(cls, data: Any) -> Any:
        """Take an empty text for an absent one, as Multus does."""
        return {key: value for key, value in data.items() if value != ""} if isinstance(data, Mapping) else data

    @functools.cached_property
    def rules(self) -> Policy | None:
        """The `policy`, read; None without one. Raises InvalidConfiguration."""
        if self.policy is None:
            return None
        from cni.meta import policy  # 12 ms that few need

        return policy.parse(self.policy)

    @property
    def has_manifests(self) -> bool:
        """Whether the configuration names them."""
        return "manifests" in self.model_fields_set

    @property
    def ledger_directory(self) -> str:
        """Where the records are."""
        return places.ledger_directory(self.cni_dir)

    @property
    def status_directory(self) -> str:
        """Where the network-status of pods from manifests goes."""
        return places.status_directory(self.cni_dir)

    @property
    def shared_namespaces(self) -> frozenset[str]:
        """Namespaces whose definitions every pod may use."""
        return frozenset(name.strip() for name in self.global_namespaces.split(","))


def parse(request: Request) -> MetaConf:
    """Read and check the configuration. Raises InvalidConfiguration, and DecodingFailure for a bad prevResult."""
    what = f'the configuration of network "{request.network}"'
    conf = model.parse(MetaConf, request.conf, what)
    _ = conf.rules  # a wrong one is told before anything else
    for wrong in _contradictions(conf):
        raise InvalidConfiguration(f"could not read {what}", wrong, id="PLX-CONF")
    if request.command == "ADD":
        _ = request.prev_result  # nothing of it is used; but the plugin before us meant a result
    return conf


def _contradictions(conf: MetaConf) -> Iterator[str]:
    if not conf.delegates and not conf.cluster_network:
        yield "it needs `delegates` or `clusterNetwork`: every pod gets one"
    if conf.kubeconfig and conf.has_manifests:
        yield "`kubeconfig` and `manifests` exclude each other: keep one"
    chain = conf.auxiliary_cni_chain_name
    if chain and "/" not in conf.cluster_network:
        yield "`auxiliaryCNIChainName` is a directory beside the file of `clusterNetwork`, which must be a path then"
    if chain and not names.NAME.fullmatch(chain):
        yield f'auxiliaryCNIChainName: "{chain}" must be a name, as a network has one'
