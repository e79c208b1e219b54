"""The node's word on bridges that are missing, for all networks that say nothing of it themselves."""

import json
from pathlib import Path
from typing import Any

import pytest

from cni.kube.manifests import Manifests
from cni.meta.config import MetaConf
from cni.meta.networks import Networks

BRIDGE: dict[str, Any] = {"cniVersion": "1.0.0", "name": "n", "type": "bridge", "bridge": "br-lab"}
CONFIGURATIONS: list[tuple[dict[str, Any], list[Any]]] = [
    (BRIDGE, [False]),
    (BRIDGE | {"createBridge": None}, [False]),
    (BRIDGE | {"CREATEBRIDGE": True}, [None]),
    (BRIDGE | {"createBridge": True}, [True]),
    (BRIDGE | {"type": "macvlan"}, [None]),
    ({"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "bridge"}, {"type": "tuning"}]}, [False, None]),
]


def found(conf: dict[str, Any], directory: Path, **keys: Any) -> list[Any]:
    networks = Networks(MetaConf(delegates=(conf,), **keys), Manifests(str(directory), ""))
    [network] = networks.every_pods()
    assert json.loads(network.conf.text)["name"] == "n"
    return [plugin.get("createBridge") for plugin in network.conf.plugins]


@pytest.mark.parametrize(("conf", "expected"), CONFIGURATIONS, ids=str)
def test_the_node_forbids_new_bridges_where_the_network_is_silent(
    conf: dict[str, Any], expected: list[Any], tmp_path: Path
):
    assert found(conf, tmp_path, create_bridge=False) == expected


def test_a_node_that_is_silent_changes_nothing(tmp_path: Path):
    assert found(BRIDGE, tmp_path) == [None]


def test_networks_by_name_and_by_definition_get_the_nodes_word_too(tmp_path: Path):
    definition = {
        "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": "lab", "namespace": "kube-system"},
        "spec": {"config": json.dumps(BRIDGE)},
    }
    (tmp_path / "nad.json").write_text(json.dumps(definition))
    (tmp_path / "10.conf").write_text(json.dumps(BRIDGE))
    networks = Networks(MetaConf(create_bridge=False), Manifests(str(tmp_path), ""))

    for name in ("lab", str(tmp_path / "10.conf")):
        assert networks.named(name).conf.plugins[0]["createBridge"] is False
