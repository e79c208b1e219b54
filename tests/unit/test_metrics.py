"""What the daemon counts stays small, whatever tenants call their networks."""

import prometheus_client
import pytest

from cni.node import metrics
from cni.node.waiting import Waiting


@pytest.fixture
def counted() -> metrics.Metrics:
    return metrics.Metrics(Waiting(1), 1)


def test_networks_beyond_a_number_are_counted_together(counted: metrics.Metrics, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metrics, "MOST_NETWORKS", 2)
    for network in ("a", "b", "c", "d", "a"):
        counted.step("attach", network, "ok", 0.01)

    def count(network: str) -> float | None:
        labels = {"phase": "attach", "network": network, "outcome": "ok"}
        return counted.registry.get_sample_value("plexus_networks_total", labels)

    assert [count(network) for network in ("a", "b", "c", "(others)")] == [2, 1, None, 2]
    assert counted.registry.get_sample_value("plexus_phase_seconds_count", {"phase": "attach"}) == 5


def test_a_pool_that_has_no_directory_yet_is_all_free(counted: metrics.Metrics):
    counted.pool("net", "/nonexistent", {4: 253, 6: 10})

    text = prometheus_client.generate_latest(counted.registry).decode()

    assert 'plexus_pool_addresses{directory="/nonexistent",ip_version="4",network="net",state="free"} 253.0' in text
    assert 'plexus_pool_addresses{directory="/nonexistent",ip_version="6",network="net",state="used"} 0.0' in text
