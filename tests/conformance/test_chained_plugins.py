"""The reference's chained plugins after our bridge: each one's effect is there after add, and gone after del."""

import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from installed import NEW, OLD, launchers, reference_plugins
from runtimes import Runtime, bridge, container_id, leases
from throwaway import Host

CHAINED = ("tuning", "portmap", "bandwidth", "firewall", "sbr")
V4, V6 = "10.1.2.0/24", "fd00:1::/64"
OWN_V4, OWN_V6 = "10.1.2.2", "fd00:1::2"
HOST, NEIGHBOUR = "203.0.113.1", "203.0.113.2"
HOST6, NEIGHBOUR6 = "2001:db8:113::1", "2001:db8:113::2"
MAC = "02:00:00:00:00:05"
PORTS = {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}

TUNING = {"type": "tuning", "sysctl": {"net.ipv4.conf.eth0.arp_filter": "1"}, "mtu": 1300, "mac": MAC, "promisc": True}
PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}
BANDWIDTH = {
    "type": "bandwidth",
    "ingressRate": 8_000_000,
    "ingressBurst": 800_000,
    "egressRate": 4_000_000,
    "egressBurst": 400_000,
}
FIREWALL = {"type": "firewall", "backend": "iptables"}
SBR = {"type": "sbr"}


@pytest.fixture
def plexus(host: Host, tmp_path: Path) -> Runtime:
    """Our command, with our launchers and, after them, the reference plugins that distributions have."""
    ours = launchers(tmp_path)
    return Runtime(ours / "plexus", host, tmp_path / "net.d", (ours, reference_plugins(OLD, *CHAINED)))


@pytest.fixture(params=["plexus", "cnitool"])
def runtime(request: pytest.FixtureRequest, plexus: Runtime) -> Runtime:
    """Our command, and the real cnitool with the newest reference plugins."""
    if request.param == "plexus":
        return plexus
    newest = reference_plugins(NEW, "cnitool", *CHAINED)
    return replace(plexus, executable=newest / "cnitool", path=(plexus.path[0], newest))


@pytest.fixture
def neighbour(host: Host, sandbox: Host) -> Host:
    return host.neighbour()


def assert_nothing_is_left(runtime: Runtime, sandbox: Host, directory: Path) -> None:
    host = runtime.host
    assert [name for name in host.links() if name not in ("cni0", "uplink")] == ["lo"]
    assert sandbox.links() == ["lo"]
    assert host.policy_rules() + sandbox.policy_rules() == []
    assert [qdisc for qdisc in host.qdiscs() if qdisc["kind"] != "noqueue"] == []
    for trace in (OWN_V4, OWN_V6, container_id(sandbox)):
        assert trace not in host.firewall()
    assert leases(directory) == []
    assert host.files("/var/lib") + host.files("/run/cni") == []


def test_tuning_sets_what_it_is_told_and_puts_it_back(runtime: Runtime, sandbox: Host, tmp_path: Path):
    seen = tmp_path / "seen"
    runtime.configure("net", bridge(tmp_path, V4, mtu=1400), witness(tmp_path, seen), TUNING)

    result = runtime.add("net", sandbox)

    link = sandbox.link("eth0")
    assert (link["mtu"], link["address"], link["promiscuity"]) == (1300, MAC, 1)
    assert sandbox.sysctl("net/ipv4/conf/eth0/arp_filter") == "1"
    assert result["interfaces"][2]["mac"] == MAC
    before = json.loads(seen.read_text())[0]
    seen.unlink()
    runtime.run("check", "net", sandbox)
    runtime.run("del", "net", sandbox)
    after = json.loads(seen.read_text())[0]
    assert [after[key] for key in ("mtu", "address", "promiscuity")] == [1400, before["address"], 0]
    assert_nothing_is_left(runtime, sandbox, tmp_path)


