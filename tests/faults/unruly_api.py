"""An API server over TLS that does as it is told: what it should, or what failing servers do, and what is before them.

As a program it serves the directory that it is given; `Api` has that program run on a host of a test's own.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import SHUT_RDWR, SO_LINGER, SOL_SOCKET
from typing import Any

PORT = 6443
GOOD = "good"
MUTE, STRANGER = "says nothing, not even TLS", "is of another authority"
LONG = 600
HTML = b"<html><body>It works!</body></html>"
REQUEST = [
    "openssl",
    "req",
    "-x509",
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:prime256v1",
    "-nodes",
    "-days",
    "2",
]
ENVIRON = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


class Api:
    """The server that a kubeconfig of the directory leads to."""

    def __init__(self, directory: Path, before: list[str]) -> None:
        self.directory = directory
        self.before = before
        directory.mkdir()
        for name in ("server", STRANGER):
            _make_certificate(directory / name)
        self.authority = (directory / "server.crt").read_bytes()
        self.objects: dict[str, Any] = {}
        self.token = "first"
        self.process: subprocess.Popen[str] | None = None
        self.behave(GOOD)

    def define(self, path: str, data: Mapping[str, Any]) -> None:
        """Have an object, which gets the name that its path ends with."""
        metadata = {"name": path.rpartition("/")[2]} | data.get("metadata", {})
        self.objects[path] = {**data, "metadata": metadata}
        (self.directory / "objects").write_text(json.dumps(self.objects))

    def behave(self, how: str) -> None:
        """Do so from now on; the new behaviour is there whole, or not at all."""
        temporary = self.directory / "behaviour.tmp"
        temporary.write_text(json.dumps({"how": how, "token": self.token}))
        temporary.rename(self.directory / "behaviour")

    def start(self) -> None:
        words = [*self.before, sys.executable, "-I", __file__, str(self.directory)]
        self.process = subprocess.Popen(words, env=ENVIRON, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        assert self.process.stdout.readline() == "ready\n"

    def stop(self) -> None:
        """Be gone: whoever connects is refused."""
        if self.process is not None:
            subprocess.run([*self.before, "sh", "-c", f"kill -9 $(cat '{self.directory}/pid')"], check=True)
            self.process.communicate()
            self.process = None

    def kubeconfig(self, authority: Path) -> bytes:
        data = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [
                {
                    "name": "c",
                    "cluster": {"server": f"https://127.0.0.1:{PORT}", "certificate-authority": str(authority)},
                }
            ],
            "users": [{"name": "u", "user": {"token": self.token}}],
        }
        return json.dumps(data).encode()


def _make_certificate(path: Path) -> None:
    names = ["-subj", "/CN=api", "-addext", "subjectAltName=IP:127.0.0.1"]
    words = [*REQUEST, *names, "-keyout", f"{path}.key", "-out", f"{path}.crt"]
    subprocess.run(words, check=True, capture_output=True)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 50

    def __init__(self, directory: Path) -> None:
        super().__init__(("127.0.0.1", PORT), Handler)
        self.directory = directory
        self.contexts = {name: _context(directory / name) for name in ("server", STRANGER)}

    def told(self) -> dict[str, str]:
        found: dict[str, str] = json.loads((self.directory / "behaviour").read_text())
        return found

    def get_request(self) -> tuple[Any, Any]:
        connection, address = super().get_request()
        how = self.told()["how"]
        if how == MUTE:
            return connection, address
        context = self.contexts[STRANGER if how == STRANGER else "server"]
        return context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that went away."""


def _context(path: Path) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(f"{path}.crt", f"{path}.key")
    return made


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def handle(self) -> None:
        if self.server.told()["how"] == MUTE:
            time.sleep(LONG)
        super().handle()

    def serve(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        told = self.server.told()
        if told["how"] in BEHAVIOURS:
            with contextlib.suppress(OSError):
                BEHAVIOURS[told["how"]](self)
        elif told["how"] in (MUTE, STRANGER):
            self.give_up()  # this connection is from before
        elif self.headers["Authorization"] != f"Bearer {told['token']}":
            self.say(401, _status(401))
        else:
            objects = json.loads((self.server.directory / "objects").read_text())
            found = objects.get(self.path.removesuffix("/status"), {} if self.path == "/version" else None)
            self.say(404 if found is None else 200, _status(404) if found is None else found)

    do_GET = do_PATCH = do_POST = serve  # noqa: N815 - the names http.server calls

    def say(self, status: int, data: Any) -> None:
        self.say_text(status, json.dumps(data).encode())

    def say_text(self, status: int, text: bytes, *, length: int = 0, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length or len(text)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    def give_up(self, *, reset: bool = False) -> None:
        self.close_connection = True
        self.wfile.flush()
        if reset:
            self.connection.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        else:
            self.connection.shutdown(SHUT_RDWR)

    def say_without_end(self, part: bytes, pause: float) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for _ in range(int(LONG / max(pause, 0.01))):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            time.sleep(pause)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


def _status(code: int) -> dict[str, Any]:
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "no", "code": code}


def _half(handler: Handler) -> None:
    handler.say_text(200, b'{"kind": "Pod", "metadata": {"name": "po', length=1000)
    handler.give_up()


def _reset(handler: Handler) -> None:
    handler.say_text(200, b'{"kind": "Pod", "metadata": {"name": "po', length=1000)
    handler.give_up(reset=True)


BEHAVIOURS: dict[str, Callable[[Handler], None]] = {
    "says nothing": lambda _: time.sleep(LONG),
    "says 429": lambda handler: handler.say_text(429, json.dumps(_status(429)).encode(), **{"Retry-After": "1"}),
    "says 500": lambda handler: handler.say(500, _status(500)),
    "says 503": lambda handler: handler.say(503, _status(503)),
    "says 520": lambda handler: handler.say_text(520, HTML),
    "says 302": lambda handler: handler.say_text(302, b"", Location="/login"),
    "says 401": lambda handler: handler.say(401, _status(401)),
    "says 403": lambda handler: handler.say(403, _status(403)),
    "says HTML": lambda handler: handler.say_text(200, HTML),
    "says HTML with 503": lambda handler: handler.say_text(503, HTML),
    "says an empty text": lambda handler: handler.say_text(200, b""),
    "says {}": lambda handler: handler.say(200, {}),
    "says null": lambda handler: handler.say(200, None),
    "says a list": lambda handler: handler.say(200, [{"metadata": {"name": "pod"}}]),
    "says a status with 200": lambda handler: handler.say(200, _status(200)),
    "says another object": lambda handler: handler.say(200, {"metadata": {"name": "other"}}),
    "says half of it": _half,
    "resets in the middle": _reset,
    "does not end": lambda handler: handler.say_without_end(b" " * 65536, 0),
    "drips": lambda handler: handler.say_without_end(b" ", 0.1),
}


if __name__ == "__main__":
    place = Path(sys.argv[1])
    (place / "pid").write_text(Path("/proc/self/stat").read_text().split()[0])
    server = Server(place)
    print("ready", flush=True)
    server.serve_forever(0.1)
