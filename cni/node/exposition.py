"""Where Prometheus reads what the daemon counts: a Unix socket, or a port that only this machine reaches."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import socket
import socketserver
import threading
from collections.abc import Iterator
from http.server import HTTPServer
from typing import Any

from cni.node.metrics import Metrics
from cni.plugin import files
from cni.spec.errors import InvalidConfiguration

logger = logging.getLogger(__name__)

UNIX = "unix:"
MOST_READERS = 8
SLOWEST = 5.0
"""Who reads metrics at a time, and seconds until each must have said something."""


@contextlib.contextmanager
def shown(metrics: Metrics, address: str) -> Iterator[None]:
    """Have Prometheus read them at `address` for the block. Raises InvalidConfiguration, IOFailure."""
    from prometheus_client import MetricsHandler

    class Handler(MetricsHandler):
        registry = metrics.registry
        timeout = SLOWEST

        def address_string(self) -> str:
            """Who asks; a Unix socket does not say."""
            return "local"

    server = files.change(f'show metrics at "{address}"', _server, address, Handler)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        if address.startswith(UNIX):
            files.remove(address.removeprefix(UNIX))


def check_address(address: str) -> None:
    """Raise InvalidConfiguration unless it is a Unix socket's, or one that only this machine reaches."""
    if address.startswith(f"{UNIX}/"):
        return
    try:
        _host_and_port(address)
    except ValueError as error:
        raise InvalidConfiguration(
            f'could not show metrics at "{address}"',
            f"{error}; write unix:/PATH, or a loopback address and a port, 127.0.0.1:9464 or [::1]:9464",
            id="PLX-DAEMON-METRICS",
        ) from error


class _FewReaders(socketserver.ThreadingMixIn):
    """Serves so many at a time, and lets all others go: at a loopback address they may be anybody of this machine."""

    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        self._room = threading.Semaphore(MOST_READERS)
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve whoever has come in a thread, if there is room for it."""
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)  # type: ignore[attr-defined]
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._room.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve, and make room."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - as it is called
        """Make no noise about who went away."""
        logger.debug("somebody who read metrics is gone, or too slow")


class _UnixServer(_FewReaders, socketserver.UnixStreamServer):
    pass


class _Server(_FewReaders, HTTPServer):
    pass


class _Server6(_Server):
    address_family = socket.AF_INET6


def _server(address: str, handler: Any) -> socketserver.BaseServer:
    if not address.startswith(UNIX):
        host, port = _host_and_port(address)
        return _Server((host, port), handler) if "." in host else _Server6((host, port), handler)
    path = address.removeprefix(UNIX)
    files.remove(path)
    server = _UnixServer(path, handler)
    os.chmod(path, 0o600)
    return server


def _host_and_port(address: str) -> tuple[str, int]:
    """The two parts of an address that only this machine reaches. Raises ValueError."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not ipaddress.ip_address(host).is_loopback:
        raise ValueError(f"{host} can be reached by others")
    return host, int(port)
