"""The frame of every plugin: whatever comes in, one JSON answer goes out, with the right code."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cni.plugin import invoke, skel
from cni.spec import versions
from cni.spec.errors import CheckFailed, TryAgainLater
from cni.spec.request import Request
from cni.spec.result import Result

ENVIRONMENT = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "c1",
    "CNI_NETNS": "/nonexistent/ns",
    "CNI_IFNAME": "eth0",
    "CNI_PATH": "/x",
}
CONF = {"cniVersion": "1.1.0", "name": "net"}


class FakePlugin(ModuleType):
    """A plugin that writes down what it is asked, and answers or fails as it is told."""

    def __init__(self, answer: Callable[[Request], Result | None]) -> None:
        super().__init__("fake_plugin")
        self.requests: list[Request] = []
        self.answer = answer

    def serve(self, request: Request) -> Result | None:
        self.requests.append(request)
        return self.answer(request)

    add = delete = check = gc = status = serve


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakePlugin]:
    """Put a plugin of that answer in the table of built-ins, as "fake"."""

    def put(answer: Callable[[Request], Result | None] = lambda _: None) -> FakePlugin:
        plugin = FakePlugin(answer)
        monkeypatch.setitem(sys.modules, "fake_plugin", plugin)
        monkeypatch.setitem(invoke.BUILT_IN, "fake", "fake_plugin")
        return plugin

    return put


def call(stdin: bytes | dict[str, Any] = CONF, plugin: str = "fake", **environ: str | None) -> tuple[int, str]:
    text = stdin if isinstance(stdin, bytes) else json.dumps(stdin).encode()
    stdout, stderr = io.StringIO(), io.StringIO()
    variables = {key: value for key, value in (ENVIRONMENT | environ).items() if value is not None}
    rc = skel.run(plugin, variables, io.BytesIO(text), stdout, stderr)
    return rc, stdout.getvalue()


def error(stdin: bytes | dict[str, Any] = CONF, plugin: str = "fake", **environ: str | None) -> dict[str, Any]:
    rc, stdout = call(stdin, plugin, **environ)
    told: dict[str, Any] = json.loads(stdout)
    assert rc == 1
    assert "Traceback" not in stdout
    assert told.keys() <= {"cniVersion", "code", "msg", "details"}
    return told


MALFORMED = {
    "nothing": b"",
    "white space": b" \n",
    "half an object": b'{"name":"net"',
    "a lone brace": b"{",
    "two objects": b"{}{}",
    "a list": b"[]",
    "a number": b"5",
    "a text": b'"x"',
    "not a number": b'{"name":"net","mtu":NaN}',
    "infinity": b'{"name":"net","mtu":-Infinity}',
    "not UTF-8": b'{"name":"\xff"}',
    "UTF-16": '{"name":"net"}'.encode("utf-16"),
    "a NUL": b'{"name":"net"}\0',
    "nesting": b'{"name":"net","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a nesting of objects": b'{"x":' * 100_000,
    "a comma too many": b'{"name":"net",}',
    "single quotes": b"{'name':'net'}",
    "a number of too many digits": b'{"x":' + b"9" * 5000 + b"}",
    "a version that is a number": b'{"name":"net","cniVersion":1}',
    "a version that is a list": b'{"name":"net","cniVersion":["1.1.0"]}',
    "a name that is a number": b'{"name":5}',
    "a name that is an object": b'{"name":{}}',
}


@pytest.mark.parametrize("stdin", MALFORMED.values(), ids=MALFORMED.keys())
@pytest.mark.parametrize("command", ["ADD", "DEL", "CHECK", "GC", "STATUS"])
def test_what_is_no_configuration_is_a_decoding_failure_and_reaches_no_plugin(stdin: bytes, command: str, install):
    plugin = install()
    assert error(stdin, CNI_COMMAND=command)["code"] == 6
    assert plugin.requests == []


@pytest.mark.parametrize(
    ("stdin", "details"),
    [
        (b'{"name":"net",\n "x": tru}', "line 2, column 7: Expecting value, near `"),
        (b'{"name":"net"', "it ends too early, at line 1, column 14: "),
        (b"", "it is empty"),
        (b"[]", "it must be a JSON object, not a list"),
        (b'{"name":"\xff"}', "byte 9 is not UTF-8"),
        (b'{"x":NaN}', "NaN is not JSON"),
        (b"[" * 100_000, "it is nested too deeply"),
    ],
)
def test_a_broken_configuration_is_told_with_the_place(stdin: bytes, details: str):
    told = error(stdin)
    assert told["msg"] == "could not decode the network configuration on stdin"
    assert told["details"].startswith(details)


@pytest.mark.parametrize("stdin", [b"null", b"{}", b'{"name":null}', b'{"name":""}', b'{"cniVersion":"1.1.0"}'])
def test_a_configuration_without_a_name_is_invalid(stdin: bytes):
    assert error(stdin) == {"cniVersion": "1.1.0", "code": 7, "msg": "missing network name"}


@pytest.mark.parametrize("name", ["a/b", "../x", "-a", "a b", "a\0b", "a\n", "é", ".", "\ud800"])
def test_a_network_name_with_path_tricks_is_refused_and_named(name: str):
    told = error({"name": name, "cniVersion": "1.1.0"})
    assert (told["code"], told["msg"]) == (7, "invalid characters found in network name")
    assert told["details"] == name.encode("utf-8", "replace").decode()


@pytest.mark.parametrize("container_id", ["../../etc", "a/b", "-a", "a b", "a\n", "a:b", "\udcff"])
def test_a_container_id_with_path_tricks_is_refused_and_named(container_id: str):
    told = error(CNI_CONTAINERID=container_id)
    assert (told["code"], told["msg"]) == (4, "invalid characters in containerID")


@pytest.mark.parametrize("ifname", [".", "..", "a/b", "a:b", "a b", "a\tb", "a\xa0b", "a" * 16, "é" * 8, "a\0b"])
def test_an_ifname_that_linux_does_not_take_is_an_invalid_environment(ifname: str):
    assert error(CNI_IFNAME=ifname)["code"] == 4


@pytest.mark.parametrize("command", ["add", "ADD ", "PING", "\udcff"])
def test_an_unknown_verb_is_named(command: str):
    told = error(CNI_COMMAND=command)
    assert told["code"] == 4
    assert told["msg"].startswith("unknown CNI_COMMAND: ")


def test_everything_that_is_missing_is_named_at_once():
    told = error(CNI_CONTAINERID=None, CNI_NETNS="", CNI_IFNAME=None, CNI_PATH=None)
    assert told["msg"] == "required env variables [CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH] missing"


@pytest.mark.parametrize("version", versions.SUPPORTED)
@pytest.mark.parametrize(("command", "since"), [("CHECK", "0.4.0"), ("GC", "1.1.0"), ("STATUS", "1.1.0")])
def test_a_verb_is_served_from_the_version_that_has_it(command: str, since: str, version: str, install):
    plugin = install()
    conf = CONF | {"cniVersion": version}
    if versions.at_least(version, since):
        assert call(conf, CNI_COMMAND=command) == (0, "")
        assert [request.command for request in plugin.requests] == [command]
    else:
        told = error(conf, CNI_COMMAND=command)
        assert (told["code"], told["msg"]) == (1, f"config version does not allow {command}")
        assert plugin.requests == []


@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_our_own_namespace_is_refused_before_the_plugin_is_asked(command: str, install):
    plugin = install()
    told = error(CNI_COMMAND=command, CNI_NETNS="/proc/self/ns/net")
    assert (told["code"], plugin.requests) == (8, [])
    call(CNI_COMMAND=command, CNI_NETNS="/proc/self/ns/net", CNI_NETNS_OVERRIDE="TRUE")
    assert len(plugin.requests) == 1


@pytest.mark.parametrize("version", ["", *versions.SUPPORTED])
def test_a_result_is_printed_in_the_version_of_the_configuration(version: str, install):
    install(lambda _: Result.model_validate({"ips": [{"address": "10.0.0.5/24"}]}))
    rc, stdout = call(CONF | {"cniVersion": version})
    assert rc == 0
    assert json.loads(stdout)["cniVersion"] == version or versions.UNSTATED
    assert not stdout.endswith("\n")


def test_the_plugin_gets_the_whole_call(install):
    plugin = install()
    text = b' {"name": "net", "cniVersion":"1.1.0", "x": [1] }\n'
    call(text, CNI_COMMAND="DEL", CNI_ARGS="A=b", CNI_PATH="/one:/two:")
    (request,) = plugin.requests
    assert (request.container_id, request.netns, request.ifname) == ("c1", "/nonexistent/ns", "eth0")
    assert (request.args, request.path, request.stdin) == ("A=b", ("/one", "/two"), text)
    assert request.conf == {"name": "net", "cniVersion": "1.1.0", "x": [1]}


def raising(failure: BaseException) -> Callable[[Request], None]:
    def fail(_: Request) -> None:
        raise failure

    return fail


def test_a_plugins_error_keeps_its_code_and_ends_with_its_id(install):
    install(raising(TryAgainLater("no <room>", "é & more", id="PLX-X")))
    rc, stdout = call()
    assert (rc, stdout) == (
        1,
        '{\n    "cniVersion": "1.1.0",\n    "code": 11,\n    "msg": "no <room>",\n    "details": "é & more [PLX-X]"\n}',
    )


def test_a_failed_check_is_told_apart(install):
    install(raising(CheckFailed("eth0 is not as it was")))
    assert error(CNI_COMMAND="CHECK")["code"] == 102


def test_a_defect_of_ours_is_999_with_its_traceback_in_the_log_only(install, caplog: pytest.LogCaptureFixture):
    install(raising(ZeroDivisionError("division by zero")))
    told = error()
    assert (told["code"], told["msg"]) == (999, "ZeroDivisionError: division by zero")
    assert "Traceback" in caplog.text


def test_what_is_not_an_exception_of_ours_to_catch_ends_the_call(install):
    install(raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        call()


@pytest.mark.parametrize("what", ["result", "error"])
def test_a_lone_surrogate_can_still_be_printed_as_utf_8(what: str, install):
    text = "x\ud800y"
    if what == "error":
        install(raising(TryAgainLater(text)))
    else:
        install(lambda _: Result.model_validate({"dns": {"domain": text}}))
    _, stdout = call()
    assert json.loads(stdout.encode())


def test_the_namespace_check_does_not_fall_over_a_path_with_nul(tmp_path: Path):
    ipam = {"type": "host-local", "subnet": "10.0.0.0/24", "dataDir": str(tmp_path)}
    rc, _ = call(CONF | {"ipam": ipam}, "host-local", CNI_NETNS="/x\0y")
    assert rc == 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
KEYS = ("args", "runtimeConfig", "prevResult", "cni.dev/valid-attachments")
IPAM_KEYS = ("subnet", "ranges", "rangeStart", "rangeEnd", "gateway", "routes", "resolvConf")


@settings(derandomize=True, deadline=None)
@given(
    st.sampled_from(["ADD", "DEL", "CHECK", "GC", "STATUS"]),
    st.dictionaries(st.sampled_from(KEYS), JSON, max_size=3),
    st.dictionaries(st.sampled_from(IPAM_KEYS), JSON, max_size=3),
)
def test_host_local_never_fails_unexpectedly_whatever_the_values_are(
    tmp_path_factory: pytest.TempPathFactory, command: str, conf: dict[str, Any], ipam: dict[str, Any]
):
    folder = tmp_path_factory.getbasetemp() / "any-values"
    ipam = {"subnet": "10.0.0.0/8"} | ipam | {"dataDir": str(folder)}
    if isinstance(ipam.get("resolvConf"), str):
        ipam["resolvConf"] = f"{folder}/{ipam['resolvConf']}"
    rc, stdout = call(CONF | {"ipam": ipam} | conf, "host-local", CNI_COMMAND=command)
    if rc:
        assert json.loads(stdout)["code"] in (5, 6, 7, 11, 50, 102)
