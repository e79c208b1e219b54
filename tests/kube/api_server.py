"""An API server that answers as told: late, with errors, or not at all; and the kubeconfig that leads to it."""

from __future__ import annotations

import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

RESET = "reset"


class Server:
    """Answers with the object of the path, else with the next of `answers`, the last one for ever.

    It remembers what was asked.
    """

    def __init__(self, *answers):
        self.answers = list(answers) or [(404, {"message": "not found"})]
        self.objects = {}
        self.requests = []
        self.delay = 0.0
        self.token = "good"
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def stop(self):
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.http.server_port}"

    def answer(self, path):
        if path in self.objects:
            return 200, self.objects[path]
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def _handler(self):
        server = self

        class Handler(BaseHTTPRequestHandler):
            def _serve(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                server.requests.append((self.command, self.path, self.headers, body))
                time.sleep(server.delay)
                answer = server.answer(self.path)
                if answer == RESET:
                    self.connection.shutdown(socket.SHUT_RDWR)
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


def write_kubeconfig(path, url, token):
    data = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": token}}],
    }
    path.write_text(json.dumps(data))
