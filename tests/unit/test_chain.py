"""A network's plugins in a row: who is called when, with what, and what an error of one does to the others."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cni.plugin import chain
from cni.plugin.chain import Attachment, Host
from cni.spec import convert, netconf
from cni.spec.errors import CNIError, DeleteIncomplete, IncompatibleVersion, InvalidConfiguration, PluginFailed
from cni.spec.netconf import NetConfList
from cni.spec.request import Request
from cni.spec.result import Result

ATTACHMENT = Attachment(
    container_id="c1",
    ifname="eth0",
    netns="/run/netns/a",
    args="IgnoreUnknown=1",
    runtime_config={"mac": "02:00:00:00:00:01"},
)
FINAL = convert.decode({"ips": [{"address": "10.0.0.9/24"}]}, "1.1.0")


class Plugins:
    """Plugins that note what they are asked, answer ADD with a result that names them, and fail when told to."""

    def __init__(self, *failing: tuple[str, str]) -> None:
        self.failing = failing
        self.requests: list[Request] = []

    def __call__(self, kind: str, request: Request) -> Result | None:
        self.requests.append(request)
        if (request.command, kind) in self.failing:
            raise PluginFailed("plugin error: banana", "a reason", code=137, id="PLX-TEST")
        if request.command != "ADD":
            return None
        return convert.decode({"ips": [{"address": f"10.0.0.{len(self.requests)}/24"}]}, "1.1.0")

    @property
    def calls(self) -> list[str]:
        return [f"{request.command} {request.conf['type']}" for request in self.requests]

    def handed(self, key: str) -> list[Any]:
        return [json.loads(request.stdin).get(key) for request in self.requests]


Prepare = Callable[..., Host]


@pytest.fixture
def host(tmp_path: Path) -> Prepare:
    """A host that has the plugins a, b and c."""
    for name in ("a", "b", "c"):
        (tmp_path / name).touch(0o755)
    return lambda plugins: Host(path=(str(tmp_path),), environ={"PATH": "/bin"}, call=plugins)


def network(*kinds: str, version: str = "1.1.0", **keys: Any) -> NetConfList:
    plugins = [{"type": kind} for kind in kinds or ("a", "b", "c")]
    return netconf.parse_list(json.dumps({"name": "net", "cniVersion": version, "plugins": plugins, **keys}))


def addresses(result: dict[str, Any] | None) -> list[str] | None:
    return result and [ip["address"] for ip in result["ips"]]


def test_add_hands_each_plugin_the_result_of_the_one_before(host: Prepare):
    plugins = Plugins()

    result = chain.add(network(), ATTACHMENT, host(plugins))

    assert plugins.calls == ["ADD a", "ADD b", "ADD c"]
    assert [addresses(handed) for handed in plugins.handed("prevResult")] == [None, ["10.0.0.1/24"], ["10.0.0.2/24"]]
    assert [str(ip.address) for ip in result.ips] == ["10.0.0.3/24"]


def test_a_plugin_is_told_everything_about_the_attachment(host: Prepare, tmp_path: Path):
    plugins = Plugins()

    chain.add(network("a"), ATTACHMENT, host(plugins))

    request = plugins.requests[0]
    assert (request.container_id, request.ifname, request.netns) == ("c1", "eth0", "/run/netns/a")
    assert (request.args, request.path, request.environ) == ("IgnoreUnknown=1", (str(tmp_path),), {"PATH": "/bin"})


def test_what_a_plugin_reads_is_one_line_with_sorted_keys(host: Prepare):
    plugins = Plugins()
    chain.add(netconf.parse('{"type": "a", "name": "net", "x": {"b": 1, "a": "ü"}}'), ATTACHMENT, host(plugins))
    assert plugins.requests[0].stdin.decode() == '{"cniVersion":"","name":"net","type":"a","x":{"a":"ü","b":1}}'


def test_prev_result_is_in_the_networks_version(host: Prepare):
    plugins = Plugins()

    chain.add(network("a", "b", version="0.4.0"), ATTACHMENT, host(plugins))

    assert plugins.handed("prevResult")[1] == {
        "cniVersion": "0.4.0",
        "ips": [{"version": "4", "address": "10.0.0.1/24"}],
        "dns": {},
    }


def test_runtime_config_goes_to_the_plugins_that_claim_it(host: Prepare):
    plugins = Plugins()
    text = '{"name":"net","plugins":[{"type":"a"},{"type":"b","capabilities":{"mac":true,"ips":true}}]}'

    chain.add(netconf.parse(text), ATTACHMENT, host(plugins))

    assert plugins.handed("runtimeConfig") == [None, {"mac": "02:00:00:00:00:01"}]


def test_an_error_of_add_stops_the_chain_and_names_the_plugin(host: Prepare):
    plugins = Plugins(("ADD", "b"))

    with pytest.raises(PluginFailed) as caught:
        chain.add(network(), ATTACHMENT, host(plugins))

    assert plugins.calls == ["ADD a", "ADD b"]
    assert caught.value.msg == 'plugin type="b" failed (add): plugin error: banana'
    assert (caught.value.code, caught.value.details) == (137, "a reason [PLX-TEST]")


def test_an_error_names_a_plugin_that_has_a_name_of_its_own(host: Prepare):
    with pytest.raises(PluginFailed, match='plugin type="a" name="net" failed'):
        chain.add(netconf.parse('{"name": "net", "type": "a"}'), ATTACHMENT, host(Plugins(("ADD", "a"))))


BAD_CALLS: dict[str, tuple[dict[str, str], int, str]] = {
    "container": ({"container_id": "some-%%container-id"}, 4, "invalid characters in containerID"),
    "no-container": ({"container_id": ""}, 3, "missing containerID"),
    "ifname-empty": ({"ifname": ""}, 4, "interface name is empty"),
    "ifname-long": ({"ifname": "0123456789abcdef"}, 4, "interface name is too long"),
    "ifname-dot": ({"ifname": "."}, 4, "interface name is . or .."),
    "ifname-dots": ({"ifname": ".."}, 4, "interface name is . or .."),
    "ifname-slash": ({"ifname": "a/b"}, 4, "interface name contains / or : or whitespace characters"),
    "ifname-colon": ({"ifname": "a:b"}, 4, "interface name contains / or : or whitespace characters"),
    "ifname-space": ({"ifname": "a b"}, 4, "interface name contains / or : or whitespace characters"),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_a_bad_name_is_refused_before_any_call(case: str, host: Prepare):
    key, code, msg = BAD_CALLS[case]
    plugins = Plugins()

    with pytest.raises(CNIError) as caught:
        chain.validate(network("a"), Attachment(**{"container_id": "c1", "ifname": "eth0"} | key), host(plugins))

    assert (caught.value.code, caught.value.msg) == (code, f'plugin type="a" failed (add): {msg}')
    assert plugins.calls == []


def test_a_bad_network_name_is_refused_before_any_call(host: Prepare):
    conf = netconf.parse_list('{"name": "invalid-%%-name", "plugins": [{"type": "a"}]}')
    with pytest.raises(InvalidConfiguration) as caught:
        chain.validate(conf, ATTACHMENT, host(Plugins()))
    assert caught.value.msg == 'plugin type="a" failed (add): invalid characters found in network name'


def test_a_missing_plugin_is_found_before_any_call(host: Prepare):
    with pytest.raises(PluginFailed, match=r'plugin type="nope" failed \(add\): failed to find plugin "nope" in path'):
        chain.validate(network("a", "nope"), ATTACHMENT, host(Plugins()))


def test_a_network_without_plugins_cannot_be_added(host: Prepare):
    with pytest.raises(InvalidConfiguration, match='network "net" has no plugins'):
        chain.add(netconf.parse_list('{"name": "net"}'), ATTACHMENT, host(Plugins()))


def test_delete_goes_backwards_and_hands_all_the_final_result(host: Prepare):
    plugins = Plugins()

    chain.delete(network(), ATTACHMENT, host(plugins), FINAL)

    assert plugins.calls == ["DEL c", "DEL b", "DEL a"]
    assert [addresses(handed) for handed in plugins.handed("prevResult")] == [["10.0.0.9/24"]] * 3


@pytest.mark.parametrize("version", ["", "0.2.0", "0.3.1"])
def test_delete_hands_no_result_to_plugins_older_than_that(version: str, host: Prepare):
    plugins = Plugins()
    chain.delete(network(version=version), ATTACHMENT, host(plugins), FINAL)
    assert plugins.handed("prevResult") == [None] * 3


def test_delete_works_without_a_result(host: Prepare):
    plugins = Plugins()
    chain.delete(network(), ATTACHMENT, host(plugins), None)
    assert plugins.handed("prevResult") == [None] * 3


def test_delete_tries_every_plugin_and_reports_the_one_failure_as_it_is(host: Prepare):
    plugins = Plugins(("DEL", "b"))

    with pytest.raises(PluginFailed) as caught:
        chain.delete(network(), ATTACHMENT, host(plugins), FINAL)

    assert plugins.calls == ["DEL c", "DEL b", "DEL a"]
    assert (caught.value.code, caught.value.msg) == (137, 'plugin type="b" failed (delete): plugin error: banana')


def test_delete_reports_several_failures_in_one_error(host: Prepare):
    plugins = Plugins(("DEL", "a"), ("DEL", "c"))

    with pytest.raises(DeleteIncomplete) as caught:
        chain.delete(network(), ATTACHMENT, host(plugins), FINAL)

    assert caught.value.msg == 'could not detach "eth0" from network "net"'
    assert caught.value.reason.index('plugin type="c"') < caught.value.reason.index('plugin type="a"')


def test_check_goes_forward_and_hands_all_the_final_result(host: Prepare):
    plugins = Plugins()

    chain.check(network(), ATTACHMENT, host(plugins), FINAL)

    assert plugins.calls == ["CHECK a", "CHECK b", "CHECK c"]
    assert [addresses(handed) for handed in plugins.handed("prevResult")] == [["10.0.0.9/24"]] * 3


def test_check_stops_at_the_first_plugin_that_objects(host: Prepare):
    plugins = Plugins(("CHECK", "b"))

    with pytest.raises(PluginFailed) as caught:
        chain.check(network(), ATTACHMENT, host(plugins), FINAL)

    assert plugins.calls == ["CHECK a", "CHECK b"]
    assert (caught.value.code, caught.value.msg) == (137, "plugin error: banana")


def test_check_does_not_trouble_plugins_when_it_is_switched_off(host: Prepare):
    plugins = Plugins()
    chain.check(network(disableCheck=True), ATTACHMENT, host(plugins), FINAL)
    assert plugins.calls == []


def test_check_is_refused_by_a_network_older_than_the_verb(host: Prepare):
    plugins = Plugins()

    with pytest.raises(IncompatibleVersion) as caught:
        chain.check(network(version="0.3.1", disableCheck=True), ATTACHMENT, host(plugins), FINAL)

    assert caught.value.msg == 'configuration version "0.3.1" does not support the CHECK command'
    assert plugins.calls == []


def test_status_stops_at_the_first_plugin_that_is_not_ready_and_keeps_its_code(host: Prepare):
    plugins = Plugins(("STATUS", "b"))

    with pytest.raises(PluginFailed) as caught:
        chain.status(network(), host(plugins))

    assert plugins.calls == ["STATUS a", "STATUS b"]
    assert (caught.value.code, caught.value.msg) == (137, "plugin error: banana")


def test_status_and_gc_name_no_container(host: Prepare):
    plugins = Plugins()

    chain.status(network("a"), host(plugins))
    chain.gc(network("a"), host(plugins), [])

    assert [(one.container_id, one.ifname, one.netns, one.args) for one in plugins.requests] == [("", "", "", "")] * 2


@pytest.mark.parametrize("version", ["", "0.4.0", "1.0.0"])
def test_status_and_gc_pass_over_networks_older_than_these_verbs(version: str, host: Prepare):
    plugins = Plugins()
    chain.status(network(version=version), host(plugins))
    chain.gc(network(version=version), host(plugins), [])
    assert plugins.calls == []


def test_gc_tells_every_plugin_who_lives_under_both_names(host: Prepare):
    plugins = Plugins()

    chain.gc(network("a", "b"), host(plugins), [("c1", "eth0"), ("c2", "net1")])

    living = [{"containerID": "c1", "ifname": "eth0"}, {"containerID": "c2", "ifname": "net1"}]
    assert plugins.calls == ["GC a", "GC b"]
    assert plugins.handed("cni.dev/valid-attachments") == [living, living]
    assert plugins.handed("cni.dev/attachments") == [living, living]


def test_gc_tries_every_plugin_and_reports_at_the_end(host: Prepare):
    plugins = Plugins(("GC", "a"))

    with pytest.raises(PluginFailed, match="plugin error: banana"):
        chain.gc(network(), host(plugins), [])

    assert plugins.calls == ["GC a", "GC b", "GC c"]


def test_gc_does_not_trouble_plugins_when_it_is_switched_off(host: Prepare):
    plugins = Plugins()
    chain.gc(network(disableGC="true"), host(plugins), [])
    assert plugins.calls == []
