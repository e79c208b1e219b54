"""The API source against a server that answers as told: late, with errors, or not at all."""

from __future__ import annotations

import os
import socket
import threading

import pytest
from api_server import RESET, Server, write_kubeconfig

from cni.kube import connection
from cni.kube.api import NETWORK_STATUS, ApiServer
from cni.kube.connection import KEPT, Connection, Connections
from cni.kube.objects import Pod
from cni.spec.errors import InvalidConfiguration, PluginUnavailable, TryAgainLater

POD = {"metadata": {"name": "vm", "namespace": "vms", "uid": "u1", "annotations": {"a": "b"}}}
NAD = {"metadata": {"name": "net"}, "spec": {"config": '{"type": "bridge"}'}}


@pytest.fixture
def server():
    made = Server((200, POD))
    yield made
    made.stop()


@pytest.fixture
def kubeconfig(server, tmp_path):
    path = tmp_path / "kubeconfig"
    write_kubeconfig(path, server.url, "good")
    return path


@pytest.fixture
def api(kubeconfig):
    return ApiServer(Connection(str(kubeconfig)), deadline=20)


def test_a_pod_is_read_with_its_annotations(api, server):
    assert api.get_pod("vms", "vm") == Pod(namespace="vms", name="vm", uid="u1", annotations={"a": "b"})
    method, path, *_ = server.requests[0]
    assert (method, path) == ("GET", "/api/v1/namespaces/vms/pods/vm")


def test_a_definition_is_read(api, server):
    server.answers = [(200, NAD)]

    found = api.find_network("default", "net")

    assert found is not None
    assert found.config == '{"type": "bridge"}'
    assert server.requests[0][1] == "/apis/k8s.cni.cncf.io/v1/namespaces/default/network-attachment-definitions/net"


def test_a_definition_that_does_not_exist_is_none(api, server):
    server.answers = [(404, {"message": "not found"})]

    assert api.find_network("default", "net") is None


def test_a_pod_that_does_not_exist_is_unknown(api, server):
    server.answers = [(404, {"message": "not found"})]

    with pytest.raises(TryAgainLater, match='"vms/vm"') as caught:
        api.get_pod("vms", "vm")
    assert caught.value.id == "PLX-POD-UNKNOWN"


@pytest.mark.parametrize("bad", [(410, {}), (429, {}), (500, {}), (503, {"message": "etcd"}), RESET])
def test_a_passing_failure_is_asked_again(api, server, bad):
    server.answers = [bad, bad, (200, POD)]

    assert api.get_pod("vms", "vm").uid == "u1"
    assert len(server.requests) == 3


@pytest.mark.parametrize("other", [{}, [], None, "ok", {"metadata": []}, {"metadata": {"name": "other"}}])
def test_what_is_not_the_object_that_was_asked_for_is_no_pod_without_networks(api, server, other):
    server.answers = [(200, other), (200, other), (200, POD)]

    assert api.get_pod("vms", "vm").uid == "u1"
    assert len(server.requests) == 3


def test_an_answer_that_is_larger_than_any_of_ours_is_not_taken(api, server, monkeypatch):
    monkeypatch.setattr(connection, "LARGEST", 100_000)
    server.answers = [(200, POD | {"padding": "x" * 200_000}), (200, POD | {"padding": "x" * 50_000})]

    assert api.get_pod("vms", "vm").uid == "u1"
    assert len(server.requests) == 2


def test_a_slow_answer_is_waited_for(api, server):
    server.delay = 3

    assert api.get_pod("vms", "vm").uid == "u1"


def test_what_stays_unanswered_is_unknown_and_never_without_networks(server, kubeconfig):
    server.answers = [(503, {"message": "leader election"})]

    with pytest.raises(TryAgainLater, match="leader election") as caught:
        ApiServer(Connection(str(kubeconfig)), deadline=0.5).get_pod("vms", "vm")
    assert caught.value.code == 11
    assert caught.value.id == "PLX-API-UNREACHABLE"


