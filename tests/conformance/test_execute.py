"""Plugins are executed as the specification says, and however one fails, the error says what can be known."""

import json
import logging
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from fake_plugin import Plugins, failure

from cni.plugin import execute
from cni.spec import document
from cni.spec.errors import CNIError, DecodingFailure, InvalidConfiguration, PluginFailed
from cni.spec.request import Request

CONF = {"cniVersion": "1.0.0", "name": "net", "type": "noop"}


@pytest.fixture
def plugins(tmp_path: Path) -> Plugins:
    return Plugins(tmp_path)


def request(plugins: Plugins, **changes: Any) -> Request:
    keys = {
        "command": "ADD",
        "container_id": "c1",
        "netns": "/run/netns/a",
        "ifname": "eth0",
        "args": "K=V",
        "path": (str(plugins.directory),),
        "environ": {"PATH": os.environ["PATH"]},
        "conf": CONF,
        "stdin": document.encode(CONF),
    }
    return Request(**keys | changes)


def failing(plugins: Plugins, **changes: Any) -> CNIError:
    with pytest.raises(CNIError) as caught:
        execute.execute("noop", request(plugins, **changes))
    return caught.value


def test_a_plugin_reads_exactly_the_bytes_it_is_given(plugins: Plugins):
    plugins.install("noop")
    execute.execute("noop", request(plugins, stdin=b'{ "name":"net",\n"x": "\xc3\xbc" }\n'))
    assert plugins.calls[0]["stdin"] == '{ "name":"net",\n"x": "ü" }\n'


def test_a_plugin_gets_the_six_variables_and_inherits_the_rest(plugins: Plugins):
    plugins.install("noop")
    environ = {
        "PATH": os.environ["PATH"],
        "CNI_COMMAND": "GC",
        "CNI_CONTAINERID": "other",
        "CNI_NETNS_OVERRIDE": "1",
        "TRACEPARENT": "00-1",
    }

    execute.execute("noop", request(plugins, environ=environ, path=(str(plugins.directory), "/nowhere")))

    told = plugins.calls[0]["environ"]
    assert {key: value for key, value in told.items() if key in environ or key.startswith("CNI_")} == {
        "PATH": os.environ["PATH"],
        "TRACEPARENT": "00-1",
        "CNI_NETNS_OVERRIDE": "1",
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": "/run/netns/a",
        "CNI_IFNAME": "eth0",
        "CNI_ARGS": "K=V",
        "CNI_PATH": f"{plugins.directory}:/nowhere",
    }


def test_variables_without_a_value_are_empty_not_absent(plugins: Plugins):
    plugins.install("noop")
    environ = {"PATH": os.environ["PATH"], "CNI_NETNS": "stale", "CNI_ARGS": "stale"}

    execute.execute(
        "noop", request(plugins, command="GC", container_id="", netns="", ifname="", args="", environ=environ)
    )

    told = plugins.calls[0]["environ"]
    assert [told[f"CNI_{name}"] for name in ("CONTAINERID", "NETNS", "IFNAME", "ARGS")] == [""] * 4


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.1.0"])
def test_a_result_without_a_version_has_the_configurations(version: str, plugins: Plugins):
    answer = {"ips": [{"version": "4", "address": "10.0.0.7/24", "interface": 0}]}
    plugins.install("noop", ADD={"stdout": json.dumps(answer)})

    result = execute.execute("noop", request(plugins, conf=CONF | {"cniVersion": version}))

    assert result is not None
    assert [str(ip.address) for ip in result.ips] == ["10.0.0.7/24"]


def test_without_any_version_a_result_is_of_the_first(plugins: Plugins):
    plugins.install("noop", ADD={"stdout": '{"ip4": {"ip": "10.0.0.7/24", "routes": [{"dst": "0.0.0.0/0"}]}}'})

    result = execute.execute("noop", request(plugins, conf={"name": "net"}))

    assert result is not None
    assert ([str(ip.address) for ip in result.ips], len(result.routes)) == (["10.0.0.7/24"], 1)


@pytest.mark.parametrize("command", ["DEL", "CHECK", "GC", "STATUS"])
def test_what_other_verbs_print_does_not_matter(command: str, plugins: Plugins):
    plugins.install("noop", **{command: {"stdout": "chatter"}})
    assert execute.execute("noop", request(plugins, command=command)) is None


RESULTS = {
    "nothing": ("", DecodingFailure, "it is empty"),
    "text": ("hello", DecodingFailure, "line 1, column 1"),
    "a-list": ("[]", DecodingFailure, "must be a JSON object, not a list"),
    "two-objects": ("{}{}", DecodingFailure, "Extra data"),
    "a-version-nobody-knows": ('{"cniVersion": "9.0.0"}', DecodingFailure, "known are"),
    "a-bad-address": ('{"ips": [{"address": "10.0.0.1"}]}', InvalidConfiguration, "invalid CIDR address: 10.0.0.1"),
}


@pytest.mark.parametrize("case", RESULTS)
def test_a_result_that_is_none_is_refused(case: str, plugins: Plugins):
    stdout, kind, reason = RESULTS[case]
    plugins.install("noop", ADD={"stdout": stdout})

    error = failing(plugins)

    assert isinstance(error, kind)
    assert reason in error.reason


def test_a_plugins_own_error_is_kept(plugins: Plugins):
    plugins.install("noop", ADD=failure(11, "try later", "the API is away"))
    error = failing(plugins)
    assert (error.code, error.msg, error.details) == (11, "try later", "the API is away")


