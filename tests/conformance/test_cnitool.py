"""The real cnitool drives our executables, and can be used alternately with our command: both keep the same cache."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from installed import NEW, launchers, reference_plugins
from runtimes import Runtime, bridge, container_id, leases
from throwaway import Host

MAC = "02:00:00:00:00:05"
GIVEN = {
    "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAME=vm",
    "CAP_ARGS": json.dumps({"mac": MAC, "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}),
}
TUNING = {"type": "tuning", "sysctl": {"net.core.somaxconn": "500"}, "capabilities": {"mac": True}}
PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}}
V4, V6 = "10.1.2.0/24", "fd00:1::/64"


@pytest.fixture
def plexus(host: Host, tmp_path: Path) -> Runtime:
    """Our command, with our launchers and, after them, the newest reference plugins."""
    ours = launchers(tmp_path)
    theirs = reference_plugins(NEW, "cnitool", "tuning", "portmap")
    return Runtime(ours / "plexus", host, tmp_path / "net.d", (ours, theirs))


@pytest.fixture
def cnitool(plexus: Runtime) -> Runtime:
    """The real one, with the same plugins."""
    return replace(plexus, executable=plexus.path[1] / "cnitool")


@pytest.fixture(params=["plexus, cnitool", "cnitool, plexus"])
def alternately(request: pytest.FixtureRequest, plexus: Runtime, cnitool: Runtime) -> list[Runtime]:
    """Both, in either order."""
    return [{"plexus": plexus, "cnitool": cnitool}[name] for name in request.param.split(", ")]


def assert_nothing_is_left(host: Host, sandbox: Host, directory: Path) -> None:
    assert [name for name in host.links() if name != "cni0"] == ["lo"]
    assert sandbox.links() == ["lo"]
    assert container_id(sandbox) not in host.firewall()
    assert leases(directory) == []
    files = host.files("/var/lib") + host.files("/run/cni")
    assert [path for path in files if not path.endswith("/executing.lock")] == []


OURS: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    ("0.3.1", {"type": "bridge", "isDefaultGateway": True}, (V4, V6)),
    ("0.4.0", {"type": "bridge"}, ()),
    ("1.0.0", {"type": "ptp"}, (V4, V6)),
    ("1.1.0", {"type": "veth", "ipMasq": True}, (V4, V6)),
]


@pytest.mark.parametrize(("version", "conf", "subnets"), OURS)
def test_cnitool_attaches_with_our_plugins(
    version: str, conf: dict[str, Any], subnets: tuple[str, ...], cnitool: Runtime, sandbox: Host, tmp_path: Path
):
    ipam = {"ipam": bridge(tmp_path, *subnets)["ipam"]} if subnets else {}
    cnitool.configure("net", conf | ipam, version=version)

    result = cnitool.add("net", sandbox)

    assert result["cniVersion"] == version
    assert sandbox.addresses("eth0") == [ip["address"] for ip in result.get("ips", ())]
    assert all(cnitool.host.pings(ip["address"].split("/")[0]) for ip in result.get("ips", ()))
    if version != "0.3.1":
        cnitool.run("check", "net", sandbox)
    cnitool.run("del", "net", sandbox)
    assert_nothing_is_left(cnitool.host, sandbox, tmp_path)


def test_cnitool_attaches_a_pod_to_all_of_its_networks(cnitool: Runtime, sandbox: Host, tmp_path: Path):
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    second = bridge(tmp_path, "10.9.9.0/24", bridge="br9") | {"cniVersion": "1.0.0", "name": "second"}
    definition = {
        "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": "second"},
        "spec": {"config": json.dumps(second)},
    }
    pod = {"kind": "Pod", "metadata": {"name": "vm", "annotations": {"k8s.v1.cni.cncf.io/networks": "second"}}}
    (manifests / "all.json").write_text(json.dumps({"kind": "List", "items": [definition, pod]}))
    first = bridge(tmp_path, V4) | {"cniVersion": "1.0.0", "name": "first"}
    paths = {"manifests": str(manifests), "hostPaths": [str(tmp_path)]}
    cnitool.configure("net", {"type": "plexus", "delegates": [first]} | paths)
    args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=vm"

    result = cnitool.add("net", sandbox, CNI_ARGS=args)

    assert [ip["address"] for ip in result["ips"]] == sandbox.addresses("eth0") == ["10.1.2.2/24"]
    assert sandbox.addresses("net1") == ["10.9.9.2/24"]
    cnitool.run("check", "net", sandbox, CNI_ARGS=args)
    cnitool.run("del", "net", sandbox, CNI_ARGS=args)
    cnitool.host.ip("link del br9")
    assert_nothing_is_left(cnitool.host, sandbox, tmp_path)


def test_cnitool_tells_what_our_plugins_say(cnitool: Runtime, sandbox: Host, tmp_path: Path):
    cnitool.configure("net", bridge(tmp_path, "10.1.2.0/30"), version="1.1.0")
    cnitool.run("status", "net", sandbox)
    cnitool.run("add", "net", sandbox)

    for verb, said in (("status", ""), ("add", 'plugin type="bridge" failed (add): ')):
        done = cnitool.call(verb, "net", sandbox, CNI_IFNAME="eth1")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(said)
        assert "no IP addresses available in range set: 10.1.2.1-10.1.2.2" in done.stderr


def test_either_checks_and_deletes_what_the_other_added(alternately: list[Runtime], sandbox: Host, tmp_path: Path):
    adder, deleter = alternately
    adder.configure("net", bridge(tmp_path, V4, V6), TUNING, PORTMAP)

    adder.run("add", "net", sandbox, **GIVEN)

    assert sandbox.link("eth0")["address"] == MAC
    with sandbox.serving(80):
        assert adder.host.hears("127.0.0.1", 8080) == "you are 10.1.2.1"
    for runtime in alternately:
        runtime.run("check", "net", sandbox, **GIVEN)
    deleter.run("del", "net", sandbox, **GIVEN)
    assert_nothing_is_left(adder.host, sandbox, tmp_path)


def test_either_collects_what_the_other_added(alternately: list[Runtime], sandbox: Host, tmp_path: Path):
    adder, collector = alternately
    adder.configure("net", bridge(tmp_path, V4, V6), TUNING, PORTMAP, version="1.1.0")
    adder.run("add", "net", sandbox, **GIVEN)
    adder.run("add", "net", sandbox, CNI_IFNAME="eth1")

    collector.run("gc", "net", sandbox)

    assert_nothing_is_left(adder.host, sandbox, tmp_path)


def test_our_command_takes_from_cnitools_cache_what_it_is_not_given(
    plexus: Runtime, cnitool: Runtime, sandbox: Host, tmp_path: Path
):
    cnitool.configure("net", bridge(tmp_path, V4, V6), TUNING, PORTMAP)
    cnitool.run("add", "net", sandbox, **GIVEN)

    plexus.run("check", "net", sandbox)
    plexus.run("del", "net", sandbox)

    assert_nothing_is_left(plexus.host, sandbox, tmp_path)


def test_both_print_the_same_and_leave_the_same_file(plexus: Runtime, cnitool: Runtime, sandbox: Host, tmp_path: Path):
    plexus.configure("net", bridge(tmp_path, V4, V6), TUNING, PORTMAP)
    path = f"/var/lib/cni/results/net-{container_id(sandbox)}-eth0"
    seen = []
    for runtime in (plexus, cnitool):
        printed = runtime.run("add", "net", sandbox, **GIVEN)
        kept = json.loads(runtime.host.run("cat", path))
        modes = runtime.host.run("stat", "-c", "%a %U %F", "/var/lib/cni/results", path)
        seen.append((printed, kept, modes))
        runtime.run("del", "net", sandbox, **GIVEN)
        for name in tmp_path.glob("leases/*/last_reserved_ip.*"):
            name.unlink()

    random = re.compile(r"veth[0-9a-f]{8}|([0-9a-f]{2}:){5}..")
    ours, theirs = (json.loads(random.sub("X", json.dumps(found))) for found in seen)
    assert ours == theirs
