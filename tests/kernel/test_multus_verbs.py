"""The rows about ADD, DEL, CHECK, STATUS, GC and events, with executed plugins and an API server, in every version."""

from __future__ import annotations

import json
import time

import pytest
from multus_player import Player
from vectors import cases

from cni.meta import inherited

PATIENCE = 10

VERSIONS = ["0.2.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]
ROWS = [
    pytest.param(row, version, id=f"{row['id']} {version}")
    for row in cases.load("multus_verbs")
    for version in row.get("versions", VERSIONS)
]
VERBS = ("ADD", "DEL", "CHECK", "STATUS", "GC", "VERSION")


@pytest.fixture
def player(row, version, sandbox, tmp_path, monkeypatch):
    monkeypatch.setattr(inherited, "MULTUS", str(tmp_path / "multus"))
    made = Player(row["given"], version, sandbox.path, tmp_path)
    yield made
    made.stop()


@pytest.mark.parametrize(("row", "version"), ROWS)
def test_the_calls_are_what_the_row_says(row, player):
    for step in _named(row["steps"], player):
        if step["do"] in VERBS:
            _play(step, player)
        else:
            player.play_a_part(step["do"])


def _named(steps, player):
    """The steps with the paths of this run."""
    text = json.dumps(steps).replace("$BIN", str(player.plugins.directory))
    return json.loads(text.replace("$SANDBOX", player.sandbox))


def _play(step, player):
    before, asked = len(player.calls()), len(player.api.requests) if player.api else 0

    answer = player.call(step["do"], **_changes(step, player))

    _compare_answer(step, answer)
    calls = player.calls()[before:]
    assert [call["short"] for call in calls] == step["calls"] + step.get("then", [])
    for call in calls[: len(step["calls"])]:
        _compare_call(step, call)
    if "files" in step:
        assert player.files() == step["files"]
    if "events" in step:
        _wait(lambda: len(player.api.events()) >= len(step["events"]))
        _compare_events(step["events"], player.api.events())
    if "requests" in step:
        _wait(lambda: len(player.api.requests) - asked >= len(step["requests"]))
        assert [f"{method} {path}" for method, path, *_ in player.api.requests[asked:]] == step["requests"]


def _wait(true):
    """Wait until it is so, or for long enough: a daemon sends events when their calls have ended."""
    end = time.monotonic() + PATIENCE
    while not true() and time.monotonic() < end:
        time.sleep(0.01)


def _changes(step, player):
    changes = {"netns": step["netns"]} if "netns" in step else {}
    if step.get("prev"):
        return changes | {"conf": {"prevResult": player.last_result}}
    if "valid" in step:
        pairs = [dict(zip(("containerID", "ifname"), text.split(), strict=True)) for text in step["valid"]]
        return changes | {"conf": {"cni.dev/valid-attachments": pairs}}
    return changes


def _compare_answer(step, answer):
    if "error" not in step:
        assert answer.rc == 0, answer.stdout
        if "ips" in step:
            assert _addresses(answer.result) == step["ips"]
        if "version" in step:
            assert answer.result["cniVersion"] == step["version"]
        if "prints" in step:
            assert answer.result == step["prints"]
        return
    assert answer.rc != 0
    error, expected = answer.result, step["error"]
    told = f"{error['msg']}; {error.get('details', '')}"
    assert error["code"] == expected["code"], told
    assert expected["text"] in told
    assert expected.get("id", "") in told


def _addresses(result):
    if "ip4" in result:
        return [result["ip4"]["ip"]]
    return [ip["address"] for ip in result["ips"]]


def _compare_call(step, call):
    """Keys of stdin (None: it must not be there), and variables of the environment."""
    stdin = json.loads(call["stdin"])
    for key, value in step.get("stdin", {}).get(call["type"], {}).items():
        assert stdin.get(key) == value
    for key, value in step.get("env", {}).get(call["type"], {}).items():
        assert call["environ"][key] == value


def _compare_events(expected, found):
    assert len(found) == len(expected), found
    for (kind, reason, text), event in zip(expected, found, strict=True):
        assert event[:2] == [kind, reason]
        assert text in event[2]
