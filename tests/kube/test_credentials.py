"""Which server a kubeconfig means and who asks it, whether we read it or the library does; over TLS."""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from api_server import Server, write_kubeconfig
from installed import tools

from cni.kube import credentials
from cni.kube.connection import Connection, Passing
from cni.spec.errors import InvalidConfiguration

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return certificate(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def server(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority, authority.with_suffix(".key"))
    made = Server((200, {"kind": "Answer"}), tls=context)
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


def certificate(directory):
    """One that vouches for itself, with its key beside it."""
    tools("openssl")
    path = directory / "ca.crt"
    words = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=api",
    ]
    names = ["-subj", "/CN=api", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        ["openssl", *words, *names, "-keyout", str(path.with_suffix(".key")), "-out", str(path)],
        check=True,
        capture_output=True,
    )
    return path


def encoded(path):
    return base64.b64encode(path.read_bytes()).decode()


def ask(path):
    return Connection(str(path)).request("GET", "/version", timeout=10)


def imports_of(path):
    """What asking a question imports, in a process of its own."""
    script = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); from cni.kube.connection import Connection\n"
        "Connection(sys.argv[2]).request('GET', '/version', timeout=10); print(json.dumps(sorted(sys.modules)))"
    )
    words = [sys.executable, "-I", "-c", script, str(ROOT), str(path)]
    return json.loads(subprocess.run(words, check=True, capture_output=True, text=True, env={}).stdout)


@pytest.mark.parametrize("form", ["file", "relative file", "data"])
@pytest.mark.parametrize("reader", ["ours", "library"])
def test_the_authority_of_a_kubeconfig_is_trusted(server, authority, tmp_path, form, reader):
    (tmp_path / "copy.crt").write_bytes(authority.read_bytes())
    keys = {
        "file": {"certificate-authority": str(authority)},
        "relative file": {"certificate-authority": "copy.crt"},
        "data": {"certificate-authority-data": encoded(authority)},
    }[form]
    write_kubeconfig(tmp_path / "k", server.url + "/", "good", keys | ({"x": 1} if reader == "library" else {}))

    assert ask(tmp_path / "k") == {"kind": "Answer"}
    assert ("kubernetes" in imports_of(tmp_path / "k")) == (reader == "library")


@pytest.mark.parametrize("extra", [{}, {"x": 1}])
def test_another_authority_is_not_trusted(server, tmp_path, extra):
    other = certificate(tmp_path)
    write_kubeconfig(tmp_path / "k", server.url, "good", {"certificate-authority": str(other)} | extra)

    with pytest.raises(Passing, match="CERTIFICATE_VERIFY_FAILED"):
        ask(tmp_path / "k")
    assert not server.requests


def test_a_kubeconfig_in_yaml_is_read_too(server, authority, tmp_path):
    write_kubeconfig(tmp_path / "json", server.url, "good", {"certificate-authority": str(authority)})
    (tmp_path / "k").write_text(yaml.safe_dump(json.loads((tmp_path / "json").read_text())))

    assert ask(tmp_path / "k") == {"kind": "Answer"}
    assert "kubernetes" not in imports_of(tmp_path / "k")


@pytest.mark.parametrize(
    "keys",
    [
        {"tokenFile": "elsewhere"},
        {"exec": {"command": "/bin/true", "apiVersion": "client.authentication.k8s.io/v1"}},
        {"auth-provider": {"name": "oidc"}},
        {"client-certificate": "elsewhere"},
        {"username": "a", "password": "b"},
        {"as": "another"},
    ],
)
def test_who_is_somebody_by_more_than_a_token_is_left_to_the_library(tmp_path, monkeypatch, keys):
    monkeypatch.setattr(credentials, "_by_library", lambda path: f"library: {path}")
    write_kubeconfig(tmp_path / "k", "http://127.0.0.1:1", "good", user=keys)

    assert credentials.load(str(tmp_path / "k")) == f"library: {tmp_path / 'k'}"


@pytest.mark.parametrize("keys", [{"insecure-skip-tls-verify": True}, {"tls-server-name": "x"}, {"proxy-url": "x"}])
def test_a_server_with_more_than_an_authority_is_left_to_the_library(tmp_path, monkeypatch, keys):
    monkeypatch.setattr(credentials, "_by_library", lambda path: f"library: {path}")
    write_kubeconfig(tmp_path / "k", "http://127.0.0.1:1", "good", keys)

    assert credentials.load(str(tmp_path / "k")) == f"library: {tmp_path / 'k'}"


def test_proxies_are_left_to_the_library(tmp_path, monkeypatch):
    monkeypatch.setattr(credentials, "_by_library", lambda path: f"library: {path}")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    write_kubeconfig(tmp_path / "k", "http://127.0.0.1:1", "good")

    assert credentials.load(str(tmp_path / "k")) == f"library: {tmp_path / 'k'}"


@pytest.mark.parametrize("extra", [{}, {"x": 1}])
def test_a_token_that_no_header_can_hold_is_told_without_it(server, authority, tmp_path, extra):
    keys = {"certificate-authority": str(authority)} | extra
    write_kubeconfig(tmp_path / "k", server.url, "go\r\nod: x", keys)

    with pytest.raises(InvalidConfiguration, match="no header") as caught:
        ask(tmp_path / "k")
    assert "od: x" not in str(caught.value)


def test_questions_in_turn_share_a_connection(server, authority, tmp_path):
    write_kubeconfig(tmp_path / "k", server.url, "good", {"certificate-authority": str(authority)})
    connection = Connection(str(tmp_path / "k"))

    for _ in range(3):
        connection.request("GET", "/version", timeout=10)

    assert len(server.requests) == 3
    assert len(server.peers) == 1
