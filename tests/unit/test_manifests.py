"""Pods and definitions from a directory of manifests."""

from __future__ import annotations

import json
import os

import pytest

from cni.kube.manifests import Manifests
from cni.kube.objects import Pod
from cni.spec.errors import CNIError, DecodingFailure, InvalidConfiguration, PluginUnavailable, TryAgainLater

NAD = """\
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata:
  name: multus-br
spec:
  config: '{"cniVersion": "0.3.1", "type": "bridge"}'
"""
POD = """\
apiVersion: v1
kind: Pod
metadata:
  name: virt-launcher-vm1
  namespace: vms
  uid: 5a3b
  annotations:
    k8s.v1.cni.cncf.io/networks: default/multus-br
"""
UNCLOSED_QUOTE = """\
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata:
  name: multus-br
spec:
  config: '{
      "cniVersion": "0.3.1",
      "type": "bridge",
      "bridge": "multus-bridge"
    }
"""


@pytest.fixture
def manifests(tmp_path):
    directory = tmp_path / "manifests"
    directory.mkdir()
    return Manifests(str(directory), str(tmp_path / "network-status"))


def _write(manifests: Manifests, name: str, text: str) -> None:
    with open(os.path.join(manifests.directory, name), "w") as file:
        file.write(text)


def test_a_pod_and_a_definition_are_found_in_one_file(manifests):
    _write(manifests, "all.yaml", f"{NAD}---\n{POD}")

    pod = manifests.get_pod("vms", "virt-launcher-vm1")
    definition = manifests.find_network("default", "multus-br")

    assert pod == Pod(
        namespace="vms",
        name="virt-launcher-vm1",
        uid="5a3b",
        annotations={"k8s.v1.cni.cncf.io/networks": "default/multus-br"},
    )
    assert definition is not None
    assert json.loads(definition.config)["type"] == "bridge"


def test_objects_are_found_in_json_and_in_lists(manifests):
    pod = {"kind": "Pod", "metadata": {"name": "p", "namespace": "n"}}
    _write(manifests, "list.json", json.dumps({"kind": "List", "items": [pod]}))

    assert manifests.get_pod("n", "p").annotations == {}


def test_a_pod_that_no_manifest_defines_is_unknown_not_without_networks(manifests):
    with pytest.raises(TryAgainLater, match='"vms/nobody"'):
        manifests.get_pod("vms", "nobody")


def test_a_missing_directory_is_an_error_to_retry(tmp_path):
    with pytest.raises(TryAgainLater, match="No such file"):
        Manifests(str(tmp_path / "none"), "").get_pod("a", "b")


def test_a_definition_that_does_not_exist_is_none(manifests):
    _write(manifests, "pod.yaml", POD)

    assert manifests.find_network("default", "multus-br") is None


def test_a_changed_manifest_is_read_again(manifests):
    _write(manifests, "nad.yaml", NAD)
    assert manifests.find_network("default", "other") is None

    _write(manifests, "nad.yaml", NAD.replace("multus-br", "other"))

    assert manifests.find_network("default", "other") is not None
    assert manifests.find_network("default", "multus-br") is None


def test_a_missing_closing_quote_is_told_with_its_place(manifests):
    _write(manifests, "nad.yaml", UNCLOSED_QUOTE)

    with pytest.raises(DecodingFailure) as caught:
        manifests.find_network("default", "multus-br")

    assert "nad.yaml" in caught.value.msg
    assert "line 6" in caught.value.details  # where the quote opens
    assert "quoted scalar" in caught.value.details


def test_a_broken_manifest_is_no_obstacle_to_what_others_define(manifests):
    _write(manifests, "bad.yaml", UNCLOSED_QUOTE)
    _write(manifests, "pod.yaml", POD)

    assert manifests.get_pod("vms", "virt-launcher-vm1").uid == "5a3b"


def test_an_object_defined_twice_is_refused(manifests):
    _write(manifests, "a.yaml", NAD)
    _write(manifests, "b.yaml", NAD)

    with pytest.raises(InvalidConfiguration, match=r"multus-br"):
        manifests.find_network("default", "multus-br")


@pytest.mark.parametrize(
    "text",
    [
        NAD.replace("'{", "{").replace("}'", "}"),  # a mapping where a string that holds JSON is meant
        POD.replace("default/multus-br", "[a, b]"),
        POD.replace("default/multus-br", "5"),
    ],
)
def test_values_of_the_wrong_type_are_refused(manifests, text):
    _write(manifests, "x.yaml", text)

    with pytest.raises(InvalidConfiguration, match="must be a string"):
        manifests.find_network("default", "multus-br") or manifests.get_pod("vms", "virt-launcher-vm1")


@pytest.mark.parametrize("text", ["", "---\n", "5\n", "- 1\n", "kind: Pod\n", "kind: Pod\nmetadata: 5\n"])
def test_documents_that_are_no_objects_are_passed_over(manifests, text):
    _write(manifests, "x.yaml", text)

    assert manifests.find_network("default", "x") is None


def test_a_hidden_or_foreign_file_is_not_read(manifests):
    _write(manifests, ".nad.yaml.swp", NAD)
    _write(manifests, ".nad.yaml", NAD)
    _write(manifests, "nad.txt", NAD)

    assert manifests.find_network("default", "multus-br") is None


def test_ready_means_that_every_manifest_can_be_read(manifests):
    manifests.check_ready()
    _write(manifests, "bad.yaml", UNCLOSED_QUOTE)

    with pytest.raises(PluginUnavailable, match=r"bad\.yaml"):
        manifests.check_ready()


def test_network_status_is_published_and_taken_back(manifests):
    pod = Pod(namespace="vms", name="p")
    path = os.path.join(manifests.status_directory, "vms", "p.json")

    manifests.publish(pod, "[1]")
    with open(path) as file:
        assert file.read() == "[1]"
    manifests.withdraw("vms", "p", "[2]".__eq__)  # another sandbox of the pod has published since
    assert os.path.exists(path)
    manifests.withdraw("vms", "p", "[1]".__eq__)
    assert not os.path.exists(path)
    manifests.withdraw("vms", "p", "[1]".__eq__)


def test_with_a_network_status_goes_what_a_killed_call_has_left_of_it(manifests, tmp_path):
    manifests.publish(Pod(namespace="vms", name="p"), "[1]")
    manifests.withdraw("vms", "p")
    (directory,) = tmp_path.rglob("vms")
    (directory / ".p.json.tmp").write_text("[")
    manifests.withdraw("vms", "p", "[1]".__eq__)
    assert list(directory.iterdir()) == []


def test_yaml_cannot_make_objects_of_python(manifests, tmp_path):
    _write(manifests, "x.yaml", f"kind: !!python/object/apply:os.mkdir [{tmp_path}/made]\n")

    with pytest.raises(CNIError):
        manifests.find_network("default", "x")
    assert not (tmp_path / "made").exists()
