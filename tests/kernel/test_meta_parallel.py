"""Executed plugins of several networks run at the same time; what comes of it is as if they had not."""

from __future__ import annotations

import json
import os
import sys

import pytest
from conformance.plugin_call import in_process
from plexus_node import Node

from cni.meta import inherited

SCRIPT = """\
#!{python} -IS
import json, os, subprocess, sys, time

directory, record = {directory!r}, {record!r}
stdin = sys.stdin.read()
call = os.environ["CNI_COMMAND"] + " " + os.environ["CNI_IFNAME"]
told = json.load(open(directory + "/told")).get(call, {{}})

def note(what):
    with open(directory + "/log", "a") as log:
        log.write(what + "\\n")

def results():
    entries = json.load(open(record))["entries"] if os.path.exists(record) else []
    return ["result " + entry["ifname"] for entry in entries if entry["result"]]

note("begin " + call)
end = time.monotonic() + {bound}
while not set(told.get("await", ())) <= set(open(directory + "/log").read().splitlines() + results()):
    if time.monotonic() > end:
        note("gave up " + call)
        sys.exit(1)
    time.sleep(0.005)
if "link" in told:
    own, place = os.environ["CNI_IFNAME"], ["nsenter", "--net=" + os.environ["CNI_NETNS"]]
    subprocess.run([*place, "ip", "link", "add", own, "type", "veth", "peer", "name", "x" + own], check=True)
if "fail" in told:
    print(json.dumps({{"code": 100, "msg": told["fail"]}}))
elif os.environ["CNI_COMMAND"] == "ADD":
    address = "10.0.0.%d/24" % (2 + len(os.environ["CNI_IFNAME"]))
    print(json.dumps({{"cniVersion": "1.0.0", "ips": [{{"address": address}}]}}))
note("end " + call)
sys.exit("fail" in told)
"""
BOUND = 60
"""Seconds that plugins wait for each other, if they run one after another."""
NETS = ("net1", "net2", "net3")


class SlowNode:
    """Plugins that wait for each other, and a pod with networks of them."""

    def __init__(self, sandbox, directory):
        self.sandbox = sandbox
        self.directory = directory
        self.record = directory / "state" / "containers" / "c1@eth0.json"
        for name in ("bin", "manifests"):
            (directory / name).mkdir()
        (directory / "log").touch()
        text = SCRIPT.format(python=sys.executable, directory=str(directory), record=str(self.record), bound=BOUND)
        (directory / "bin" / "slow").write_text(text)
        (directory / "bin" / "slow").chmod(0o755)
        self.tell({})
        self.run_pod("a", "b", "c")

    def tell(self, told):
        """What plugins do, by command and interface: lines of the log, or results in the record, to wait for; fail."""
        (self.directory / "told").write_text(json.dumps(told))

    def run_pod(self, *networks, **keys):
        """A pod with these networks; `keys` are for their configurations, by name."""
        selections = [network if isinstance(network, dict) else {"name": network} for network in networks]
        metadata = {"name": "vm", "annotations": {"k8s.v1.cni.cncf.io/networks": json.dumps(selections)}}
        self.write("pod", {"kind": "Pod", "metadata": metadata})
        for name in {selection["name"] for selection in selections}:
            conf = {"cniVersion": "1.0.0", "name": name, "type": "slow"} | keys.get(name, {})
            definition = {"metadata": {"name": name}, "spec": {"config": json.dumps(conf)}}
            self.write(name, {"kind": "NetworkAttachmentDefinition"} | definition)

    def write(self, name, data):
        (self.directory / "manifests" / f"{name}.json").write_text(json.dumps(data))

    def call(self, command, **keys):
        conf = {
            "cniVersion": "1.0.0",
            "name": "plexus",
            "type": "plexus",
            "binDir": str(self.directory / "bin"),
            "cniDir": str(self.directory / "state"),
            "hostPaths": [str(self.directory)],
            "manifests": str(self.directory / "manifests"),
            "delegates": [{"cniVersion": "1.0.0", "name": "cluster", "type": "slow"}],
        }
        environ = {
            "PATH": os.environ["PATH"],
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": "c1",
            "CNI_NETNS": self.sandbox.path,
            "CNI_IFNAME": "eth0",
            "CNI_ARGS": "K8S_POD_NAMESPACE=default;K8S_POD_NAME=vm",
            "CNI_PATH": "/nowhere",
        }
        return in_process("plexus", environ, json.dumps(conf | keys).encode())

    def succeed(self, command, **keys):
        answer = self.call(command, **keys)
        assert answer.rc == 0, answer.stdout
        return answer

    def log(self, command):
        lines = (self.directory / "log").read_text().splitlines()
        return [line.replace(f"{command} ", "") for line in lines if f" {command} " in line]

    def status(self):
        path = self.directory / "state" / "network-status" / "default" / "vm.json"
        return [(status["name"], status["interface"]) for status in json.loads(path.read_text())]


