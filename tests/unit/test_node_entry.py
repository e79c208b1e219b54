"""The runtime's entry, made of the primary: what Multus' generators give, and what is otherwise, with reasons."""

import json
from typing import Any

import pytest

from cni.meta.config import MetaConf
from cni.node import entry
from cni.node.entry import Settings
from cni.spec import model, netconf
from cni.spec.errors import CNIError

PATH = "/etc/cni/net.d/10-testcni.conf"
SINGLE = {"cniVersion": "1.0.0", "name": "test1", "type": "cnitesttype"}
LIST = {"cniVersion": "1.0.0", "name": "test1", "plugins": [{"type": "cnitesttype"}, {"type": "portmap"}]}


def built(primary: dict[str, Any], **settings: Any) -> dict[str, Any]:
    content = entry.build(netconf.parse(json.dumps(primary)), PATH, Settings(**settings))
    made: dict[str, Any] = json.loads(content)
    return made


def plugin(primary: dict[str, Any], **settings: Any) -> dict[str, Any]:
    (made,) = built(primary, **settings)["plugins"]
    return dict(made)


def test_the_primary_is_the_one_delegate_as_it_was_written():
    for primary in (SINGLE, LIST | {"disableCheck": True, "x-unknown": {"Mixed": 1.5}}):
        assert plugin(primary)["delegates"] == [primary]


def test_the_entry_is_a_valid_list_with_one_plugin_of_ours():
    text = json.dumps(built(LIST))
    conf = netconf.parse_list(text)
    assert [netconf.plugin_type(made) for made in conf.plugins] == ["plexus"]
    assert model.parse(MetaConf, conf.plugins[0], "it").delegates == (LIST,)


def test_the_kubelet_is_told_of_where_it_is_not_in_its_usual_place():
    assert "kubeletDir" not in plugin(LIST)
    assert plugin(LIST, kubelet_dir="/snap/kubelet")["kubeletDir"] == "/snap/kubelet"
    assert plugin(LIST, kubelet_dir="/snap/kubelet", extra={"kubeletDir": "/x"})["kubeletDir"] == "/x"


def test_the_network_is_called_what_multus_calls_it_unless_told_otherwise():
    assert built(LIST)["name"] == "multus-cni-network"
    assert built(LIST, name="test1")["name"] == "test1"


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0", "1.1.0"])
def test_the_version_is_the_primarys(version):
    assert built(LIST | {"cniVersion": version})["cniVersion"] == version


@pytest.mark.parametrize("version", ["", "0.1.0", "0.2.0", "0.3.0"])
def test_a_version_without_lists_becomes_the_first_that_has_them(version):
    # Multus writes a single plugin's configuration there, and refuses a primary without a version.
    assert built(LIST | {"cniVersion": version})["cniVersion"] == "0.3.1"


def test_the_versions_that_the_primary_offers_are_offered():
    made = built(LIST | {"cniVersions": ["0.4.0", "1.0.0", "1.1.0"]})
    assert (made["cniVersion"], made["cniVersions"]) == ("1.0.0", ["0.4.0", "1.0.0", "1.1.0"])
    del made["cniVersion"]
    assert netconf.parse_list(json.dumps(made)).cni_version == "1.1.0"


@pytest.mark.parametrize(
    ("primary", "capabilities"),
    [
        (SINGLE, None),
        (SINGLE | {"capabilities": {"bandwidth": True}}, {"bandwidth": True}),
        (SINGLE | {"capabilities": {"portMappings": True, "tuning": False}}, {"portMappings": True}),
        (
            LIST
            | {"plugins": [{"type": "a", "capabilities": {"ips": True}}, {"type": "b", "capabilities": {"mac": True}}]},
            {"ips": True, "mac": True},
        ),
    ],
)
def test_the_capabilities_are_all_that_are_claimed_in_the_primary(primary, capabilities):
    assert plugin(primary).get("capabilities") == capabilities


def test_a_drop_in_directory_of_the_entrys_own_name_is_not_read():
    # With the primary's name, its drop-in plugins would run twice: they are in the delegate already.
    assert built(LIST)["loadOnlyInlinedPlugins"] is True


def test_an_administrators_settings_are_there_too_and_win():
    made = plugin(LIST, bin_dir="/opt/cni/bin", kubeconfig="/k", extra={"namespaceIsolation": True, "BinDir": "/other"})
    assert made["namespaceIsolation"] is True
    assert made["BinDir"] == "/other"
    assert "binDir" not in made
    assert made["kubeconfig"] == "/k"


def test_manifests_take_the_place_of_the_kubeconfig():
    assert "kubeconfig" not in plugin(LIST, kubeconfig="/k", extra={"manifests": "/etc/plexus/manifests"})


@pytest.mark.parametrize("key", ["delegates", "clusterNetwork", "type", "Capabilities", "name", "cniVersion"])
def test_settings_cannot_hold_what_is_generated(key):
    with pytest.raises(CNIError, match="written by the node agent"):
        entry.parse_extra(json.dumps({key: "x"}).encode(), "the settings")


@pytest.mark.parametrize("text", [b"{", b"[]", b'"x"'])
def test_settings_that_are_no_object_are_refused(text):
    with pytest.raises(CNIError):
        entry.parse_extra(text, "the settings")


def test_settings_of_a_wrong_type_are_refused():
    with pytest.raises(CNIError, match="namespaceIsolation"):
        plugin(LIST, extra={"namespaceIsolation": "yes"})


def test_no_settings_are_no_keys():
    assert entry.parse_extra(b" \n", "the settings") == {}


def test_the_primary_can_be_told_from_the_entry(tmp_path):
    path = tmp_path / entry.FILE
    path.write_bytes(entry.build(netconf.parse(json.dumps(LIST)), PATH, Settings()))
    assert entry.find_primary(str(path)) == "10-testcni.conf"
    for broken in (b"", b"{", b'{"name": "x", "plugins": [{"type": "plexus"}]}', b"\xff"):
        path.write_bytes(broken)
        assert entry.find_primary(str(path)) == ""
    assert entry.find_primary(str(tmp_path / "missing")) == ""
