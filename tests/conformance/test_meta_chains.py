"""What a directory adds to a network, and the auxiliary chain: the plugins run, and are undone as they ran.

All plugins are executed, and note what they are called with.
"""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_plugin import Plugins, failure
from plugin_call import LAUNCH, ROOT, Answer
from throwaway import Host

POD_ARGS = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=vm"
PORTS = {"portMappings": [{"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": "10.0.0.1"}]}


class Node:
    """A host with plexus, whose cluster network is the list `main` of a directory."""

    def __init__(self, host: Host, sandbox: Host, directory: Path) -> None:
        self.host = host
        self.sandbox = sandbox
        self.directory = directory
        self.net_d = directory / "net.d"
        self.manifests = directory / "manifests"
        self.records = directory / "state" / "containers"
        self.net_d.mkdir()
        self.manifests.mkdir()
        self.plugins = Plugins(directory)
        for kind in ("main", "dropped", "last", "other"):
            self.plugins.install(kind)
        self.conf = {
            "cniVersion": "1.1.0",
            "name": "plexus",
            "clusterNetwork": str(self.net_d / "10-main.conflist"),
            "confDir": str(self.net_d),
            "manifests": str(self.manifests),
            "cniDir": str(directory / "state"),
            "binDir": str(self.plugins.directory),
        }
        self.cluster_network()
        self.run_pod()

    def cluster_network(self, **keys: Any) -> None:
        self.write(
            "net.d/10-main.conflist", {"cniVersion": "1.1.0", "name": "main", "plugins": [{"type": "main"}]} | keys
        )

    def write(self, name: str, data: Any) -> Path:
        path = self.directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(data))
        return path

    def define(self, name: str, conf: dict[str, Any] | None, namespace: str = "default") -> None:
        spec = {"config": json.dumps(conf)} if conf else {}
        metadata = {"name": name, "namespace": namespace}
        self.write(
            f"manifests/{name}.json", {"kind": "NetworkAttachmentDefinition", "metadata": metadata, "spec": spec}
        )

    def run_pod(self, networks: str = "") -> None:
        metadata = {"name": "vm", "annotations": {"k8s.v1.cni.cncf.io/networks": networks}}
        self.write("manifests/pod.json", {"kind": "Pod", "metadata": metadata})

    def call(self, command: str, **conf: Any) -> Answer:
        environ = {
            "PATH": os.environ["PATH"],
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": "c1",
            "CNI_NETNS": self.sandbox.path,
            "CNI_IFNAME": "eth0",
            "CNI_ARGS": POD_ARGS,
            "CNI_PATH": "/nonexistent",
        }
        launch = [sys.executable, "-I", "-c", LAUNCH, str(ROOT), "plexus"]
        done = self.host.call(*launch, stdin=json.dumps(self.conf | conf), environ=environ)
        return Answer(done.returncode, done.stdout, done.stderr)

    def succeed(self, command: str, **conf: Any) -> list[str]:
        """Make a call, and return those that it made."""
        before = len(self.plugins.commands)
        answer = self.call(command, **conf)
        assert answer.rc == 0, answer.stdout
        return self.plugins.commands[before:]

    def interfaces(self) -> list[str]:
        return [f"{call['type']} {call['environ']['CNI_IFNAME']}" for call in self.plugins.calls]

    def stdin(self, command: str, kind: str) -> dict[str, Any]:
        """What the plugin was told at its latest call of that command."""
        name = f"{command} {kind}"
        place = max(index for index, told in enumerate(self.plugins.commands) if told == name)
        return self.plugins.confs()[place]


@pytest.fixture
def node(host: Host, sandbox: Host, tmp_path: Path) -> Node:
    return Node(host, sandbox, tmp_path)


def by_file(node: Node) -> None:
    """The cluster network is named as the fixture has it."""


def by_directory(node: Node) -> None:
    node.conf["clusterNetwork"] = f"{node.net_d}/"


def by_name(node: Node) -> None:
    node.conf["clusterNetwork"] = "main"


def by_definition_without_configuration(node: Node) -> None:
    node.conf["clusterNetwork"] = "main"
    node.define("main", None, namespace="kube-system")


@pytest.mark.parametrize("find", [by_file, by_directory, by_name, by_definition_without_configuration])
def test_the_plugins_of_a_networks_directory_run_however_the_network_is_found(find: Any, node: Node):
    node.write("net.d/main/20.conf", {"type": "last"})
    node.write("net.d/main/10.conf", {"type": "dropped", "k": {"deep": [1]}})
    find(node)

    assert node.succeed("ADD") == ["ADD main", "ADD dropped", "ADD last"]
    assert node.succeed("CHECK") == ["CHECK main", "CHECK dropped", "CHECK last"]
    told = node.stdin("ADD", "dropped")
    assert (told["name"], told["cniVersion"], told["k"]) == ("main", "1.1.0", {"deep": [1]})
    assert told["prevResult"]["ips"] == [{"address": "10.0.0.2/24"}]

    shutil.rmtree(node.net_d)
    assert node.succeed("DEL") == ["DEL last", "DEL dropped", "DEL main"]
    assert list(node.records.iterdir()) == []