@pytest.fixture
def node(sandbox, tmp_path, monkeypatch):
    monkeypatch.setattr(inherited, "MULTUS", str(tmp_path / "multus"))
    return SlowNode(sandbox, tmp_path)


def all_begin(command):
    """Each waits until all have begun."""
    return {f"{command} {net}": {"await": [f"begin {command} {other}" for other in NETS]} for net in NETS}


def one_after_another(*ifnames):
    return [f"{what} {ifname}" for ifname in ifnames for what in ("begin", "end")]


def test_additional_networks_are_attached_at_the_same_time(node):
    node.tell(all_begin("ADD"))

    node.succeed("ADD")

    assert node.log("ADD")[:2] == ["begin eth0", "end eth0"]
    assert sorted(node.log("ADD")[2:5]) == [f"begin {net}" for net in NETS]


def test_whichever_ends_first_status_and_record_have_the_pods_order(node):
    last_first = {"ADD net1": {"await": ["end ADD net2"]}, "ADD net2": {"await": ["end ADD net3"]}}
    node.tell(last_first)

    node.succeed("ADD")

    ends = [line for line in node.log("ADD") if line.startswith("end")]
    assert ends[-3:] == ["end net3", "end net2", "end net1"]
    expected = ["eth0", *NETS]
    assert [entry["ifname"] for entry in json.loads(node.record.read_text())["entries"]] == expected
    names = ["cluster", "default/a", "default/b", "default/c"]
    assert node.status() == list(zip(names, expected, strict=True))


def test_each_result_is_recorded_while_others_run(node):
    node.tell({"ADD net1": {"await": ["result eth0", "result net2"]}, "ADD net2": {"await": ["result net3"]}})

    node.succeed("ADD")

    ends = [line for line in node.log("ADD") if line.startswith("end")]
    assert ends == ["end eth0", "end net3", "end net2", "end net1"]


def test_when_one_fails_those_that_run_are_waited_for_and_all_are_undone(node):
    seen = {"await": ["end ADD net2"]}
    failing = {"await": ["begin ADD net1", "begin ADD net3"], "fail": "no wire"}
    node.tell({"ADD net1": seen, "ADD net2": failing, "ADD net3": seen})

    answer = node.call("ADD")

    assert answer.rc == 1
    assert answer.result["code"] == 100
    assert 'network "default/b", interface "net2"' in answer.result["msg"]
    assert "no wire" in answer.result["msg"]
    assert {"end net1", "end net3"} <= set(node.log("ADD"))
    assert node.log("DEL") == one_after_another("net3", "net2", "net1", "eth0")
    assert not node.record.exists()


def test_of_two_failures_the_first_in_the_pods_order_is_told(node, caplog):
    late = {"await": ["end ADD net3"], "fail": "late"}
    node.tell({"ADD net1": late, "ADD net3": {"await": ["begin ADD net1"], "fail": "early"}})

    answer = node.call("ADD")

    assert 'network "default/a"' in answer.result["msg"]
    assert "late" in answer.result["msg"]
    assert "early" in caplog.text


