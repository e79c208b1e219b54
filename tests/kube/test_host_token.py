"""The token of the plugins on the host: asked for once an hour, and never lost for want of an answer."""

import pytest
from api_server import Server, write_kubeconfig

from cni.kube.connection import Connection
from cni.node.host_token import LIFETIME, RENEWAL, RETRY, Holder, HostToken

PATH = "/api/v1/namespaces/kube-system/serviceaccounts/plexus/token"
HOLDER = Holder(namespace="kube-system", account="plexus", node="node-1")
DOWN = (503, {"message": "starting"})


def given(token: str) -> tuple[int, dict]:
    return 201, {"status": {"token": token, "expirationTimestamp": "2027-01-01T00:00:00Z"}}


class Asking:
    """A token, and the clock that it goes by."""

    def __init__(self, server: Server, kubeconfig: str) -> None:
        self.server = server
        self.now = 0.0
        self.token = HostToken(Connection(kubeconfig), HOLDER, lambda: self.now)

    def after(self, seconds: float, *answers: tuple[int, dict]) -> str | None:
        self.now += seconds
        self.server.answers = list(answers) or [DOWN]
        return self.token.get()

    def asked(self) -> list[dict]:
        return [body["spec"] for _, path, _, body in self.server.requests if path == PATH]


@pytest.fixture
def asking(tmp_path):
    server = Server()
    write_kubeconfig(tmp_path / "kubeconfig", server.url, "good")
    yield Asking(server, str(tmp_path / "kubeconfig"))
    server.stop()


def test_a_token_that_ends_with_the_node_is_asked_for_once_an_hour(asking):
    assert asking.after(0, given("first")) == "first"
    assert asking.after(RENEWAL - 1, given("second")) == "first"
    assert asking.after(1, given("second")) == "second"
    node = {"apiVersion": "v1", "kind": "Node", "name": "node-1"}
    assert asking.asked() == [{"expirationSeconds": LIFETIME, "boundObjectRef": node}] * 2


def test_a_server_that_cannot_bind_tokens_to_nodes_is_asked_for_a_free_one(asking):
    refused = (422, {"message": 'boundObjectRef.kind: Invalid value: "Node"'})

    assert asking.after(0, refused, given("free")) == "free"

    assert asking.asked()[1] == {"expirationSeconds": LIFETIME}


def test_without_an_answer_the_last_token_is_kept_and_asked_for_again_soon(asking, caplog):
    assert asking.after(0, DOWN) is None
    assert asking.after(RETRY, given("first")) == "first"
    assert asking.after(RENEWAL, DOWN) == "first"
    assert asking.after(RETRY, DOWN) == "first"
    assert asking.after(RETRY, (201, {"status": {}})) == "first"
    assert asking.after(RETRY, given("second")) == "second"
    assert "could not get a token" in caplog.text
    assert "first" not in caplog.text


def test_without_a_role_there_is_none_and_the_log_says_so(asking, caplog):
    assert asking.after(0, (403, {"message": "forbidden"})) == ""
    assert "see the Role of plexus" in caplog.text


def test_only_a_pod_of_the_daemonset_knows_whose_token_to_ask_for():
    told = {"PLEXUS_NAMESPACE": "kube-system", "PLEXUS_SERVICE_ACCOUNT": "plexus", "PLEXUS_NODE_NAME": "node-1"}
    assert Holder.find(told) == HOLDER
    assert all(Holder.find(told | {key: ""}) is None for key in told)
