"""Objects of the Kubernetes API: the pods, networks and Deployments of the scenarios."""

import json
from collections.abc import Sequence
from typing import Any

import archive

NETWORKS = "k8s.v1.cni.cncf.io/networks"
STATUS = "k8s.v1.cni.cncf.io/network-status"
NODE = "localhost"
IDLE = ("sh", "-c", "trap 'exit 0' TERM; sleep 2147483647 & wait")
"""Waits for its end, and ends at once when it is told to."""


def pod(
    name: str,
    networks: str | Sequence[dict[str, Any]] = "",
    *,
    namespace: str = "default",
    annotations: dict[str, str] | None = None,
    ports: Sequence[dict[str, Any]] = (),
    command: Sequence[str] = IDLE,
) -> dict[str, Any]:
    """A pod that asks for networks, in the short form or as a list of selections."""
    asked = networks if isinstance(networks, str) else json.dumps(networks)
    metadata = {
        "name": name,
        "namespace": namespace,
        "annotations": ({NETWORKS: asked} if asked else {}) | (annotations or {}),
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": _spec(ports, command) | {"nodeName": NODE}}


def network_status(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """What a pod was attached to, as it was told."""
    found: list[dict[str, Any]] = json.loads(pod["metadata"]["annotations"][STATUS])
    return found


def deployment(name: str, networks: str, replicas: int) -> dict[str, Any]:
    """A Deployment of such pods."""
    labels = {"app": name}
    template = {"metadata": {"labels": labels, "annotations": {NETWORKS: networks}}, "spec": _spec()}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def network(name: str, *plugins: dict[str, Any], namespace: str = "default", **keys: Any) -> dict[str, Any]:
    """A NetworkAttachmentDefinition of one plugin, or of a list."""
    conf = {"cniVersion": "1.0.0", "name": name} | (plugins[0] if len(plugins) == 1 else {"plugins": plugins}) | keys
    return {
        "apiVersion": "k8s.cni.cncf.io/v1",
        "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"config": json.dumps(conf)},
    }


def bridge(number: int, *, kind: str = "bridge", ipam: str = "host-local", **keys: Any) -> dict[str, Any]:
    """A bridge of the host with addresses of 10.1.<number>.0/24."""
    addresses = {"type": ipam, "ranges": [[{"subnet": f"10.1.{number}.0/24"}]]}
    return {"type": kind, "bridge": f"br{number}", "ipam": addresses} | keys


def _spec(ports: Sequence[dict[str, Any]] = (), command: Sequence[str] = IDLE) -> dict[str, Any]:
    container = {
        "name": "main",
        "image": archive.NAME,
        "imagePullPolicy": "Never",
        "command": list(command),
        "ports": list(ports),
    }
    return {
        "containers": [container],
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "dnsPolicy": "Default",
        "terminationGracePeriodSeconds": 5,
        "tolerations": [{"operator": "Exists"}],
    }
