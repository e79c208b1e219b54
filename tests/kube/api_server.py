"""An API server that answers as told: late, with errors, or not at all; and the kubeconfig that leads to it."""

from __future__ import annotations

import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

RESET = "reset"


class _Threads(ThreadingHTTPServer):
    daemon_threads = True  # a connection that is kept open ends with its client


class Server:
    """Answers with the object of the path, else with the next of `answers`, the last one for ever.

    It remembers what was asked.
    """

    def __init__(self, *answers, tls=None):
        self.answers = list(answers) or [(404, {"message": "not found"})]
        self.objects = {}
        self.requests = []
        self.peers = set()
        self.delay = 0.0
        self.before = lambda _path: None
        self.token = "good"
        self.http = _Threads(("127.0.0.1", 0), self._handler())
        self.scheme = "http"
        if tls is not None:
            self.scheme = "https"
            self.http.socket = tls.wrap_socket(self.http.socket, server_side=True, do_handshake_on_connect=False)
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def stop(self):
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()

    @property
    def url(self):
        return f"{self.scheme}://127.0.0.1:{self.http.server_port}"

    def answer(self, path):
        if path in self.objects:
            return 200, _named(self.objects[path], path.removesuffix("/status").rpartition("/")[2])
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def _handler(self):
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                server.peers.add(self.client_address)
                server.requests.append((self.command, self.path, self.headers, body))
                time.sleep(server.delay)
                server.before(self.path)
                answer = server.answer(self.path)
                if answer == RESET:
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                    return
                status, data = answer
                if self.headers["Authorization"] != f"Bearer {server.token}":
                    status, data = 401, {"message": "Unauthorized"}
                text = json.dumps(data).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_PATCH = do_POST = _serve  # noqa: N815 - the names http.server calls

            def log_message(self, *args):
                pass

        return Handler


def _named(data, name):
    """The object as a server gives it: it has the name by which it was asked for."""
    return data | {"metadata": {"name": name} | data.get("metadata", {})}


def write_kubeconfig(path, url, token, cluster=None, user=None):
    data = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": url} | (cluster or {})}],
        "users": [{"name": "u", "user": {"token": token} | (user or {})}],
    }
    path.write_text(json.dumps(data))
