"""What a daemon remembers of a cluster: quicker than asking, never older than its watch, and never a reason to fail."""

from __future__ import annotations

import json
import queue
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from api_server import write_kubeconfig

from cni.kube import api, mirror
from cni.kube.connection import Connection
from cni.kube.watched import DEFINITIONS, PODS, Memory, Sources, Watched

NAD = "/apis/k8s.cni.cncf.io/v1/namespaces/default/network-attachment-definitions/net"
POD = "/api/v1/namespaces/vms/pods/vm"


class Cluster:
    """Lists, watches and single objects; what happens is put in by hand, and told to watches of older versions."""

    def __init__(self):
        self.version = 1
        self.past = {PODS: [], DEFINITIONS: []}
        self.lock = threading.Lock()
        self.objects = {PODS: {}, DEFINITIONS: {}}
        self.refused = {}
        self.asked = []
        self.watches = {PODS: [], DEFINITIONS: []}
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.http.server_port}"

    def put(self, kind, path, data, event="ADDED"):
        self.objects[kind][path] = data
        self.happens(kind, event, data)

    def happens(self, kind, event, data):
        with self.lock:
            self.version += 1
            data = data | {"metadata": data.get("metadata", {}) | {"resourceVersion": str(self.version)}}
            told = {"type": event, "object": data}
            if event != "ERROR":
                self.past[kind].append((self.version, told))
            for watch in self.watches[kind]:
                watch.put(told)

    def begin_watch(self, kind, since):
        events = queue.Queue()
        with self.lock:
            for version, told in self.past[kind]:
                if version > since:
                    events.put(told)
            self.watches[kind].append(events)
        return events

    def end_watches(self, kind):
        with self.lock:
            for watch in self.watches[kind]:
                watch.put(None)
            self.watches[kind].clear()

    def stop(self):
        for kind in self.watches:
            self.end_watches(kind)
        self.http.shutdown()
        self.http.server_close()

    def count(self, path):
        return sum(asked == path for asked in self.asked)

    def _handler(self):
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                url = urlsplit(self.path)
                query = parse_qs(url.query)
                cluster.asked.append(url.path + ("?watch" if "watch" in query else ""))
                if url.path in cluster.refused:
                    self.answer(cluster.refused[url.path], {"message": "no"})
                elif "watch" in query:
                    self.watch(url.path, int(query["resourceVersion"][0]))
                elif url.path in cluster.objects:
                    self.list(url.path, query)
                else:
                    everything = cluster.objects[PODS] | cluster.objects[DEFINITIONS]
                    found = everything.get(url.path)
                    self.answer(200 if found else 404, found or {"message": "not found"})

            def list(self, kind, query):
                version = cluster.version  # before the objects: what happens meanwhile is told again
                items = list(cluster.objects[kind].values())
                begin = int(query.get("continue", ["0"])[0])
                end = begin + int(query["limit"][0])
                metadata = {"resourceVersion": str(version)} | ({"continue": str(end)} if end < len(items) else {})
                self.answer(200, {"metadata": metadata, "items": items[begin:end]})

            def watch(self, kind, since):
                events = cluster.begin_watch(kind, since)
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                while (event := events.get()) is not None:
                    line = json.dumps(event).encode() + b"\n"
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                self.wfile.write(b"0\r\n\r\n")

            def answer(self, status, data):
                text = json.dumps(data).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        return Handler


def pod(uid="u1", networks="a", node="node1"):
    metadata = {"name": "vm", "namespace": "vms", "uid": uid, "resourceVersion": "8"}
    metadata["annotations"] = {"networks": networks, api.NETWORK_STATUS: "[]"}
    return {"metadata": metadata, "spec": {"nodeName": node}}


def definition(config="{}"):
    return {"metadata": {"name": "net", "namespace": "default", "resourceVersion": "8"}, "spec": {"config": config}}


@pytest.fixture
def cluster(monkeypatch):
    monkeypatch.setattr(mirror, "PAUSE", 0.02)
    made = Cluster()
    yield made
    made.refused = {PODS: 403, DEFINITIONS: 403}
    made.stop()


@pytest.fixture
def source(cluster, tmp_path):
    path = tmp_path / "kubeconfig"
    write_kubeconfig(path, cluster.url, "good")
    connection = Connection(str(path))
    return Watched(connection, 20, Memory(connection))


def until(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.01)


def asks_no_more(cluster, source, path, ask):
    """Whether the source answers without asking."""
    before = cluster.count(path)
    ask()
    return cluster.count(path) == before


def find(source):
    return source.find_network("default", "net")


def get(source, uid="u1"):
    return source.get_pod("vms", "vm", uid)


def remembers_the_definition(cluster, source):
    return asks_no_more(cluster, source, NAD, lambda: find(source))


def remembers_the_pod(cluster, source):
    return asks_no_more(cluster, source, POD, lambda: get(source))


def test_a_definition_is_not_asked_for_again(cluster, source):
    cluster.put(DEFINITIONS, NAD, definition('{"type": "bridge"}'))
    until(lambda: remembers_the_definition(cluster, source))
    assert find(source).config == '{"type": "bridge"}'


def test_a_definition_that_was_changed_is_the_new_one(cluster, source):
    cluster.put(DEFINITIONS, NAD, definition("old"))
    until(lambda: remembers_the_definition(cluster, source))
    cluster.put(DEFINITIONS, NAD, definition("new"), "MODIFIED")
    until(lambda: find(source).config == "new")
    assert remembers_the_definition(cluster, source)


