"""The shipped role has what is asked of the API, and nothing besides."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest
import yaml
from api_server import Server, write_kubeconfig

from cni.kube.api import DEFINITIONS, ApiServer
from cni.kube.connection import Connection
from cni.kube.objects import Pod
from cni.node.host_token import Holder, HostToken
from cni.spec.errors import TryAgainLater

ROLES = Path(__file__).parents[2] / "deploy" / "base" / "rbac.yaml"
VERBS = {"GET": "get", "POST": "create", "PATCH": "patch"}
OBJECT = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/v1(?:/namespaces/[^/]+)?/(?P<resource>[^/?]+)(?:/(?P<name>[^/?]+))?(?:/(?P<below>\w+))?"
)
CLAIM = {"metadata": {"name": "claim"}, "status": {"allocation": {"devices": {"results": []}}}}


def granted() -> set[tuple[str, str, str]]:
    documents = [document for document in yaml.safe_load_all(ROLES.read_text()) if document]
    rules = [rule for document in documents for rule in document.get("rules", ())]
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def understood(method: str, path: str) -> tuple[str, str, str]:
    """The right that a request needs, as the API server reads it."""
    found = OBJECT.match(path)
    assert found, path
    resource = found["resource"] + (f"/{found['below']}" if found["below"] else "")
    verb = "list" if method == "GET" and not found["name"] else VERBS[method]
    return found["group"] or "", resource, verb


@pytest.fixture
def server():
    made = Server((200, {"items": [], "metadata": {}}))
    yield made
    made.stop()


def test_everything_that_is_granted_is_asked_for_and_nothing_else(server, tmp_path):
    write_kubeconfig(tmp_path / "kubeconfig", server.url, "good")
    connection = Connection(str(tmp_path / "kubeconfig"))
    api = ApiServer(connection, deadline=5)
    pod = Pod(namespace="d", name="p", uid="u", node="n", claims=("claim",))
    server.objects["/apis/resource.k8s.io/v1/namespaces/d/resourceclaims/claim"] = CLAIM
    for path in ("/api/v1/namespaces/d/pods/p", "/api/v1/namespaces/d/pods/p/status", DEFINITIONS.format("d", "n")):
        server.objects[path] = {}

    api.get_pod("d", "p")
    api.find_network("d", "n")
    api.publish(pod, "[]")
    api.announce(pod, "reason", "message")
    for ask in (lambda: api.claimed_devices(pod, {"a/b"}), lambda: api.is_claimable(pod, "a/b")):
        with contextlib.suppress(TryAgainLater):
            ask()
    HostToken(connection, Holder(namespace="kube-system", account="plexus", node="n"), lambda: 0.0).get()

    assert {understood(method, path) for method, path, *_ in server.requests} == granted()


def test_no_right_is_a_wildcard_or_about_secrets():
    for right in granted():
        assert "*" not in "".join(right)
        assert "secrets" not in right[1]
        assert right[2] not in ("delete", "deletecollection", "update", "escalate", "impersonate", "bind")
