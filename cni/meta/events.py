"""What whoever watches the pod is told of its networks."""

from __future__ import annotations

from cni.kube.objects import Pod
from cni.kube.source import Source
from cni.plugin.ledger import Entry, Record
from cni.spec.errors import CNIError

ADDED = "AddedInterface"
FAILED = "FailedToAttach"
REASONS = {"PLX-NAD-MISSING": "NoNetworkFound"}
"""Reasons that Multus gave events of the same meaning, by the error's id."""


def added(source: Source, pod: Pod | None, record: Record) -> None:
    """Tell of the interfaces that were made, each in the words of Multus; in one event, since each is a request."""
    told = [line for entry in record.entries if (line := _told(entry))]
    if pod is not None and told:
        source.announce(pod, ADDED, "; ".join(told))


def failed(source: Source, pod: Pod | None, error: CNIError) -> None:
    """Warn of the error, whose id is in the message."""
    if pod is not None:
        source.announce(pod, REASONS.get(error.id, FAILED), str(error), warning=True)


def _told(entry: Entry) -> str:
    """What was made of a network, or "" where its plugins say that it is nothing."""
    result = entry.get_result()
    if result is None or not (result.interfaces or result.ips):
        return ""
    addresses = " ".join(str(ip.address) for ip in result.ips)
    return f"Add {entry.ifname} [{addresses}] from {entry.network}"
