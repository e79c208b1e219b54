#!/usr/bin/env python3
"""How much longer `bridge` ADD takes with IPv6 than with IPv4, without duplicate address detection.

Usage: python bench/ipv6.py [RUNS]    as root, in an environment that has plexus' dependencies

Attaches and detaches a sandbox by turns with an IPv4 address, an IPv6 address, and both, in this process and in
namespaces of its own, and prints the medians and their ratio to that of IPv4. Runs are interleaved, so that whatever
else the machine does slows all of them.
"""

from __future__ import annotations

import contextlib
import functools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cni.linux import netns
from cni.plugin import invoke
from cni.spec.request import Request

SUBNETS = {
    "IPv4": ("10.1.2.0/24",),
    "IPv6": ("fd00:1::/64",),
    "both": ("10.1.2.0/24", "fd00:1::/64"),
}
RUNS = 101


def main() -> None:
    """Measure and print."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    with _namespace("host") as host, _namespace("pod") as pod, tempfile.TemporaryDirectory() as leases:
        requests = {kind: _request(pod, kind, subnets, leases) for kind, subnets in SUBNETS.items()}
        measured = netns.run_inside(host, functools.partial(_measure, requests, runs))
    base = statistics.median(measured["IPv4"])
    print(f"bridge ADD, gateway and default route, {runs} runs each, median")  # noqa: T201
    for kind, seconds in measured.items():
        median = statistics.median(seconds)
        print(f"{kind}  {median * 1000:6.2f} ms  {median / base:.2f} x IPv4")  # noqa: T201


def _measure(requests: dict[str, Request], runs: int) -> dict[str, list[float]]:
    measured: dict[str, list[float]] = {kind: [] for kind in requests}
    for run in range(-2, runs):  # the first two pay for imports and for the bridge
        for kind, request in requests.items():
            seconds = _attach_and_detach(request)
            if run >= 0:
                measured[kind].append(seconds)
    return measured


def _attach_and_detach(request: Request) -> float:
    begin = time.perf_counter()
    invoke.call("bridge", request)
    seconds = time.perf_counter() - begin
    invoke.call("bridge", request.replace(command="DEL"))
    return seconds


def _request(pod: str, kind: str, subnets: tuple[str, ...], leases: str) -> Request:
    ipam = {"type": "host-local", "dataDir": leases, "ranges": [[{"subnet": subnet}] for subnet in subnets]}
    conf = {"cniVersion": "1.1.0", "name": kind, "type": "bridge", "bridge": f"br-{kind.lower()}"}
    return Request(
        command="ADD", container_id="bench", netns=pod, ifname="eth0", path=("/nonexistent",), environ=dict(os.environ)
    ).with_conf(conf | {"isDefaultGateway": True, "enabledad": False, "ipam": ipam})


@contextlib.contextmanager
def _namespace(role: str) -> Iterator[str]:
    name = f"bench{os.getpid()}-{role}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield f"/run/netns/{name}"
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


if __name__ == "__main__":
    main()
