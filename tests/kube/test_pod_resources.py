"""The kubelet's pod-resources API over a Unix socket: a gRPC server that answers what a kubelet's library encoded."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from vectors import cases

from cni.kube import grpc
from cni.kube.kubelet import Kubelet
from cni.kube.pod_resources import PodResources
from cni.spec.errors import TryAgainLater

HERE = Path(__file__).parent
RECORDED = json.loads((HERE.parent / "vectors" / "pod_resources.json").read_text())
DEVICES = {
    "intel.com/sriov": ["0000:03:02.0", "0000:03:02.1", "0000:03:02.3"],
    "devices.kubevirt.io/kvm": ["kvm7"],
}
ROWS = [pytest.param(row, id=row["id"]) for row in cases.load("multus_devices") if "pod" in row.get("given", ())]
DISABLED = ["UNKNOWN", "PodResources API Get method disabled"]
LIMITED = ["RESOURCE_EXHAUSTED", "rejected by rate limit"]


class Server:
    """The process of kubelet_server.py."""

    def __init__(self, path, answers):
        told = path.with_name("answers.json")
        told.write_text(json.dumps(answers))
        command = [sys.executable, str(HERE / "kubelet_server.py"), str(path), str(told)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def stop(self):
        """End it; return what it was asked."""
        self.process.kill()
        output, _ = self.process.communicate()
        return [tuple(json.loads(line)) for line in output.splitlines()]


@pytest.fixture
def kubelet(tmp_path):
    """Starts a kubelet that answers the methods as told, and others not at all."""
    servers = []
    (tmp_path / "pod-resources").mkdir()
    path = tmp_path / "pod-resources" / "kubelet.sock"

    def start(**answers):
        servers.append(Server(path, answers))
        return servers[-1]

    start.directory = str(tmp_path)
    start.socket = str(path)
    yield start
    for server in servers:
        server.stop()


@pytest.mark.parametrize("row", ROWS)
def test_the_devices_of_a_pod_are_those_of_the_row(kubelet, row):
    server = kubelet(Get=[DISABLED], List=[RECORDED["ListPodResourcesResponse"]])
    if row["given"].get("gone"):
        server.stop()
    expected = row["expected"]

    if "error" not in expected:
        assert PodResources(kubelet.socket).devices_of(*row["given"]["pod"]) == expected["devices"]
        return
    with pytest.raises(TryAgainLater, match=expected["error"]["text"]) as caught:
        PodResources(kubelet.socket).devices_of(*row["given"]["pod"])
    assert (caught.value.code, caught.value.id) == (expected["error"]["code"], expected["error"]["id"])


def test_the_devices_of_one_pod_are_asked_for_and_those_of_its_containers_are_put_together(kubelet):
    server = kubelet(Get=[RECORDED["GetPodResourcesResponse"]])

    assert Kubelet(kubelet.directory).devices_of("vms", "vm", "u1") == DEVICES
    assert server.stop() == [("Get", RECORDED["GetPodResourcesRequest"])]


@pytest.mark.parametrize("get", [None, [DISABLED], [["UNKNOWN", "pod vm in namespace vms not found"]]])
def test_a_kubelet_that_cannot_tell_of_one_pod_is_asked_for_all(kubelet, get):
    methods = {} if get is None else {"Get": get}
    server = kubelet(**methods, List=[RECORDED["ListPodResourcesResponse"]])

    assert Kubelet(kubelet.directory).devices_of("vms", "vm", "u1") == DEVICES
    assert server.stop()[-1] == ("List", "")


def test_a_pod_without_devices_has_none_of_anothers(kubelet):
    kubelet(Get=[DISABLED], List=[RECORDED["ListPodResourcesResponse"]])

    assert Kubelet(kubelet.directory).devices_of("vms", "bare", "u1") == {}


def test_the_answer_for_another_pod_is_not_taken(kubelet):
    kubelet(Get=[RECORDED["GetPodResourcesResponse"]])

    assert PodResources(kubelet.socket).devices_of("vms", "other") == {}


def test_a_kubelet_that_limits_the_rate_is_asked_again(kubelet):
    kubelet(Get=[LIMITED, LIMITED, RECORDED["GetPodResourcesResponse"]])

    assert PodResources(kubelet.socket).devices_of("vms", "vm") == DEVICES


def test_a_kubelet_that_limits_the_rate_for_ever_is_not_waited_for(kubelet):
    server = kubelet(Get=[LIMITED])
    clock = iter([0, 0, 1, 1, 40])  # begun; asked, refused and not yet late; asked, refused and late

    with pytest.raises(TryAgainLater, match="rejected by rate limit") as caught:
        PodResources(kubelet.socket, 30, lambda: next(clock), lambda _: None).devices_of("vms", "vm")
    assert caught.value.id == "PLX-KUBELET-UNREACHABLE"
    assert [method for method, _ in server.stop()] == ["Get", "Get"]


def test_a_kubelet_that_does_not_answer_is_passing(kubelet):
    kubelet(Get=[None])

    with pytest.raises(TryAgainLater, match=r"no answer within 0\.3 seconds|Deadline Exceeded") as caught:
        PodResources(kubelet.socket, timeout=0.3).devices_of("vms", "vm")
    assert caught.value.code == 11


def test_a_status_of_the_list_is_told_in_the_kubelets_words(kubelet):
    kubelet(Get=[DISABLED], List=[["INTERNAL", "100% größer"]])

    with pytest.raises(TryAgainLater, match="100% größer"):
        Kubelet(kubelet.directory).devices_of("vms", "vm", "u1")


def test_an_answer_that_is_not_the_message_is_told(kubelet):
    kubelet(Get=[DISABLED], List=[base64.b64encode(b"\x0a\xff").decode()])

    with pytest.raises(TryAgainLater, match="the answer to List is not the message"):
        Kubelet(kubelet.directory).devices_of("vms", "vm", "u1")


def test_the_resources_of_device_plugins_are_known(kubelet):
    kubelet(GetAllocatableResources=[RECORDED["AllocatableResourcesResponse"]])

    assert Kubelet(kubelet.directory).device_resources() == {"intel.com/sriov", "devices.kubevirt.io/kvm"}


@pytest.mark.parametrize("methods", [{"Get": [None]}, {"GetAllocatableResources": [DISABLED]}])
def test_an_old_kubelet_does_not_tell_the_resources_of_device_plugins(kubelet, methods):
    kubelet(**methods)

    assert Kubelet(kubelet.directory).device_resources() is None


def test_an_answer_of_many_frames_is_read_whole_and_one_that_is_too_large_is_not(kubelet):
    large = bytes(range(256)) * 8192
    kubelet(List=[base64.b64encode(large).decode()])

    assert grpc.call(kubelet.socket, "/v1.PodResourcesLister/List", b"", timeout=20) == large
    with pytest.raises(grpc.Failed, match="larger than 1000000 bytes"):
        grpc.call(kubelet.socket, "/v1.PodResourcesLister/List", b"", timeout=20, largest=1_000_000)


def test_a_method_that_is_not_there_is_unimplemented(kubelet):
    kubelet(List=[None])

    with pytest.raises(grpc.Failed) as caught:
        grpc.call(kubelet.socket, "/v1.PodResourcesLister/Watch", b"", timeout=20)
    assert caught.value.status == grpc.UNIMPLEMENTED


@pytest.mark.parametrize(
    "says", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00\x00\x00\x07\x00\x00\x00\x00\x00" + bytes(8)]
)
def test_a_socket_of_somebody_else_is_told(tmp_path, says):
    with socket.create_server(str(tmp_path / "s"), family=socket.AF_UNIX) as server:
        thread = threading.Thread(target=_say, args=(server, says))
        thread.start()

        with pytest.raises(grpc.Failed) as caught:
            grpc.call(str(tmp_path / "s"), "/a/b", b"", timeout=20)
        thread.join()
    assert caught.value.status == grpc.UNAVAILABLE


def test_a_socket_that_says_nothing_is_given_up(tmp_path):
    with socket.create_server(str(tmp_path / "s"), family=socket.AF_UNIX), pytest.raises(grpc.Failed) as caught:
        grpc.call(str(tmp_path / "s"), "/a/b", b"", timeout=0.1)
    assert caught.value.status == grpc.DEADLINE_EXCEEDED


def _say(server, says):
    connection, _ = server.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(says)