def test_the_plugins_of_an_additional_networks_directory_run_too(node: Node):
    node.define("rack", None)
    node.write("net.d/20-rack.conflist", {"cniVersion": "1.0.0", "name": "rack", "plugins": [{"type": "other"}]})
    node.write("net.d/rack/10.conf", {"type": "dropped"})
    node.run_pod("rack")

    assert node.succeed("ADD") == ["ADD main", "ADD other", "ADD dropped"]
    assert node.interfaces() == ["main eth0", "other net1", "dropped net1"]
    assert node.succeed("DEL") == ["DEL dropped", "DEL other", "DEL main"]


@pytest.mark.parametrize("only", [True, "true", "TRUE"])
def test_a_list_can_do_without_its_directory(only: Any, node: Node):
    node.write("net.d/main/10.conf", {"type": "dropped"})
    node.cluster_network(loadOnlyInlinedPlugins=only)
    assert node.succeed("ADD") == ["ADD main"]


@pytest.mark.parametrize("disabled", [True, "true"])
def test_a_list_can_do_without_check_and_gc(disabled: Any, node: Node):
    node.cluster_network(disableCheck=disabled, disableGC=disabled)
    assert node.succeed("ADD") == ["ADD main"]
    assert node.succeed("CHECK") == []
    valid = [{"containerID": "c1", "ifname": "eth0"}]
    assert node.succeed("GC", **{"cni.dev/valid-attachments": valid}) == []


def test_a_list_of_versions_has_the_newest_that_is_spoken(node: Node):
    node.cluster_network(cniVersion=None, cniVersions=["99.0.0", "0.4.0", "1.0.0"])
    node.write("net.d/main/10.conf", {"type": "dropped"})
    node.succeed("ADD")
    assert [told["cniVersion"] for told in node.plugins.confs()] == ["1.0.0", "1.0.0"]


def test_what_the_runtime_asks_reaches_the_cluster_network_as_it_was_written_and_no_other(node: Node):
    claims = {"capabilities": {"portMappings": True, "made up": True}}
    node.cluster_network(plugins=[{"type": "main"} | claims])
    node.define("more", {"cniVersion": "1.0.0", "type": "other"} | claims)
    node.run_pod("more")
    node.conf["auxiliaryCNIChainName"] = "chain"
    node.write("net.d/chain/10.conf", {"type": "last"} | claims)

    asked = PORTS | {"made up": {"x": [None, 1.5]}, "not claimed": 1}
    node.succeed("ADD", runtimeConfig=asked, capabilities=claims["capabilities"])
    node.succeed("DEL")

    for command in ("ADD", "DEL"):
        assert node.stdin(command, "main")["runtimeConfig"] == PORTS | {"made up": {"x": [None, 1.5]}}
        assert "runtimeConfig" not in node.stdin(command, "other")
        assert "runtimeConfig" not in node.stdin(command, "last")


@pytest.fixture
def chained(node: Node) -> Node:
    """The node with an auxiliary chain, and a pod with a network of its own."""
    node.conf["auxiliaryCNIChainName"] = "chain"
    node.write("net.d/chain/20.conf", {"type": "last"})
    node.write("net.d/chain/10.conf", {"type": "dropped"})
    node.define("more", {"cniVersion": "1.0.0", "type": "other"})
    node.run_pod("more")
    return node


def test_the_auxiliary_chain_runs_last_and_is_undone_first(chained: Node):
    chained.plugins.install("other", ADD={"stdout": json.dumps({"cniVersion": "1.0.0"})})

    assert chained.succeed("ADD") == ["ADD main", "ADD other", "ADD dropped", "ADD last"]
    assert chained.interfaces() == ["main eth0", "other net1", "dropped net2", "last net2"]
    assert chained.stdin("ADD", "dropped")["prevResult"] == {"cniVersion": "1.1.0"}
    assert chained.stdin("ADD", "dropped")["name"] == "chain"
    assert chained.succeed("CHECK") == ["CHECK main", "CHECK other"]  # there is no net2 to look at

    shutil.rmtree(chained.net_d)
    assert chained.succeed("DEL") == ["DEL last", "DEL dropped", "DEL other", "DEL main"]
    assert chained.succeed("DEL") == []


def test_an_auxiliary_chain_that_fails_takes_everything_back(chained: Node):
    chained.plugins.install("last", ADD=failure(code=111, msg="no more"))

    answer = chained.call("ADD")

    assert answer.rc == 1
    assert answer.result["code"] == 111
    assert 'network "chain", interface "net2"' in answer.result["msg"]
    undone = ["DEL last", "DEL dropped", "DEL other", "DEL main"]
    assert chained.plugins.commands == ["ADD main", "ADD other", "ADD dropped", "ADD last", *undone]
    assert list(chained.records.iterdir()) == []


def test_status_and_gc_ask_the_auxiliary_chain_too(chained: Node):
    assert chained.succeed("STATUS") == ["STATUS main", "STATUS dropped", "STATUS last"]
    chained.plugins.install("last", STATUS=failure(code=50, msg="not now"))
    assert chained.call("STATUS").result["code"] == 50
    assert chained.succeed("GC") == ["GC main", "GC dropped", "GC last"]


def test_a_wrong_auxiliary_chain_is_an_error_before_anything_is_made(chained: Node):
    chained.write("net.d/chain/15.conf", {"no": "type"})
    answer = chained.call("ADD")
    assert answer.rc == 1
    assert f'in "{chained.net_d}/chain/15.conf"' in answer.result["details"]
    assert chained.plugins.commands == []