def witness(directory: Path, seen: Path) -> dict[str, Any]:
    """A plugin between two others that notes how it finds the interface."""
    script = directory / "bin" / "witness"
    script.write_text(f"""#!/bin/sh
        input=$(cat)
        nsenter --net="$CNI_NETNS" ip -json -details link show dev "$CNI_IFNAME" >{shlex.quote(str(seen))}
        [ "$CNI_COMMAND" != ADD ] || printf %s "$input" |
            {sys.executable} -IS -c 'import json, sys; print(json.dumps(json.load(sys.stdin)["prevResult"]))'
        """)
    script.chmod(0o755)
    return {"type": "witness"}


def test_portmap_leads_a_neighbour_to_the_container(runtime: Runtime, sandbox: Host, neighbour: Host, tmp_path: Path):
    runtime.configure("net", bridge(tmp_path, V4, V6), PORTMAP)

    runtime.add("net", sandbox, CAP_ARGS=json.dumps(PORTS))

    # So that the host knows the container: a new bridge cannot ask until its link-local address is settled.
    assert sandbox.pings("fd00:1::1")
    with sandbox.serving(80):
        assert neighbour.hears(HOST, 8080) == f"you are {NEIGHBOUR}"
        assert neighbour.hears(HOST6, 8080) == f"you are {NEIGHBOUR6}"
        assert runtime.host.hears("127.0.0.1", 8080) == "you are 10.1.2.1"
        check(runtime, sandbox)
        runtime.run("del", "net", sandbox, CAP_ARGS=json.dumps(PORTS))
        assert neighbour.hears(HOST, 8080) == ""
    assert_nothing_is_left(runtime, sandbox, tmp_path)


def check(runtime: Runtime, sandbox: Host) -> None:
    """CHECK, but that of the old portmap fails whatever is there: it looks for IPv4's rules in ip6tables."""
    if runtime.name == "cnitool":
        runtime.run("check", "net", sandbox, CAP_ARGS=json.dumps(PORTS))


def test_bandwidth_shapes_both_ways(runtime: Runtime, sandbox: Host, tmp_path: Path):
    runtime.configure("net", bridge(tmp_path, V4), BANDWIDTH)

    result = runtime.add("net", sandbox)

    port, ifb = result["interfaces"][1]["name"], result["interfaces"][3]["name"]
    assert rates(runtime.host) == {port: 1_000_000, ifb: 500_000}
    assert sandbox.pings("10.1.2.1")
    runtime.run("check", "net", sandbox)
    runtime.run("del", "net", sandbox)
    assert_nothing_is_left(runtime, sandbox, tmp_path)


def rates(host: Host) -> dict[str, int]:
    """Bytes a second, by link."""
    return {qdisc["dev"]: qdisc["options"]["rate"] for qdisc in host.qdiscs() if qdisc["kind"] == "tbf"}


def test_firewall_lets_the_containers_traffic_pass(runtime: Runtime, sandbox: Host, neighbour: Host, tmp_path: Path):
    neighbour.ip(f"route add {V4} via {HOST}")
    runtime.host.run("iptables", "-P", "FORWARD", "DROP")
    runtime.configure("net", bridge(tmp_path, V4), FIREWALL)

    runtime.add("net", sandbox)

    assert sandbox.pings(NEIGHBOUR)
    assert f"-A CNI-FORWARD -s {OWN_V4}/32 -j ACCEPT" in runtime.host.firewall()
    assert neighbour.hears_nothing_from(OWN_V4)  # but what is begun elsewhere does not
    runtime.run("check", "net", sandbox)
    runtime.run("del", "net", sandbox)
    assert_nothing_is_left(runtime, sandbox, tmp_path)