def test_a_definition_that_was_deleted_is_none(cluster, source):
    cluster.put(DEFINITIONS, NAD, definition())
    until(lambda: remembers_the_definition(cluster, source))
    del cluster.objects[DEFINITIONS][NAD]
    cluster.happens(DEFINITIONS, "DELETED", definition())
    until(lambda: find(source) is None)


def test_what_was_not_heard_of_is_asked_for(cluster, source):
    until(lambda: cluster.watches[DEFINITIONS])
    cluster.objects[DEFINITIONS][NAD] = definition("unheard of")
    assert find(source).config == "unheard of"


def test_the_nodes_pods_are_remembered_once_its_name_is_known(cluster, source):
    cluster.put(PODS, POD, pod())
    assert cluster.count(PODS) == 0
    assert get(source).annotations == {"networks": "a", api.NETWORK_STATUS: "[]"}
    until(lambda: remembers_the_pod(cluster, source))
    assert get(source).annotations == {"networks": "a"}


def test_a_pod_with_another_uid_is_asked_for(cluster, source):
    cluster.put(PODS, POD, pod())
    get(source)
    until(lambda: remembers_the_pod(cluster, source))
    cluster.objects[PODS][POD] = pod("u2", "b")
    assert get(source, "u2").annotations["networks"] == "b"
    assert not asks_no_more(cluster, source, POD, lambda: get(source, ""))


@pytest.mark.parametrize("how", ["ends", "fails", "expires"])
def test_a_watch_that_is_over_is_begun_again_and_misses_nothing(how, cluster, source):
    cluster.put(DEFINITIONS, NAD, definition("old"))
    until(lambda: remembers_the_definition(cluster, source))
    cluster.objects[DEFINITIONS][NAD] = definition("new")
    if how != "ends":
        cluster.happens(DEFINITIONS, "ERROR", {"code": 410 if how == "expires" else 500, "message": "too old"})
        until(lambda: find(source).config == "new")
    cluster.end_watches(DEFINITIONS)
    until(lambda: cluster.count(f"{DEFINITIONS}?watch") > 1)
    until(lambda: remembers_the_definition(cluster, source))


def test_while_there_is_no_watch_everything_is_asked_for(cluster, source):
    cluster.put(DEFINITIONS, NAD, definition("old"))
    until(lambda: remembers_the_definition(cluster, source))
    cluster.refused[DEFINITIONS] = 503
    cluster.end_watches(DEFINITIONS)
    cluster.objects[DEFINITIONS][NAD] = definition("new")
    until(lambda: find(source).config == "new")
    assert not remembers_the_definition(cluster, source)


def test_who_may_not_list_asks_each_time_and_is_not_refused_again_and_again(cluster, source):
    until(lambda: cluster.watches[DEFINITIONS])
    cluster.refused[DEFINITIONS] = 403
    cluster.objects[DEFINITIONS][NAD] = definition("asked for")
    cluster.end_watches(DEFINITIONS)
    until(lambda: cluster.count(f"{DEFINITIONS}?watch") > 1)
    for _ in range(3):
        assert find(source).config == "asked for"
    assert cluster.count(DEFINITIONS) + cluster.count(f"{DEFINITIONS}?watch") <= 3


def test_more_than_is_worth_remembering_is_asked_for(cluster, source, monkeypatch):
    monkeypatch.setattr(mirror, "LARGEST", 1000)
    until(lambda: cluster.watches[DEFINITIONS])
    cluster.put(DEFINITIONS, NAD, definition("x" * 2000))
    until(lambda: not source.memory.definitions._is_current)
    assert find(source).config == "x" * 2000
    assert not remembers_the_definition(cluster, source)


def test_a_long_list_comes_in_pages(cluster, source, monkeypatch):
    for number in range(2 * mirror.PAGE + 1):
        data = definition(str(number))
        data["metadata"]["name"] = f"net{number}"
        cluster.objects[DEFINITIONS][f"{NAD}{number}"] = data
    until(lambda: cluster.watches[DEFINITIONS])
    cluster.happens(DEFINITIONS, "ERROR", {"code": 410})
    last = f"net{2 * mirror.PAGE}"
    until(
        lambda: asks_no_more(cluster, source, f"{NAD}{2 * mirror.PAGE}", lambda: source.find_network("default", last))
    )
    assert source.find_network("default", last).config == str(2 * mirror.PAGE)


def test_a_process_that_serves_one_call_remembers_nothing(cluster, tmp_path):
    path = tmp_path / "kubeconfig"
    write_kubeconfig(path, cluster.url, "good")
    cluster.put(DEFINITIONS, NAD, definition())
    sources = Sources()
    assert not isinstance(sources.source(str(path), 20), Watched)
    sources.remember()
    assert isinstance(sources.source(str(path), 20), Watched)


def test_few_clusters_are_remembered(tmp_path, monkeypatch):
    monkeypatch.setattr(mirror.Mirror, "_follow", lambda _: 60.0)
    sources = Sources()
    sources.remember()
    kinds = [isinstance(sources.source(str(tmp_path / str(number)), 20), Watched) for number in range(4)]
    assert kinds == [True, True, False, False]
