"""Reading metrics: a few at a time, and nobody for ever."""

import socket
import time
from pathlib import Path

import pytest

from cni.node import exposition
from cni.node.metrics import Metrics
from cni.node.waiting import Waiting

PATIENCE = 30


def connected(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(str(path))
    connection.settimeout(PATIENCE)
    return connection


def is_let_go(connection: socket.socket) -> bool:
    with connection:
        return connection.recv(100) == b""


def read(path: Path) -> bytes:
    with connected(path) as connection:
        try:
            connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            return b"".join(iter(lambda: connection.recv(65536), b""))
        except (BrokenPipeError, ConnectionResetError):
            return b""


def test_only_a_few_read_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(exposition, "SLOWEST", 2 * PATIENCE)
    path = tmp_path / "metrics"
    with exposition.shown(Metrics(Waiting(1), 1), f"unix:{path}"):
        waiting = [connected(path) for _ in range(exposition.MOST_READERS)]

        assert is_let_go(connected(path))

        for connection in waiting:
            connection.close()
        end = time.monotonic() + PATIENCE
        while b"plexus_slots" not in read(path):
            assert time.monotonic() < end


def test_who_connects_and_asks_for_nothing_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(exposition, "SLOWEST", 0.1)
    path = tmp_path / "metrics"
    with exposition.shown(Metrics(Waiting(1), 1), f"unix:{path}"):
        assert is_let_go(connected(path))