def test_sbr_answers_by_the_interface_that_was_asked(runtime: Runtime, sandbox: Host, neighbour: Host, tmp_path: Path):
    neighbour.ip(f"route add 10.0.0.0/8 via {HOST}")
    runtime.host.ip("link add first type veth peer name eth0 netns sandbox")
    for where, link, number in ((runtime.host, "first", 1), (sandbox, "eth0", 2)):
        where.ip(f"addr add 10.7.7.{number}/24 dev {link}")
        where.ip(f"link set {link} up")
    sandbox.ip("route add default via 10.7.7.1")
    runtime.configure("net", bridge(tmp_path, V4, isDefaultGateway=False, isGateway=True), SBR)

    runtime.add("net", sandbox, CNI_IFNAME="net1")

    assert [(rule["src"], rule["table"]) for rule in sandbox.policy_rules()] == [(OWN_V4, "100")]
    routes = sandbox.ip_json("route show table 100")
    assert ("default", "10.1.2.1", "net1") in [(route["dst"], route.get("gateway"), route["dev"]) for route in routes]
    assert sandbox.ip_json(f"route get {NEIGHBOUR} from {OWN_V4}")[0]["dev"] == "net1"
    assert neighbour.pings(OWN_V4)
    runtime.run("check", "net", sandbox, CNI_IFNAME="net1")
    runtime.run("del", "net", sandbox, CNI_IFNAME="net1")
    runtime.host.ip("link del first")
    assert_nothing_is_left(runtime, sandbox, tmp_path)


def test_all_of_them_hold_together_in_one_list(runtime: Runtime, sandbox: Host, neighbour: Host, tmp_path: Path):
    runtime.configure("net", bridge(tmp_path, V4, V6), TUNING, PORTMAP, BANDWIDTH, FIREWALL, SBR)

    result = runtime.add("net", sandbox, CAP_ARGS=json.dumps(PORTS))

    link = sandbox.link("eth0")
    assert (link["mtu"], link["address"]) == (1300, MAC)
    assert len(rates(runtime.host)) == 2
    with sandbox.serving(80):
        assert neighbour.hears(HOST, 8080) == f"you are {NEIGHBOUR}"
    assert f"-A CNI-FORWARD -s {OWN_V4}/32 -j ACCEPT" in runtime.host.firewall()
    assert len(sandbox.policy_rules()) == len(result["ips"]) == 2
    check(runtime, sandbox)
    runtime.run("del", "net", sandbox, CAP_ARGS=json.dumps(PORTS))
    assert_nothing_is_left(runtime, sandbox, tmp_path)


def test_del_undoes_them_when_the_namespace_is_gone(runtime: Runtime, sandbox: Host, tmp_path: Path):
    """But for what the reference leaves by itself: tuning its backup, and sbr cannot be deleted at all (see below)."""
    runtime.configure("net", bridge(tmp_path, V4, V6), PORTMAP, BANDWIDTH, FIREWALL)
    runtime.add("net", sandbox, CAP_ARGS=json.dumps(PORTS))
    runtime.host.ip("netns del sandbox")

    runtime.run("del", "net", sandbox, CAP_ARGS=json.dumps(PORTS))

    assert_nothing_is_left(runtime, runtime.host.namespace("sandbox"), tmp_path)


def test_a_plugin_whose_del_fails_does_not_keep_our_command_from_undoing_the_others(
    plexus: Runtime, sandbox: Host, tmp_path: Path
):
    """Where the namespace is gone, sbr's DEL makes a file in its place, to lock it, and fails over that."""
    plexus.configure("net", bridge(tmp_path, V4, V6), PORTMAP, BANDWIDTH, FIREWALL, SBR)
    plexus.add("net", sandbox, CAP_ARGS=json.dumps(PORTS))
    plexus.host.ip("netns del sandbox")

    done = plexus.call("del", "net", sandbox)

    assert done.returncode == 1
    assert done.stderr.startswith('plexus: plugin type="sbr" failed (delete): unknown FS magic')
    cached = f"/var/lib/cni/results/net-{container_id(sandbox)}-eth0"
    assert plexus.host.files("/var/lib") == [cached]
    plexus.host.run("rm", cached, sandbox.path)
    assert_nothing_is_left(plexus, plexus.host.namespace("sandbox"), tmp_path)
