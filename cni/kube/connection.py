"""Questions to the API server, and what an answer means."""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from cni.kube import credentials
from cni.kube.credentials import Client

MERGE_PATCH = "application/merge-patch+json"
PASSING = (408, 410, 425, 429, 500, 502, 503, 504)
"""Statuses that may be others in a moment: the server is starting, overloaded, or electing a leader."""
TOKEN = re.compile(r"eyJ[\w-]{8,}(?:\.[\w-]+)*|(?i:bearer)\s+[\w.~+/-]+=*")
"""A JSON web token, and what comes after the word that announces one."""
HIDDEN = "[hidden]"
SHOWN = 60
PART = 1 << 16
LARGEST = 32 << 20
"""Bytes of an answer; the longest of ours are pages of lists."""
NO_HEADERS: Mapping[str, str] = {}
KEPT = 8
"""Kubeconfigs to which connections are kept; a node has one."""


class Refused(Exception):
    """The server answered, and not with what was asked for."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"the API server answered {status}: {reason}")
        self.status = status


class Passing(Exception):
    """No answer, or one that may be another in a moment."""


class Unauthorized(Passing):
    """The credentials are not accepted (any more)."""


class Connection:
    """Requests to the API server that `kubeconfig` names, or to that of the cluster we run in when it is "".

    Threads may share it.
    """

    def __init__(self, kubeconfig: str = "") -> None:
        self.kubeconfig = kubeconfig
        self._client: Client | None = None
        self._read_as: tuple[int, ...] = ()
        self._reading = threading.Lock()

    def request(self, method: str, path: str, *, body: Any = None, patch: bool = False, timeout: float) -> Any:
        """Send one request, wait `timeout` seconds at most, and return the JSON of the answer.

        Raises Refused, Passing, Unauthorized; InvalidConfiguration when the credentials cannot be read.
        """
        end = time.monotonic() + timeout
        headers = {"Content-Type": MERGE_PATCH if patch else "application/json"}
        text = None if body is None else json.dumps(body)
        answer = self._send(method, path, headers=headers, body=text, end=end)
        with self._failing():
            return _decoded(_whole(answer, end), self._client)

    @contextlib.contextmanager
    def stream(self, path: str, *, silence: float) -> Iterator[Iterator[Any]]:
        """Have, for the block, the JSON objects that the server sends one after the other until it ends.

        Raises as `request`, also from the iterator, Passing after `silence` seconds without any.
        """
        answer = self._send("GET", path, end=time.monotonic() + silence)
        try:
            yield _objects(answer, self._client)
        finally:
            answer.close()

    def _send(
        self, method: str, path: str, *, end: float, headers: Mapping[str, str] = NO_HEADERS, body: str | None = None
    ) -> Any:
        """The server's answer, of which nothing but the beginning has been read."""
        import urllib3

        client = self._fresh_client()
        headers = {"Accept": "application/json", **headers, **client.authorization()}
        timeout = urllib3.Timeout(total=max(end - time.monotonic(), 0.001))
        how = {"headers": headers, "body": body, "timeout": timeout, "preload_content": False}
        with self._failing():
            try:
                answer = client.pool.request(method, client.server + path, **how)
            except ValueError:  # its text would quote the token
                raise credentials.wrong(self.kubeconfig, "a token that no header can hold") from None
            if not 200 <= answer.status < 300:
                raise _understood(answer.status, _public(_message(_whole(answer, end), answer.reason), client))
            return answer

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """Have failures of the connection be Passing."""
        import urllib3

        try:
            yield
        except (urllib3.exceptions.HTTPError, OSError) as error:
            if isinstance(error, urllib3.exceptions.SSLError):
                self.refresh()  # the authority's certificate may have been replaced
            raise Passing(_reason(error)) from error

    def refresh(self) -> None:
        """Read the credentials anew at the next request: a token is replaced before it expires."""
        self._client = None

    def _fresh_client(self) -> Client:
        with self._reading:
            version = _version(self.kubeconfig)
            if self._client is None or version != self._read_as:
                self._client = credentials.load(self.kubeconfig)
                self._read_as = version
            return self._client


class Connections:
    """A connection for each kubeconfig, kept for the calls to come; those asked for long ago make room."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, Connection] = {}

    def get(self, kubeconfig: str) -> Connection:
        """The one to the API server that `kubeconfig` names."""
        with self._lock:
            found = self._kept.pop(kubeconfig, None) or Connection(kubeconfig)
            self._kept[kubeconfig] = found
            if len(self._kept) > KEPT:
                del self._kept[next(iter(self._kept))]
            return found


of_this_process = Connections()


def _understood(status: int, reason: str) -> Exception:
    if status == 401:
        return Unauthorized("the API server does not accept our credentials (401)")
    if status in PASSING or status < 400 or status >= 500:
        return Passing(f"the API server answered {status}: {reason}")
    return Refused(status, reason)


def _message(text: bytes, reason: str) -> str:
    """What the server says, where it says it in its own way."""
    try:
        return str(json.loads(text)["message"])
    except (TypeError, ValueError, KeyError):
        return reason


def _whole(answer: Any, end: float) -> bytes:
    """All of an answer. Raises Passing where it does not come to an end; urllib3's errors.

    Time-outs of sockets bound each byte's time, and not that of all.
    """
    whole = b""
    while part := answer.read1(PART, decode_content=False):
        whole += part
        if len(whole) > LARGEST or time.monotonic() > end:
            answer.close()
            raise Passing(f"the answer has not come to its end: {len(whole)} bytes until now")
    return whole


def _public(text: str, client: Client | None) -> str:
    """What may be told of an answer: a proxy may quote our own credentials, and an answer may be a token."""
    for value in client.authorization().values() if client else ():
        secret = value.removeprefix("Bearer ").strip()
        text = text.replace(secret, HIDDEN) if secret else text
    return TOKEN.sub(HIDDEN, text)


def _objects(answer: Any, client: Client | None) -> Iterator[Any]:
    import urllib3

    try:
        for line in answer:
            yield _decoded(line, client)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise Passing(_reason(error)) from error


def _decoded(text: bytes, client: Client | None) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:  # cut short, or somebody else's answer
        shown = _public(text.decode(errors="replace"), client)
        raise Passing(f"the answer is no JSON: {shown[:SHOWN]!r}") from error


def _reason(error: Exception) -> str:
    cause = getattr(error, "reason", None) or error
    return f"{type(cause).__name__}: {str(cause).splitlines()[0] if str(cause) else 'no answer'}"


def _version(path: str) -> tuple[int, ...]:
    """What changes with the file's content; empty where there is none."""
    try:
        status = os.stat(path)
        return status.st_mtime_ns, status.st_ino, status.st_size
    except OSError:
        return ()
