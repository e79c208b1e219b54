"""What the meta plugin logs, at which level, and what must never be in a log or fail because of one."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cni.plugin import invoke, log, logfile, skel
from cni.spec.errors import CNIError, InvalidConfiguration
from cni.spec.request import Request

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \[(\w+)\] \d+: (.*)")
NASTY = 'x\n2026-01-01T00:00:00.000Z [error] 1: forged\r\x1b[31m\u2028\u202e%s %(name)s {0} "'


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    yield
    for handler in root.handlers[:]:
        if isinstance(handler, log.OfThisCall):
            root.removeHandler(handler)
    for name in log.OURS:
        logging.getLogger(name).setLevel(logging.NOTSET)


class Meta(ModuleType):
    """A meta plugin that does what it is told, through a delegate."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
        super().__init__("fake_meta")
        self.path = path
        self.error: Exception | None = None
        monkeypatch.setitem(sys.modules, "fake_meta", self)
        monkeypatch.setitem(invoke.META, "plexus", "fake_meta")

    def delete(self, request: Request) -> None:
        conf = {"name": "net", "type": "passthru", "token": "s3cret"}
        invoke.call("passthru", request.replace(ifname="net1").with_conf(conf))
        logging.getLogger("ipam.store").warning("a warning of ours")
        logging.getLogger("kubernetes.client.rest").debug("response body: s3cret")
        if self.error:
            raise self.error

    def call(self, **conf: Any) -> str:
        """What DEL answers."""
        environ = {"CNI_COMMAND": "DEL", "CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0", "CNI_PATH": "/x"}
        environ["CNI_ARGS"] = "IgnoreUnknown=1;K8S_POD_NAMESPACE=test;K8S_POD_NAME=vm"
        stdin = json.dumps({"cniVersion": "1.1.0", "name": "plexus", "logFile": str(self.path), **conf})
        stdout = io.StringIO()
        skel.run("plexus", environ, io.BytesIO(stdin.encode()), stdout, io.StringIO())
        return stdout.getvalue()

    @property
    def lines(self) -> list[tuple[str, str]]:
        """Level and text of every line, those of tracebacks without a level."""
        lines = self.path.read_text().split("\n")[:-1] if self.path.exists() else []
        found = [(line, LINE.fullmatch(line)) for line in lines]
        return [(match[1], match[2]) if match else ("", line) for line, match in found]


