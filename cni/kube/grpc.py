"""One unary gRPC call over a Unix socket: HTTP/2 (which is `h2`'s), a five-byte frame, and a status in the trailers.

Why this is not the library `grpcio` is told in docs/adr/0008.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterator
from urllib.parse import unquote

OK = 0
UNKNOWN = 2
DEADLINE_EXCEEDED = 4
RESOURCE_EXHAUSTED = 8
UNIMPLEMENTED = 12
UNAVAILABLE = 14

LARGEST = 16 * 1024 * 1024
"""Bytes of an answer."""
FRAME = struct.Struct("!?I")
"""Whether the message is compressed, which we do not offer; its length."""
CHUNK = 65536
STREAM = 1


class Failed(Exception):
    """The call has not succeeded: `status` is gRPC's number."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def call(path: str, method: str, message: bytes, *, timeout: float, largest: int = LARGEST) -> bytes:
    """Send `message` to the method ("/package.Service/Name") of the server at the socket `path`; return its answer.

    Raises Failed: the server's status, or UNAVAILABLE, or DEADLINE_EXCEEDED after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    with _told(timeout), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        connection.connect(path)
        exchange = _Exchange(largest)
        connection.sendall(exchange.begin(method, message, timeout))
        while not exchange.is_over:
            connection.settimeout(_left(deadline))
            connection.sendall(exchange.receive(connection.recv(CHUNK)))
        return exchange.message


class _Exchange:
    """The one stream of a connection, without the connection."""

    def __init__(self, largest: int) -> None:
        from h2.config import H2Configuration
        from h2.connection import H2Connection

        self.http = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.largest = largest
        self.body = bytearray()
        self.headers: dict[str, str] = {}
        self.is_over = False

    def begin(self, method: str, message: bytes, timeout: float) -> bytes:
        """What to send first, which is all we have to say."""
        headers = {
            ":method": "POST",
            ":scheme": "http",
            ":authority": "localhost",
            ":path": method,
            "te": "trailers",
            "content-type": "application/grpc",
            "grpc-timeout": f"{max(int(timeout * 1000), 1)}m",
        }
        self.http.initiate_connection()
        self.http.send_headers(STREAM, list(headers.items()))
        self.http.send_data(STREAM, FRAME.pack(False, len(message)) + message, end_stream=True)
        return self.http.data_to_send()

    def receive(self, data: bytes) -> bytes:
        """Take what the server sent; return what is to be sent in turn. Raises Failed."""
        from h2 import events

        if not data:
            raise Failed(UNAVAILABLE, "the server closed the connection before it answered")
        for event in self.http.receive_data(data):
            if isinstance(event, events.ResponseReceived | events.TrailersReceived):
                self.headers.update((str(name), str(value)) for name, value in event.headers or ())
            elif isinstance(event, events.DataReceived):
                self._keep(event.data or b"")
                self.http.acknowledge_received_data(event.flow_controlled_length or 0, STREAM)
            elif isinstance(event, events.StreamEnded):
                self.is_over = True
            elif isinstance(event, events.StreamReset | events.ConnectionTerminated):
                raise Failed(UNAVAILABLE, f"the server broke the call off (HTTP/2 error {event.error_code})")
        return self.http.data_to_send()

    def _keep(self, data: bytes) -> None:
        self.body += data
        if len(self.body) > self.largest + FRAME.size:
            raise Failed(UNKNOWN, f"the answer is larger than {self.largest} bytes")

    @property
    def message(self) -> bytes:
        """The answer. Raises Failed when the server says so, or when it is no whole answer."""
        if self.headers.get(":status") != "200":
            raise Failed(UNAVAILABLE, f"the server answered {self.headers.get(':status')}: it does not speak gRPC")
        status = self.headers.get("grpc-status", "")
        if not status.isdecimal():
            raise Failed(UNAVAILABLE, "the server ended the call without a status")
        if int(status) != OK:
            raise Failed(int(status), unquote(self.headers.get("grpc-message", "")) or f"status {status}")
        if len(self.body) < FRAME.size:
            raise Failed(UNKNOWN, "the server answered nothing")
        compressed, length = FRAME.unpack_from(self.body)
        if compressed or length != len(self.body) - FRAME.size:
            raise Failed(UNKNOWN, "the answer is not one message, whole and uncompressed")
        return bytes(self.body[FRAME.size :])


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


@contextlib.contextmanager
def _told(timeout: float) -> Iterator[None]:
    """Have the block's failures say what they mean in gRPC's terms."""
    from h2.exceptions import H2Error

    try:
        yield
    except TimeoutError as error:
        raise Failed(DEADLINE_EXCEEDED, f"no answer within {timeout:.3g} seconds") from error
    except OSError as error:
        raise Failed(UNAVAILABLE, error.strerror or str(error)) from error
    except H2Error as error:
        raise Failed(UNAVAILABLE, f"the server does not speak HTTP/2: {error}") from error
