"""Network configurations as values: what is read, what is refused, and what a plugin is handed of it."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cni.spec import netconf
from cni.spec.errors import DecodingFailure, InvalidConfiguration
from cni.spec.netconf import NetConfList

A = {"type": "a"}


def read(**keys: Any) -> NetConfList:
    return netconf.parse_list(json.dumps({"name": "n", "cniVersion": "1.0.0", "plugins": [A], **keys}))


VERSIONS: dict[str, tuple[dict[str, Any], str]] = {
    "as-it-is": ({"cniVersion": "1.0.0"}, "1.0.0"),
    "as-it-is-even-if-nobody-speaks-it": ({"cniVersion": "1.2.3"}, "1.2.3"),
    "none": ({"cniVersion": None}, ""),
    "the-highest": ({"cniVersions": ["0.4.0", "1.1.0", "0.3.1"]}, "1.1.0"),
    "not-one-too-new": ({"cniVersions": ["99.0.0", "0.4.0"]}, "1.0.0"),
    "all-too-new": ({"cniVersion": "3.0.0", "cniVersions": ["2.0.0"]}, "3.0.0"),
    "cniVersion-too-new": ({"cniVersion": "3.0.0", "cniVersions": ["0.4.0"]}, "0.4.0"),
    "an-empty-list-with-a-version": ({"cniVersions": []}, "1.0.0"),
    "an-empty-list-without-one": ({"cniVersion": "", "cniVersions": []}, ""),
    "numbers-not-text": ({"cniVersion": "0.2.0", "cniVersions": ["0.10.0", "0.9.0"]}, "0.10.0"),
}


@pytest.mark.parametrize("case", VERSIONS)
def test_the_version_is_chosen_as_libcni_chooses_it(case: str):
    keys, version = VERSIONS[case]
    assert read(**keys).cni_version == version


BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "name-missing": ({"name": None}, "no name", "a network needs a `name`"),
    "name-empty": ({"name": ""}, "no name", "a network needs a `name`"),
    "name-number": ({"name": 5}, "invalid name type", "`name` must be a string, not a number"),
    "versions-object": ({"cniVersions": {}}, "invalid type for cniVersions", "must be a list, not an object"),
    "versions-null": ({"cniVersions": [None]}, "invalid type for cniVersions index 0", "a string, not null"),
    "check-word": ({"disableCheck": "yes"}, 'invalid value "yes" for disableCheck', "use true or false"),
    "check-number": ({"disableCheck": 1}, "invalid type for disableCheck", "must be true or false, not a number"),
    "inlined-list": ({"loadOnlyInlinedPlugins": []}, "invalid type for loadOnlyInlinedPlugins", "not a list"),
    "plugins-empty": ({"plugins": []}, "no plugins in list", ""),
    "plugins-text": ({"plugins": "a"}, "invalid 'plugins' type", "must be a list, not a string"),
    "plugin-null": ({"plugins": [A, None]}, "failed to parse plugin config 1: it must be an object, not null", ""),
    "type-empty": ({"plugins": [{"type": ""}]}, "failed to parse plugin config 0: ", "every plugin needs one"),
    "type-number": ({"plugins": [{"type": 3}]}, "invalid 'type'", "must be a string, not a number"),
    "claims": ({"plugins": [A | {"capabilities": []}]}, "invalid 'capabilities'", "must be an object, not a list"),
    "claim": (
        {"plugins": [A | {"capabilities": {"mac": "true"}}]},
        "invalid 'capabilities'",
        "`capabilities.mac` must be true or false, not a string",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_named_with_its_document(case: str):
    keys, msg, reason = BAD[case]

    with pytest.raises(InvalidConfiguration) as caught:
        netconf.parse_list(json.dumps({"name": "n", "cniVersion": "1.0.0", "plugins": [A], **keys}), '"/x.conflist"')

    assert msg in caught.value.msg
    assert reason in caught.value.reason
    assert caught.value.details.endswith('in "/x.conflist" [PLX-CONF]')


BROKEN = {
    "a-missing-brace": ('{"name": "n",\n "plugins": [{"type": "a"}]\n', "ends too early, at line 3"),
    "a-missing-comma": ('{"name": "n"\n "type": "a"}', "line 2, column 2: Expecting ',' delimiter, near"),
    "nothing": (" \n", "it is empty"),
    "a-list": ("[]", "must be a JSON object, not a list"),
    "not-a-number": ('{"mtu": NaN}', "NaN is not JSON"),
    "a-tail": ('{"type": "a"} x', "line 1, column 15: Extra data"),
    "depth": ("[" * 100_000, "nested too deeply"),
}


@pytest.mark.parametrize("parse", [netconf.parse, netconf.parse_list, netconf.parse_single])
@pytest.mark.parametrize("case", BROKEN)
def test_broken_json_is_refused_with_its_place(case: str, parse: Any):
    text, place = BROKEN[case]

    with pytest.raises(DecodingFailure) as caught:
        parse(text, "the thing")

    assert place in f"{caught.value.msg} {caught.value.reason}"
    assert "the thing" in str(caught.value)
    assert caught.value.id == "PLX-JSON"


@pytest.mark.parametrize("value", ["true", "TRUE", "True", True])
def test_a_switch_may_be_text(value: Any):
    conf = read(disableCheck=value, disableGC=value, loadOnlyInlinedPlugins=value)
    assert (conf.disable_check, conf.disable_gc, conf.load_only_inlined_plugins) == (True, True, True)


@pytest.mark.parametrize("value", ["false", "FALSE", False, None])
def test_a_switch_is_off_unless_it_is_on(value: Any):
    conf = read(disableCheck=value, disableGC=value, loadOnlyInlinedPlugins=value)
    assert (conf.disable_check, conf.disable_gc, conf.load_only_inlined_plugins) == (False, False, False)


def test_keys_match_in_any_case():
    conf = netconf.parse_list('{"Name": "n", "CNIVERSION": "1.0.0", "Plugins": [{"Type": "a"}]}')
    assert (conf.name, conf.cni_version, netconf.plugin_type(conf.plugins[0])) == ("n", "1.0.0", "a")


def test_a_list_without_plugins_waits_for_its_directory():
    assert netconf.parse_list('{"name": "n"}').plugins == ()


def test_what_has_a_type_is_one_plugin_whatever_else_it_has():
    conf = netconf.parse('{"name": "n", "type": "a", "plugins": [{"type": "b"}]}')
    assert [netconf.plugin_type(plugin) for plugin in conf.plugins] == ["a"]


def test_an_empty_type_does_not_hide_the_plugins():
    conf = netconf.parse('{"name": "n", "type": "", "plugins": [{"type": "b"}]}')
    assert [netconf.plugin_type(plugin) for plugin in conf.plugins] == ["b"]


@pytest.mark.parametrize("text", ['{"type": "a"}', '{"plugins": [{"type": "a"}]}'])
def test_a_configuration_that_gets_its_name_elsewhere_may_lack_one(text: str):
    assert netconf.parse(text).name == ""


@pytest.mark.parametrize("text", ["{}", "null", '{"plugins": null}'])
def test_a_configuration_of_no_plugin_is_refused(text: str):
    with pytest.raises(InvalidConfiguration, match="missing 'type'"):
        netconf.parse(text)


CLAIMS = {"portMappings": True, "somethingElse": True, "noCapability": False}
GIVEN = {"portMappings": [{"hostPort": 1}], "somethingElse": ["x"], "noCapability": 1, "notAdded": {}}


def test_a_plugin_gets_the_values_of_the_capabilities_it_claims():
    conf = read(plugins=[A | {"capabilities": CLAIMS}])

    handed = conf.conf_for(conf.plugins[0], runtime_config=GIVEN)

    assert handed["runtimeConfig"] == {"portMappings": [{"hostPort": 1}], "somethingElse": ["x"]}
    assert "capabilities" not in handed
    assert conf.capabilities == {"portMappings", "somethingElse"}


@pytest.mark.parametrize("given", [{}, {"notAdded": 1}, {"noCapability": 1}])
def test_a_plugin_gets_no_runtime_config_when_nothing_is_for_it(given: dict[str, Any]):
    conf = read(plugins=[A | {"capabilities": CLAIMS}])
    assert "runtimeConfig" not in conf.conf_for(conf.plugins[0], runtime_config=given)


def test_a_written_runtime_config_stays_unless_the_runtime_has_one():
    plugin = A | {"capabilities": CLAIMS, "RuntimeConfig": {"mac": "x"}}
    conf = read(plugins=[plugin])

    assert conf.conf_for(conf.plugins[0])["runtimeConfig"] == {"mac": "x"}
    assert conf.conf_for(conf.plugins[0], runtime_config=GIVEN)["runtimeConfig"].keys() == {
        "portMappings",
        "somethingElse",
    }


def test_a_plugin_gets_the_lists_name_and_version_and_its_own_keys():
    plugin = {"type": "a", "NAME": "other", "cniversion": "0.1.0", "mtu": 1400, "ünï": None, "args": {"cni": {}}}
    conf = read(plugins=[plugin])

    assert conf.conf_for(conf.plugins[0]) == {
        "type": "a",
        "mtu": 1400,
        "ünï": None,
        "args": {"cni": {}},
        "name": "n",
        "cniVersion": "1.0.0",
    }


def test_what_only_the_runtime_may_say_is_not_passed_on():
    conf = read(plugins=[A | {"cni.dev/valid-attachments": [], "prevResult": {"ips": []}}])
    assert conf.conf_for(conf.plugins[0]).keys() == {"type", "name", "cniVersion"}


def test_appended_plugins_are_in_the_text_too():
    conf = read(disableCheck=True).with_plugins(({"type": "b", "x": 1.5},))

    again = netconf.parse_list(conf.text)

    assert again.plugins == conf.plugins == ({"type": "a"}, {"type": "b", "x": 1.5})
    assert again.disable_check


def test_a_plugin_appended_to_a_single_configuration_makes_it_a_list():
    conf = netconf.parse_single('{"name": "n", "cniVersion": "1.0.0", "type": "a", "x": 1}').with_plugins((A,))

    again = netconf.parse_list(conf.text)

    assert (again.name, again.cni_version) == ("n", "1.0.0")
    assert again.plugins == ({"name": "n", "cniVersion": "1.0.0", "type": "a", "x": 1}, {"type": "a"})


def test_a_list_is_a_list_byte_for_byte():
    text = '{ "name":"n",\n"plugins":[{"type":"a"}] }\n'
    assert netconf.parse_list(text).as_list().text == text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["name", "cniVersion", "cniVersions", "disableCheck", "plugins", "type", "capabilities"])


@settings(deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(KEYS, JSON))
def test_anything_is_read_or_refused(data: dict[str, Any]):
    with contextlib.suppress(DecodingFailure, InvalidConfiguration):
        conf = netconf.parse(json.dumps(data))
        for plugin in conf.plugins:
            assert netconf.plugin_type(plugin)
            assert conf.conf_for(plugin)["name"] == conf.name