FAILURES: dict[str, tuple[dict[str, Any], str]] = {
    "only-stderr": (
        {"stderr": "some stderr message\n", "rc": 1},
        'it printed no error and exited with status 1; stderr: "some stderr message"',
    ),
    "nothing": ({"rc": 3}, "it printed no error and exited with status 3"),
    "text": ({"stdout": "oops", "rc": 1}, "it printed 'oops' and exited with status 1"),
    "an-object-that-is-no-error": ({"stdout": '{"a": 1}', "rc": 1}, "it printed '{\"a\": 1}' and exited with status 1"),
    "a-code-that-is-none": ({"stdout": '{"code": true}', "rc": 1}, "it printed '{\"code\": true}'"),
    "a-code-of-text": ({"stdout": '{"code": "7"}', "rc": 1}, 'it printed \'{"code": "7"}\''),
    "an-error-and-a-result": ({"stdout": '{"code": 7}{}', "rc": 1}, "it printed '{\"code\": 7}{}'"),
    "killed": ({"signal": int(signal.SIGKILL)}, "it printed no error and was killed by signal 9 (Killed)"),
    "killed-by-a-signal-without-a-name": ({"signal": 35}, "was killed by signal 35"),
    "binary": ({"stderr": "\udcff\x00", "rc": 1}, "exited with status 1"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_failure_without_an_error_object_tells_what_can_be_known(case: str, plugins: Plugins):
    answer, details = FAILURES[case]
    plugins.install("noop", ADD=answer)

    error = failing(plugins)

    assert error.msg == 'plugin "noop" failed'
    assert error.reason.startswith(details) or details in error.reason
    assert (type(error), error.id) == (PluginFailed, "PLX-PLUGIN-FAILED")


def test_a_message_without_a_code_is_a_message_all_the_same(plugins: Plugins):
    plugins.install("noop", ADD={"stdout": '{"msg": "no room", "details": 5}', "rc": 1})
    error = failing(plugins)
    assert (error.code, error.msg, error.details) == (PluginFailed.code, "no room", "5")


def test_of_long_output_the_end_is_told(plugins: Plugins):
    plugins.install("noop", ADD={"stderr": "x" * 5000 + " the end", "rc": 1})
    error = failing(plugins)
    assert 'x the end"' in error.reason
    assert len(error.reason) < 400


def test_what_a_plugin_that_succeeds_writes_to_stderr_is_logged(plugins: Plugins, caplog: pytest.LogCaptureFixture):
    plugins.install("noop", DEL={"stderr": "nothing to delete\n"})
    with caplog.at_level(logging.INFO, logger="cni"):
        execute.execute("noop", request(plugins, command="DEL"))
    assert 'plugin "noop" wrote: nothing to delete' in caplog.messages


def test_a_plugin_that_is_just_being_replaced_is_waited_for(plugins: Plugins):
    path = plugins.install("noop")
    writer = path.open("a")
    threading.Timer(0.4, writer.close).start()
    started = time.monotonic()

    result = execute.execute("noop", request(plugins))

    assert result is not None
    assert time.monotonic() - started < 5


def not_executable(plugins: Plugins) -> str:
    plugins.install("noop").chmod(0o644)
    return "Permission denied"


def without_its_interpreter(plugins: Plugins) -> str:
    plugins.install("noop").write_text("#!/nonexistent/sh\n")
    return "No such file or directory"


def of_no_format(plugins: Plugins) -> str:
    plugins.install("noop").write_bytes(b"\x00\x01\x02\x03")
    return "Exec format error"


@pytest.mark.parametrize("make", [not_executable, without_its_interpreter, of_no_format])
def test_a_file_that_cannot_be_executed_is_named(make: Any, plugins: Plugins):
    reason = make(plugins)
    error = failing(plugins)
    assert error.msg == f'could not execute plugin "{plugins.directory}/noop"'
    assert (error.reason, error.id) == (reason, "PLX-PLUGIN-EXEC")


def test_an_argument_that_no_process_can_have_is_refused(plugins: Plugins):
    plugins.install("noop")
    error = failing(plugins, args="K=a\0b")
    assert (error.reason, error.id) == ("embedded null byte", "PLX-PLUGIN-EXEC")


FIND: dict[str, tuple[str, tuple[str, ...], str]] = {
    "nothing": ("", ("a",), "no plugin name provided"),
    "a-path": ("a/b", ("a",), "invalid plugin name: a/b"),
    "a-climb": ("../x", ("a",), "invalid plugin name: ../x"),
    "dots": ("..", ("a",), "invalid plugin name: .."),
    "a-nul": ("a\0b", ("a",), "invalid plugin name: a\0b"),
    "no-path": ("x", (), "no paths provided"),
    "not-there": ("x", ("a", "/nowhere"), 'failed to find plugin "x" in path [a /nowhere]'),
}


@pytest.mark.parametrize("case", FIND)
def test_a_plugin_that_cannot_be_found_is_told_in_libcnis_words(case: str):
    kind, path, msg = FIND[case]
    with pytest.raises(CNIError) as caught:
        execute.find(kind, path)
    assert caught.value.msg == msg
    assert caught.value.id in ("PLX-PLUGIN-TYPE", "PLX-PLUGIN-MISSING")


def test_the_first_regular_file_in_the_path_is_the_plugin(tmp_path: Path):
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "x").mkdir()
    (tmp_path / "b" / "x").touch(0o755)
    (tmp_path / "c" / "x").touch(0o755)
    assert execute.find("x", tuple(str(tmp_path / name) for name in ("a", "b", "c"))) == str(tmp_path / "b" / "x")
