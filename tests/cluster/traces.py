"""What pods leave on a node while they live, and nothing of which may stay when they are gone."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cluster import PATIENCE, Cluster, eventually

DIRECTORIES = ("/var/lib/cni", "/run/netns", "/run/k8s.cni.cncf.io")
STAYING = re.compile(r"/(lock|last_reserved_ip\.\d+)$|\.lock$|\.index$")
"""Files that belong to a network, not to a pod."""
PODS_ADDRESS = re.compile(r"\b10\.(1|244)\.")


@dataclass(frozen=True)
class Traces:
    """Links, files and rules, by name."""

    links: frozenset[str]
    files: frozenset[str]
    rules: frozenset[str]

    @classmethod
    def of(cls, cluster: Cluster) -> Traces:
        """What there is now."""
        host = cluster.host
        links = (
            link["ifname"] for link in host.ip_json("-d link") if link.get("linkinfo", {}).get("info_kind") == "veth"
        )
        files = host.call("find", *DIRECTORIES, "-type", "f").stdout.split()
        rules = (line.strip() for line in host.firewall().splitlines() if PODS_ADDRESS.search(line))
        return cls(
            frozenset(links),
            frozenset(name for name in files if not STAYING.search(name)),
            frozenset(map(_bare, rules)),
        )

    def wait_until_again(self, cluster: Cluster, within: float = PATIENCE) -> None:
        """Wait until there is what there was, and nothing else."""

        def is_again() -> bool:
            now = Traces.of(cluster)
            assert now == self, f"this is left: {now.without(self)}, and this is missing: {self.without(now)}"
            return True

        eventually(is_again, AssertionError, within=within)

    def without(self, others: Traces) -> dict[str, list[str]]:
        """What is here, and not there."""
        return {
            "links": sorted(self.links - others.links),
            "files": sorted(self.files - others.files),
            "rules": sorted(self.rules - others.rules),
        }


def _bare(rule: str) -> str:
    """The rule without its counters."""
    return re.sub(r"counter packets \d+ bytes \d+ |\[\d+:\d+\]", "", rule)