@pytest.fixture
def meta(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Meta:
    return Meta(monkeypatch, tmp_path / "x.log")


WARNING = ("warning", "a warning of ours")
FAILURE = InvalidConfiguration("could not do it", "for a reason", id="PLX-CONF")
OF_CALL = "DEL containerID=c1 ifname=eth0 pod=test/vm duration=… "
DONE = ("verbose", OF_CALL + "done")
FAILED = ("error", OF_CALL + "failed with code 7: could not do it; for a reason [PLX-CONF]")
DELEGATE = ("debug", "DEL containerID=c1 ifname=net1 plugin=passthru network=net duration=… done")
CASES = {
    "debug": (None, [DELEGATE, WARNING, DONE]),
    "verbose": (None, [WARNING, DONE]),
    "error": (None, [WARNING]),
    "": (None, [WARNING]),
    "panic": (None, []),
    "Debug": (FAILURE, [DELEGATE, WARNING, FAILED]),
    "VERBOSE": (FAILURE, [WARNING, FAILED]),
    "eRRor": (FAILURE, [WARNING, FAILED]),
    "PANIC": (FAILURE, []),
}


def timeless(lines: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(level, re.sub(r"duration=\d+\.\d{3}s", "duration=…", text)) for level, text in lines]


@pytest.mark.parametrize("level", CASES)
def test_each_level_says_what_it_is_for(level: str, meta: Meta):
    meta.error, expected = CASES[level]
    meta.call(logLevel=level)
    assert timeless(meta.lines) == expected


@pytest.mark.parametrize("level", ["error", "panic", ""])
def test_a_defect_is_logged_with_its_traceback_at_every_level(level: str, meta: Meta):
    meta.error = KeyError(NASTY)
    answer = meta.call(logLevel=level)

    assert json.loads(answer)["code"] == 999
    panic = [index for index, (label, _) in enumerate(meta.lines) if label == "panic"]
    assert [meta.lines[index] for index in panic] == [("panic", "plexus failed unexpectedly")]
    rest = meta.lines[panic[0] + 1 :]
    assert rest[0] == ("", "    Traceback (most recent call last):")
    assert all(label == "" and text.startswith("    ") for label, text in rest)


def test_an_unknown_level_is_told_and_does_no_harm(meta: Meta):
    assert meta.call(logLevel="chatty\n") == ""
    told = r"unknown logLevel 'chatty\n': it is debug, verbose, error or panic; logging as with 'error'"
    assert meta.lines == [("warning", told), WARNING]


def test_text_of_others_begins_no_line_and_is_no_format(meta: Meta):
    meta.error = CNIError(NASTY, NASTY, id="PLX-CONF")
    meta.call(logLevel="verbose")
    assert [label for label, _ in meta.lines] == ["warning", "error"]
    escaped = 'x\\n2026-01-01T00:00:00.000Z [error] 1: forged\\r\\x1b[31m\\u2028\\u202e%s %(name)s {0} "'
    assert f"code 999: {escaped}; {escaped} [PLX-CONF]" in meta.lines[1][1]


def test_the_answer_is_not_what_is_logged(meta: Meta):
    meta.error = CNIError("a\nb")
    assert json.loads(meta.call(logLevel="debug"))["msg"] == "a\nb"


def test_an_endless_text_is_cut(meta: Meta):
    meta.error = CNIError("x" * 1_000_000)
    meta.call(logLevel="error")
    assert len(meta.lines[-1][1]) == log.LONGEST + 1


def test_secrets_of_configurations_and_libraries_are_not_logged(meta: Meta):
    meta.call(logLevel="debug", kubeconfigContent="s3cret", delegates=[{"type": "x", "token": "s3cret"}])
    assert "s3cret" not in meta.path.read_text()


def test_stderr_gets_warnings_and_defects_but_no_second_copy_of_the_answer(
    meta: Meta, capsys: pytest.CaptureFixture[str]
):
    meta.error = FAILURE
    meta.call(logFile="")
    assert [line.partition("] ")[0][-8:] for line in capsys.readouterr().err.splitlines()] == ["[warning"]


def test_a_level_is_stderrs_too(meta: Meta, capsys: pytest.CaptureFixture[str]):
    meta.call(logLevel="debug")
    assert capsys.readouterr().err == meta.path.read_text()


def test_stderr_can_be_spared(meta: Meta, capsys: pytest.CaptureFixture[str]):
    meta.error = KeyError("x")
    meta.call(logLevel="debug", logToStderr=False)
    assert capsys.readouterr().err == ""
    assert len(meta.lines) > 3


def test_one_configuration_does_not_outlive_its_call(meta: Meta):
    meta.call(logLevel="debug")
    before = meta.lines
    meta.call(logFile="")
    assert meta.lines == before


def test_plugins_but_the_meta_plugin_have_keys_of_their_own(meta: Meta, tmp_path: Path):
    conf = {"name": "n", "logFile": str(tmp_path / "theirs.log"), "logLevel": "debug"}
    environ = {"CNI_COMMAND": "DEL", "CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0", "CNI_PATH": "/x"}
    skel.run("passthru", environ, io.BytesIO(json.dumps(conf).encode()), io.StringIO(), io.StringIO())
    assert list(tmp_path.iterdir()) == []


def test_a_call_that_is_refused_at_once_is_logged(meta: Meta):
    meta.call(cniVersion="9.0.0", logLevel="error")
    assert "failed with code 1: incompatible CNI versions" in meta.lines[0][1]


@pytest.mark.parametrize("wrong", [5, None, [], {"maxSize": "x", "maxAge": -1.5, "compress": 1}, "x"])
def test_wrong_values_are_left_to_whoever_checks_the_configuration(wrong: Any, meta: Meta):
    for key in ("logLevel", "logToStderr", "logOptions"):
        assert meta.call(**{key: wrong}) == ""
    assert log.read({"logFile": wrong if wrong != "x" else 5}) == log.Settings()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"maxAge": 1, "maxSize": 10, "maxBackups": 1, "compress": False}, logfile.Backups(10 << 20, 1, 1, False)),
        ({"maxBackups": 1}, logfile.Backups(100 << 20, 5, 1, True)),
        ({"MAXSIZE": 0, "maxAge": 0, "maxBackups": 0}, logfile.Backups(100 << 20, 0, 0, True)),
        ({}, logfile.Backups(100 << 20, 5, 5, True)),
        (None, logfile.Backups(100 << 20, 5, 5, True)),
    ],
)
def test_options_that_are_not_given_have_their_defaults(options: Any, expected: logfile.Backups):
    assert log.read({"logOptions": options}).backups == expected


def test_calls_at_the_same_time_log_each_as_its_own_configuration_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    both = threading.Barrier(2)
    heard = {level: io.StringIO() for level in ("debug", "panic")}

    def serve(level: str) -> None:
        log.begin(heard[level])
        log.configure({"logLevel": level, "logFile": str(tmp_path / level)})
        both.wait(10)
        logging.getLogger("ipam.store").debug("said by %s", level)

    threads = [threading.Thread(target=serve, args=(level,)) for level in heard]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert LINE.fullmatch((tmp_path / "debug").read_text().strip())[2] == "said by debug"
    assert heard["debug"].getvalue() == (tmp_path / "debug").read_text()
    assert not (tmp_path / "panic").exists()
    assert not heard["panic"].getvalue()
