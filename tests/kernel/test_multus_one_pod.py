"""One pod's life as it was recorded under Multus, played to plexus: the same calls of the same plugins."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from conformance.fake_plugin import Plugins
from conformance.plugin_call import in_process
from vectors import cases

from cni.meta import inherited

RECORDED = "multus_one_pod"
DIFFERENCES = {
    "capabilities": "the CNI specification wants it dropped, libcni passes it on",
    "CNI_ARGS": "each pair once; Multus has most of them twice",
    "CNI_PATH": "each directory once; Multus puts binDir in front of a path that has it",
}
"""What of a call is otherwise, and why; whatever else is must be the same."""


@pytest.fixture
def life(sandbox, tmp_path, monkeypatch):
    monkeypatch.setattr(inherited, "MULTUS", str(tmp_path / "multus"))
    text = (cases.FOLDER / f"{RECORDED}.json").read_text().replace("$NETNS", sandbox.path)
    return Life(json.loads(text), sandbox.path, tmp_path)


class Life:
    """The record, a node that has what the recorded one had, and plugins that answer what they answered."""

    def __init__(self, recorded: dict[str, Any], sandbox: str, directory) -> None:
        self.recorded = recorded
        self.sandbox = sandbox
        self.directory = directory
        self.plugins = Plugins(directory)
        for kind in ("bridge", "portmap"):
            answers = {
                f"{call['command']} {call['ifname']}": {"stdout": json.dumps(call.get("result", ""))}
                for call in recorded["delegates"]
                if call["plugin"] == kind
            }
            self.plugins.install(kind, **answers)
        self._write_manifests()

    def _write_manifests(self) -> None:
        manifests = self.directory / "manifests"
        manifests.mkdir()
        annotations = {"k8s.v1.cni.cncf.io/networks": self.recorded["annotation"]}
        pod = {"kind": "Pod", "metadata": {"name": "g1", "annotations": annotations}}
        (manifests / "pod.json").write_text(json.dumps(pod))
        for full_name, conf in self.recorded["definitions"].items():
            namespace, name = full_name.split("/")
            metadata = {"name": name, "namespace": namespace}
            definition = {"metadata": metadata, "spec": {"config": json.dumps(conf)}}
            (manifests / f"{name}.json").write_text(json.dumps({"kind": "NetworkAttachmentDefinition"} | definition))

    def play(self) -> list[dict[str, Any]]:
        """Call plexus as the runtime called Multus; return the results."""
        return [self._call(call) for call in self.recorded["runtime"]]

    def _call(self, call: dict[str, Any]) -> dict[str, Any]:
        ours = {
            "binDir": str(self.plugins.directory),
            "cniDir": str(self.directory / "state"),
            "hostPaths": [str(self.directory)],
            "manifests": str(self.directory / "manifests"),
            "external": ["bridge"],
            "parallel": False,  # as in Multus
        }
        environ = {
            "CNI_COMMAND": call["command"],
            "CNI_CONTAINERID": self.recorded["container"],
            "CNI_NETNS": self.sandbox,
            "CNI_IFNAME": call["ifname"],
            "CNI_ARGS": call["args"],
            "CNI_PATH": str(self.plugins.directory),
            "PATH": os.environ["PATH"],
        }
        answer = in_process("plexus", environ, json.dumps(call["stdin"] | ours).encode())
        assert answer.rc == 0, answer.stdout
        return answer.result if answer.stdout else {}


def _pairs(args):
    found = dict(pair.split("=") for pair in args.split(";"))
    return found | {"IgnoreUnknown": "true"}


def test_the_same_plugins_are_called_in_the_same_order(life):
    life.play()

    expected = [f"{call['command']} {call['plugin']} {call['ifname']}" for call in life.recorded["delegates"]]
    found = [f"{command} {call['environ']['CNI_IFNAME']}" for command, call in _called(life)]
    assert found == expected


def _called(life):
    return zip(life.plugins.commands, life.plugins.calls, strict=True)


def test_each_reads_the_same_from_stdin(life):
    life.play()

    expected = [
        {key: value for key, value in call["stdin"].items() if key not in DIFFERENCES} for call in _theirs(life)
    ]
    assert life.plugins.confs() == expected


def _theirs(life):
    return life.recorded["delegates"]


def test_each_finds_the_same_in_its_environment(life):
    life.play()

    for (_, ours), theirs in zip(_called(life), _theirs(life), strict=True):
        environ = ours["environ"]
        assert environ["CNI_CONTAINERID"] == life.recorded["container"]
        assert environ["CNI_NETNS"] == life.sandbox
        assert _pairs(environ["CNI_ARGS"]) == _pairs(theirs["args"])
        assert environ["CNI_ARGS"].count(";") == len(_pairs(theirs["args"])) - 1
        assert environ["CNI_PATH"] == str(life.plugins.directory)


def test_the_runtime_gets_the_same_result(life):
    results = life.play()

    assert results == [call.get("result", {}) for call in life.recorded["runtime"]]


def test_every_difference_is_seen(life):
    """Else it is none any more."""
    assert any("capabilities" in call["stdin"] for call in _theirs(life))
    assert all(len(call["args"].split(";")) > len(_pairs(call["args"])) for call in _theirs(life))
    assert all(len(set(call["path"].split(":"))) < len(call["path"].split(":")) for call in _theirs(life))
