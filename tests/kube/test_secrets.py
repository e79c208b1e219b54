"""No token gets into an error, the log, an event or another process, whoever says it to us."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from api_server import Server, write_kubeconfig

from cni.kube.api import ApiServer
from cni.kube.connection import Connection
from cni.kube.objects import Pod
from cni.spec.errors import CNIError

ROOT = Path(__file__).parents[2]
TOKEN = "s3cret-token-of-the-node"
JWT = "eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.eyJzdWIiOiJzeXN0ZW0ifQ.c2lnbmF0dXJl"
POD = Pod(namespace="vms", name="vm", uid="u1")
SAID = [
    f"the header was Authorization: Bearer {TOKEN}",
    f"token {TOKEN} is not valid",
    f"{TOKEN}{TOKEN}",
    f"issued {JWT} instead",
    f"bearer   {JWT}",
]


@pytest.fixture
def server():
    made = Server()
    made.token = TOKEN
    yield made
    made.stop()


@pytest.fixture
def api(server, tmp_path):
    write_kubeconfig(tmp_path / "kubeconfig", server.url, TOKEN)
    return ApiServer(Connection(str(tmp_path / "kubeconfig")), deadline=0.2)


def told_by(call, caplog):
    """All that somebody can read of a failing call, tracebacks too."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(CNIError) as caught:
        call()
    return "".join(traceback.format_exception(caught.value)) + caught.value.details + caplog.text


@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("status", [400, 401, 403, 409, 500, 503])
def test_what_the_server_says_of_a_token_is_told_without_it(api, server, caplog, status, said):
    server.answers = [(status, {"message": said})]
    told = told_by(lambda: api.get_pod("vms", "vm"), caplog)
    assert TOKEN not in told
    assert JWT not in told
    assert str(status) in told


@pytest.mark.parametrize("said", SAID)
def test_an_answer_that_is_no_json_is_quoted_without_tokens(api, server, caplog, said, monkeypatch):
    server.answers = [(200, {})]
    monkeypatch.setattr("api_server.json.dumps", lambda _data: f"<html>{said}")
    told = told_by(lambda: api.get_pod("vms", "vm"), caplog)
    assert "no JSON: '<html>" in told
    assert JWT[:30] not in told
    assert TOKEN not in told


def test_the_reason_itself_is_told(api, server, caplog):
    server.answers = [(403, {"message": 'User "x" cannot get resource "pods"'})]
    assert 'User "x" cannot get resource "pods"' in told_by(lambda: api.get_pod("vms", "vm"), caplog)


@pytest.mark.parametrize(
    "broken",
    [
        "users: [{name: u, user: {token: TOKEN}",
        '{"users": [{"name": "u", "user": {"token": "TOKEN"}}]}',
        '{"current-context": "TOKEN", "contexts": [], "users": [], "clusters": []}',
        "TOKEN",
    ],
)
def test_a_kubeconfig_that_is_broken_is_not_quoted(tmp_path, caplog, broken):
    path = tmp_path / "kubeconfig"
    path.write_text(broken.replace("TOKEN", TOKEN))
    assert TOKEN not in told_by(lambda: ApiServer(Connection(str(path)), deadline=0.2).get_pod("vms", "vm"), caplog)


@pytest.mark.parametrize("strange", [f"{TOKEN}\n", f"{TOKEN}\u20ac", f"a {TOKEN}\r\nx: y"])
def test_a_token_that_no_header_can_hold_is_not_quoted(server, tmp_path, caplog, strange):
    path = tmp_path / "kubeconfig"
    write_kubeconfig(path, server.url, strange)
    assert TOKEN not in told_by(lambda: ApiServer(Connection(str(path)), deadline=0.2).get_pod("vms", "vm"), caplog)


def test_no_event_has_a_token(api, server):
    server.answers = [(201, {})]
    api.announce(POD, "NoNetworkFound", "could not", warning=True)
    ((_, _, _, body),) = server.requests
    assert TOKEN not in str(body)


LOOK = f"""#!{sys.executable} -I
import glob, json, sys
names = glob.glob("/proc/self/environ") + [f"/proc/{{p}}/cmdline" for p in ("self", __import__("os").getppid())]
print(json.dumps({{"code": 100, "msg": " ".join(open(name, errors="replace").read() for name in names)}}))
sys.exit(1)
"""


def test_no_process_has_a_token_in_its_arguments_or_its_environment(server, tmp_path):
    """An executed plugin tells what it sees of itself, and of the process that executed it."""
    conf = '{"cniVersion": "1.0.0", "name": "n", "type": "look"}'
    server.objects["/api/v1/namespaces/vms/pods/vm"] = {"metadata": {"name": "vm", "uid": "u1"}}
    server.answers = [(201, {})]
    write_kubeconfig(tmp_path / "kubeconfig", server.url, TOKEN)
    (tmp_path / "look").write_text(LOOK)
    (tmp_path / "look").chmod(0o755)
    keys = f'"kubeconfig": "{tmp_path}/kubeconfig", "binDir": "{tmp_path}", "cniDir": "{tmp_path}/state"'
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from cni.plugin import skel; sys.exit(skel.main('plexus'))"
    )
    environ = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": f"/proc/{os.getpid()}/ns/net",
        "CNI_NETNS_OVERRIDE": "1",
        "CNI_IFNAME": "eth7",
        "CNI_ARGS": "K8S_POD_NAMESPACE=vms;K8S_POD_NAME=vm",
        "CNI_PATH": "/x",
    }
    done = subprocess.run(
        [sys.executable, "-I", "-c", script],
        input=f'{{"cniVersion": "1.0.0", "name": "p", "type": "plexus", "delegates": [{conf}], {keys}}}',
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "CNI_CONTAINERID=c1" in done.stdout
    assert TOKEN not in done.stdout + done.stderr
    assert server.requests
    state = "".join(path.read_text() for path in (tmp_path / "state").rglob("*") if path.is_file())
    assert TOKEN not in state