def test_a_server_that_is_not_there_is_told(kubeconfig, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    write_kubeconfig(kubeconfig, url, "good")

    with pytest.raises(PluginUnavailable, match="Connection refused"):
        ApiServer(Connection(str(kubeconfig)), deadline=0.3).check_ready()


def test_a_refusal_is_told_at_once(api, server):
    server.answers = [(403, {"message": "pods is forbidden"})]

    with pytest.raises(InvalidConfiguration, match="pods is forbidden"):
        api.get_pod("vms", "vm")
    assert len(server.requests) == 1


def test_a_token_that_has_changed_is_read_again(api, server, kubeconfig):
    assert api.get_pod("vms", "vm").uid == "u1"
    server.token = "new"
    write_kubeconfig(kubeconfig, server.url, "new")

    assert api.get_pod("vms", "vm").uid == "u1"


def test_a_token_that_expires_while_we_wait_is_read_again(api, server, kubeconfig):
    server.token = "new"
    threading.Timer(0.3, write_kubeconfig, (kubeconfig, server.url, "new")).start()

    assert api.get_pod("vms", "vm").uid == "u1"


def test_a_token_never_reaches_an_error(server, kubeconfig):
    server.token = "other"

    with pytest.raises(TryAgainLater) as caught:
        ApiServer(Connection(str(kubeconfig)), deadline=0.2).get_pod("vms", "vm")
    assert "good" not in str(caught.value)
    assert caught.value.id == "PLX-API-UNAUTHORIZED"


@pytest.mark.parametrize("text", ["", "{", "token: secret\n", "[]", "current-context: x\n"])
def test_a_kubeconfig_that_cannot_be_read_is_told_without_its_content(tmp_path, text):
    path = tmp_path / "kubeconfig"
    path.write_text(text)

    with pytest.raises(InvalidConfiguration, match="kubeconfig") as caught:
        ApiServer(Connection(str(path)), deadline=1).get_pod("a", "b")
    assert "secret" not in str(caught.value)


def test_network_status_is_one_patch_of_one_annotation(api, server):
    api.publish(Pod(namespace="vms", name="vm", uid="u1"), "[]")

    ((method, path, headers, body),) = server.requests
    assert (method, path) == ("PATCH", "/api/v1/namespaces/vms/pods/vm/status")
    assert headers["Content-Type"] == "application/merge-patch+json"
    assert body == {"metadata": {"uid": "u1", "annotations": {NETWORK_STATUS: "[]"}}}


def test_network_status_of_a_pod_that_is_gone_fails_the_add(api, server):
    server.answers = [(404, {})]

    with pytest.raises(TryAgainLater, match="the pod is gone"):
        api.publish(Pod(namespace="vms", name="vm"), "[]")


@pytest.mark.parametrize("status", [409, 422])
def test_network_status_for_another_pod_of_that_name_fails_the_add_at_once(api, server, status):
    server.answers = [(status, {"message": "metadata.uid: field is immutable"})]

    with pytest.raises(TryAgainLater, match="field is immutable") as caught:
        api.publish(Pod(namespace="vms", name="vm", uid="u1"), "[]")
    assert caught.value.id == "PLX-POD-UID"
    assert len(server.requests) == 1


def test_an_event_is_recorded_and_its_failure_is_not_ours(api, server):
    server.answers = [(201, {}), (500, {})]
    pod = Pod(namespace="vms", name="vm", uid="u1")

    api.announce(pod, "AddedInterface", "Add net1 [10.0.0.2/24] from default/net")
    api.announce(pod, "AddedInterface", "again")

    body = server.requests[0][3]
    assert (body["reason"], body["type"], body["involvedObject"]["uid"]) == ("AddedInterface", "Normal", "u1")
    assert len(server.requests) == 2


def test_the_same_event_has_the_same_name_and_another_one_has_not(api, server):
    pod = Pod(namespace="vms", name=f"{'v' * 252}m", uid="u1")
    server.answers = [(201, {}), (409, {"message": "already exists"}), (201, {})]

    api.announce(pod, "FailedToAttach", "no light", warning=True)
    api.announce(pod, "FailedToAttach", "no light", warning=True)
    api.announce(pod, "FailedToAttach", "no power", warning=True)

    first, second, third = (body["metadata"]["name"] for *_, body in server.requests)
    assert first == second != third
    assert len(first) <= 253
    assert first[-17] == "."


@pytest.mark.parametrize("middle", ["x" * 900, "x" * 901, "ü" * 5000, "\udc80" * 5000, "𝄞" * 3000])
def test_a_message_that_is_too_long_keeps_what_failed_and_what_to_do(api, server, middle):
    begins, ends = 'pod "vms/vm": could not do it; ', "create it in namespace vms [PLX-NAD-MISSING]"

    api.announce(Pod(namespace="vms", name="vm"), "FailedToAttach", begins + middle + ends, warning=True)

    message = server.requests[0][3]["message"]
    assert len(message.encode()) <= 1024
    assert message.startswith(begins)
    assert message.endswith(ends)


def test_a_process_keeps_its_connection_for_the_next_call(kubeconfig, server):
    connections = Connections()
    for _ in range(3):
        ApiServer(connections.get(str(kubeconfig)), deadline=20).get_pod("vms", "vm")
    assert len(server.peers) == 1


def test_a_process_keeps_few_connections(kubeconfig):
    connections = Connections()
    first = connections.get(str(kubeconfig))
    for number in range(KEPT - 1):
        connections.get(str(number))
        assert connections.get(str(kubeconfig)) is first
    for number in range(KEPT):
        connections.get(str(number))
    assert connections.get(str(kubeconfig)) is not first


def test_a_kubeconfig_that_was_replaced_is_read_again(kubeconfig, server, api):
    api.get_pod("vms", "vm")
    server.token = "new"
    new = kubeconfig.with_name("new")
    write_kubeconfig(new, server.url, "new")
    os.utime(new, ns=(kubeconfig.stat().st_atime_ns, kubeconfig.stat().st_mtime_ns))
    new.rename(kubeconfig)
    api.get_pod("vms", "vm")
    assert [headers["Authorization"] for _, _, headers, _ in server.requests] == ["Bearer good", "Bearer new"]
