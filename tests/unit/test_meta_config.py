"""The keys of the meta plugin: what each may hold, what is the same as nothing, and that all of them are documented."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

import pytest

from cni.meta import config, places
from cni.meta.config import MetaConf
from cni.spec.errors import CNIError, InvalidConfiguration
from cni.spec.request import Request

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "configuration.md"
ANY: dict[str, Any] = {"text": "x", "boolean": True, "number": 5, "fraction": 1.5, "list": ["x"], "object": {"x": 1}}
"""A value of every JSON type."""
TAKES = {
    "delegates": (),
    "clusterNetwork": ("text",),
    "defaultNetworks": ("list",),
    "confDir": ("text",),
    "cniDir": ("text",),
    "binDir": ("text",),
    "manifests": ("text",),
    "kubeconfig": ("text",),
    "apiTimeout": ("number", "fraction"),
    "external": ("list",),
    "createBridge": ("boolean",),
    "systemNamespaces": ("list",),
    "multusNamespace": ("text",),
    "namespaceIsolation": ("boolean",),
    "globalNamespaces": ("text",),
    "kubeletDir": ("text",),
    "deviceInfoDir": ("text",),
    "hostPaths": (),
    "policy": (),
    "readinessindicatorfile": ("text",),
    "readinessTimeout": ("number", "fraction"),
    "auxiliaryCNIChainName": ("text",),
    "parallel": ("boolean",),
    "pluginTimeout": ("number", "fraction"),
    "retryDeleteOnError": ("boolean",),
    "logFile": ("text",),
    "logLevel": ("text",),
    "logToStderr": ("boolean",),
    "logOptions": ("object",),
    "runtimeConfig": ("object",),
    "capabilities": (),
    "ipam": ("object",),
    "dns": ("object",),
}
"""The types of ANY that each key takes; `delegates` is a list of objects, `capabilities` an object of booleans."""
CLUSTER = {"name": "cluster", "type": "x"}


def parse(**keys: Any) -> MetaConf:
    conf = {"name": "plexus", "clusterNetwork": "/etc/cni/net.d/10.conflist", **keys}
    return config.parse(Request(command="ADD", conf=conf))


def documented() -> list[str]:
    """The keys in the table of the meta plugin."""
    section = DOCUMENTATION.read_text().partition("\n## `plexus`")[2].partition("\n## ")[0]
    keys = [row.split(" | ")[0] for row in section.splitlines() if row.startswith("| `") and row.count(" | ") >= 2]
    return [key for cell in keys for key in re.findall(r"`(\w+)`", cell)]


def test_every_key_has_its_types_here():
    aliases = {field.alias for field in MetaConf.model_fields.values()} - {"cniVersion"}
    assert aliases - set(TAKES) == set()
    assert set(TAKES) - aliases == set()


def test_every_key_is_documented():
    assert set(TAKES) - set(documented()) - {"runtimeConfig", "ipam", "dns"} == set()


@pytest.mark.parametrize("kind", ANY)
@pytest.mark.parametrize("key", TAKES)
def test_a_value_of_another_type_is_an_error_that_names_the_key(key: str, kind: str):
    if kind in TAKES[key]:
        parse(**{key: ANY[kind]})
        return
    with pytest.raises(InvalidConfiguration) as caught:
        parse(**{key: ANY[kind]})
    assert re.match(rf"{key}\b", caught.value.reason)
    assert (caught.value.code, caught.value.id) == (7, "PLX-CONF")


@pytest.mark.parametrize("key", TAKES)
def test_null_is_the_same_as_absent(key: str):
    plain = parse(clusterNetwork="", delegates=[CLUSTER])
    keys = {"clusterNetwork": "", "delegates": [CLUSTER]} | ({key: None} if key != "delegates" else {})
    assert parse(**keys) == plain


@pytest.mark.parametrize("key", [key for key, kinds in TAKES.items() if "text" in kinds])
def test_an_empty_text_is_the_same_as_absent(key: str):
    plain = parse(delegates=[CLUSTER])
    field = next(name for name, field in MetaConf.model_fields.items() if field.alias == key)
    default = "" if key == "clusterNetwork" else getattr(plain, field)
    assert getattr(parse(delegates=[CLUSTER], **{key: ""}), field) == default


def test_keys_match_in_any_case_and_unknown_ones_are_nobodys_business():
    conf = parse(
        LOGLEVEL="debug", ReadinessIndicatorFile="/x", AUXILIARYcniCHAINname="more", defaultnetworkfile=5, X=[]
    )
    assert (conf.log_level, conf.readiness_indicator_file, conf.auxiliary_cni_chain_name) == ("debug", "/x", "more")


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"delegates": [CLUSTER, 5]}, r"delegates\[1\]"),
        ({"defaultNetworks": ["x", None]}, r"defaultNetworks\[1\]"),
        ({"capabilities": {"portMappings": "true"}}, r"capabilities.portMappings"),
        ({"logOptions": {"maxSize": "1"}}, r"logOptions.maxSize"),
        ({"logOptions": {"maxAge": -1}}, r"logOptions.maxAge"),
        ({"logOptions": {"compress": 1}}, r"logOptions.compress"),
        ({"apiTimeout": 0}, "apiTimeout"),
        ({"readinessTimeout": -1}, "readinessTimeout"),
        ({"pluginTimeout": 0.5}, "pluginTimeout"),
        ({"pluginTimeout": 121}, "pluginTimeout"),
        ({"kubeconfig": "/x", "manifests": "/y"}, "exclude each other"),
        ({"clusterNetwork": ""}, "it needs `delegates` or `clusterNetwork`"),
        ({"clusterNetwork": None, "delegates": []}, "it needs `delegates` or `clusterNetwork`"),
    ],
)
def test_what_is_wrong_inside_is_named_too(keys: dict[str, Any], told: str):
    with pytest.raises(InvalidConfiguration, match=told):
        parse(**keys)


def test_a_capability_may_be_null():
    assert parse(capabilities={"portMappings": True, "mac": None, "ips": False})


@pytest.mark.parametrize("wrong", [5, "x", {"cniVersion": "1.0.0", "ips": 5}, {"cniVersion": "x"}])
def test_a_prev_result_that_is_none_is_refused(wrong: Any):
    with pytest.raises(CNIError):
        parse(cniVersion="1.0.0", prevResult=wrong)


def test_a_prev_result_changes_nothing():
    assert parse(prevResult={"ips": [{"address": "10.0.0.2/24", "version": "4"}]}, cniVersion="0.4.0")


@pytest.mark.parametrize("key", sorted(TAKES.keys() - {"cniDir"}))
def test_nothing_wrong_in_the_configuration_keeps_delete_from_its_record(key: str):
    for value in ANY.values():
        conf = {"name": "plexus", "cniDir": "/state", key: value}
        assert places.parse(Request(command="DEL", conf=conf)).cni_dir == "/state"


@pytest.mark.parametrize("wrong", [5, True, [], {}])
def test_delete_does_not_look_for_its_record_elsewhere(wrong: Any):
    with pytest.raises(InvalidConfiguration, match="cniDir: must be a string"):
        places.parse(Request(command="DEL", conf={"name": "plexus", "cniDir": wrong}))


@pytest.mark.parametrize("key", ["cniDir", "binDir"])
def test_delete_takes_an_empty_directory_for_the_default_too(key: str):
    read = places.parse(Request(command="DEL", conf={"name": "plexus", key: ""}))
    assert (read.cni_dir, read.bin_dir) == (places.STATE_DIRECTORY, "/opt/cni/bin")


@pytest.mark.parametrize("key", ["cniDir", "binDir", "manifests", "external", "parallel", "pluginTimeout"])
def test_delete_reads_the_same_as_add(key: str):
    field = {"cniDir": "cni_dir", "binDir": "bin_dir", "pluginTimeout": "plugin_timeout"}.get(key, key)
    for value in (False, *(ANY[kind] for kind in TAKES[key])):
        with contextlib.suppress(InvalidConfiguration):
            of_add = getattr(parse(**{key: value}), field)
            assert getattr(places.parse(Request(command="DEL", conf={key: value})), field) == of_add
    assert getattr(places.Places(), field) == getattr(parse(), field)
