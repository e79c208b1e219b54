"""What a call works with, by its configuration: who knows the pods, and where plugins are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cni.plugin.chain import Host
from cni.spec.request import Request

if TYPE_CHECKING:
    from cni.kube.source import Source
    from cni.meta.config import MetaConf
    from cni.meta.places import Places

IN_CLUSTER = ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT")


def source(conf: MetaConf | Places, request: Request) -> Source:
    """The API where the configuration names it, or where we run in a cluster's own pod; else the manifests."""
    in_cluster = all(request.environ.get(name) for name in IN_CLUSTER) and not conf.has_manifests
    if not conf.kubeconfig and not in_cluster:
        from cni.kube.manifests import Manifests

        return Manifests(conf.manifests, conf.status_directory)
    from cni.kube import watched

    return watched.of_this_process.source(conf.kubeconfig, conf.api_timeout)


def host(conf: MetaConf | Places, request: Request, recorded_path: tuple[str, ...] = ()) -> Host:
    """Where plugins are found, and which of ours are executed all the same."""
    path = dict.fromkeys((conf.bin_dir, *request.path, *recorded_path))
    return Host(
        path=tuple(path),
        environ=request.environ,
        external=frozenset(conf.external),
        plugin_timeout=conf.plugin_timeout,
    )
