"""What whoever watches the pod is told of its networks."""

from __future__ import annotations

from cni.kube.objects import Pod
from cni.kube.source import Source
from cni.plugin.ledger import Record
from cni.spec.errors import CNIError

ADDED = "AddedInterface"
FAILED = "FailedToAttach"
REASONS = {"PLX-NAD-MISSING": "NoNetworkFound"}
"""Reasons that Multus gave events of the same meaning, by the error's id."""


def added(source: Source, pod: Pod | None, record: Record) -> None:
    """Tell of each interface that was made, in the words of Multus."""
    if pod is None:
        return
    for entry in record.entries:
        result = entry.get_result()
        addresses = " ".join(str(ip.address) for ip in result.ips) if result else ""
        source.announce(pod, ADDED, f"Add {entry.ifname} [{addresses}] from {entry.network}")


def failed(source: Source, pod: Pod | None, error: CNIError) -> None:
    """Warn of the error, whose id is in the message."""
    if pod is not None:
        source.announce(pod, REASONS.get(error.id, FAILED), str(error), warning=True)