def test_what_was_not_begun_when_another_failed_is_not_undone(node):
    others = [f"begin ADD net{place}" for place in (2, 3, 4)]
    first_four = {f"ADD net{place}": {"await": ["end ADD net1"], "fail": "after"} for place in (2, 3, 4)}
    node.run_pod("a", "b", "c", "d", "e", "f")
    node.tell({"ADD net1": {"await": others, "fail": "no wire"}} | first_four)

    assert node.call("ADD").rc == 1

    begun = {line for line in node.log("ADD") if line.startswith("begin")}
    assert {line for line in node.log("DEL") if line.startswith("begin")} == begun
    assert begun == {f"begin {ifname}" for ifname in ("eth0", "net1", "net2", "net3", "net4")}


def test_no_more_than_four_run_at_the_same_time(node):
    nets = [f"net{place}" for place in range(1, 10)]
    node.run_pod(*[f"n{place}" for place in range(9)])
    node.tell({f"ADD {net}": {"await": [f"begin ADD {first}" for first in nets[:4]]} for net in nets[:4]})

    node.succeed("ADD")

    running = most = 0
    for line in node.log("ADD"):
        running += 1 if line.startswith("begin") else -1
        most = max(most, running)
    assert most == 4


@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_they_run_one_after_another_where_the_configuration_says_so(node, command):
    node.succeed("ADD", parallel=False)
    node.succeed("DEL", parallel=False)

    order = ["eth0", *NETS] if command == "ADD" else [*reversed(NETS), "eth0"]
    assert node.log(command) == one_after_another(*order)


def test_they_run_one_after_another_where_the_pod_chooses_its_default_route(node):
    node.run_pod("a", {"name": "b", "default-route": []}, "c")
    node.tell({f"ADD {ifname}": {"link": True} for ifname in ("eth0", *NETS)})

    node.succeed("ADD")

    assert node.log("ADD") == one_after_another("eth0", *NETS)


@pytest.mark.parametrize("key", ["linkInContainer", "linksInContainer"])
def test_what_works_on_others_interfaces_runs_after_them_and_before_the_rest(node, key):
    node.run_pod("a", "b", "c", "d", "e", c={key: True})
    pairs = [("net1", "net2"), ("net4", "net5")]
    node.tell({f"ADD {one}": {"await": [f"begin ADD {other}"]} for pair in pairs for one, other in (pair, pair[::-1])})

    node.succeed("ADD")

    log = node.log("ADD")
    assert [sorted(log[2:6]), log[6:8], sorted(log[8:])] == [
        sorted(one_after_another("net1", "net2")),
        one_after_another("net3"),
        sorted(one_after_another("net4", "net5")),
    ]


def test_networks_are_detached_at_the_same_time_and_the_cluster_network_last(node):
    node.tell(all_begin("DEL"))
    node.succeed("ADD")

    node.succeed("DEL")

    assert sorted(node.log("DEL")[:3]) == [f"begin {net}" for net in NETS]
    assert node.log("DEL")[-2:] == ["begin eth0", "end eth0"]
    assert not node.record.exists()


def test_what_could_not_be_detached_beside_others_stays_recorded_alone(node):
    node.tell({"DEL net2": {"fail": "stuck"}})
    node.succeed("ADD")

    answer = node.call("DEL")

    assert answer.rc == 1
    assert "stuck" in answer.result["msg"]
    assert [entry["ifname"] for entry in json.loads(node.record.read_text())["entries"]] == ["net2"]
    node.tell({})
    node.succeed("DEL")
    assert not node.record.exists()


def test_the_record_of_built_in_networks_goes_to_the_disk_before_the_first_and_after_the_last(
    host, sandbox, tmp_path, monkeypatch
):
    node = Node(host, sandbox, tmp_path)
    node.run("multus-br@net1,multus-br@net2,multus-br@net3")
    synced = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(_whose(descriptor)) or real(descriptor))

    node.add()

    own = [name for name in synced if "containers" in name]
    assert len(own) == 3
    assert own.count(str(tmp_path / "state" / "containers")) == 1
    entries = json.loads(node.record.read_text())["entries"]
    assert all(entry["result"] for entry in entries)


def _whose(descriptor):
    return os.readlink(f"/proc/self/fd/{descriptor}")
