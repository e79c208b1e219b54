"""What the API server has of one kind, kept in memory and up to date by a watch."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

from cni.kube.connection import Connection, Passing, Refused, Unauthorized
from cni.spec.errors import InvalidConfiguration

logger = logging.getLogger(__name__)

T = TypeVar("T")
Key = tuple[str, str]
"""Namespace, name."""
Read = Callable[[str, str, Mapping[str, Any]], T]
"""Makes what is kept of an object."""

PAGE = 100
"""Objects that are asked for at a time: what is kept of one is small, what the server sends is not."""
LISTING = 30.0
SILENCE = 75.0
"""Seconds; a server that has nothing to tell says so each minute."""
WATCH = 300
"""Seconds after which the server is to end a watch, more or less."""
GONE = 410
PAUSE, LONG_PAUSE = 1.0, 300.0
"""Seconds until it is tried again: where it may be otherwise soon, and where somebody has to do something."""
LARGEST = 16 << 20
"""Characters of objects that are kept; whoever may make definitions could otherwise have us take all memory."""


class TooLarge(Exception):
    """There is more than is worth keeping."""


class Expired(Exception):
    """The server does not remember what has happened since."""


class Mirror(Generic[T]):
    """Objects by namespace and name. While it does not know for sure what there is now, it knows of none."""

    def __init__(self, connection: Connection, path: str, read: Read[T], selector: str = "") -> None:
        self.connection = connection
        self.path = path
        self.read = read
        self.selector = {"fieldSelector": selector} if selector else {}
        self._objects: dict[Key, T] = {}
        self._sizes: dict[Key, int] = {}
        self._size = 0
        self._version = ""
        self._is_current = False
        threading.Thread(target=self._follow_for_ever, name=f"mirror {path}", daemon=True).start()

    def find(self, namespace: str, name: str) -> T | None:
        """The object; None where there is none, and where it is not known."""
        return self._objects.get((namespace, name)) if self._is_current else None

    def _follow_for_ever(self) -> None:
        while True:
            time.sleep(self._follow() * random.SystemRandom().uniform(0.5, 1))  # nodes need not ask in step

    def _follow(self) -> float:
        """List and watch until that fails; how long to leave it then."""
        try:
            self._list()
            while True:
                self._watch()
        except Expired:
            return 0
        except (Refused, TooLarge, InvalidConfiguration) as error:
            logger.warning("nothing is remembered of %s: %s", self.path, error)
            return LONG_PAUSE
        except Passing as error:
            if isinstance(error, Unauthorized):
                self.connection.refresh()
            logger.info("nothing is remembered of %s for a moment: %s", self.path, error)
            return PAUSE
        except Exception:  # whatever it is, calls go on without
            logger.critical("nothing is remembered of %s", self.path, exc_info=True)
            return LONG_PAUSE
        finally:
            self._is_current = False

    def _list(self) -> None:
        """Have all there is."""
        self._objects, self._sizes, self._size = {}, {}, 0
        self._version, rest = "", ""
        while True:
            more = {"continue": rest} if rest else {}
            page = self.connection.request("GET", self._query(limit=str(PAGE), **more), timeout=LISTING)
            for data in page.get("items") or ():
                self._keep(data)
            self._version = page["metadata"].get("resourceVersion") or self._version
            rest = page["metadata"].get("continue") or ""
            if not rest:
                return

    def _watch(self) -> None:
        """Follow what has happened since, and happens, until the server ends it."""
        since = {"resourceVersion": self._version, "allowWatchBookmarks": "true"}
        query = self._query(watch="1", timeoutSeconds=str(WATCH), **since)
        with self.connection.stream(query, silence=SILENCE) as events:
            self._is_current = True
            for kind, data in _understood(events):
                self._version = data["metadata"].get("resourceVersion") or self._version
                if kind == "DELETED":
                    self._forget(data)
                elif kind in ("ADDED", "MODIFIED"):
                    self._keep(data)
        self._is_current = False

    def _keep(self, data: Mapping[str, Any]) -> None:
        self._forget(data)
        key = _key(data)
        self._sizes[key] = len(str(data.get("spec"))) + len(str(data["metadata"].get("annotations")))
        self._size += self._sizes[key]
        self._objects[key] = self.read(*key, data)
        if self._size > LARGEST:
            raise TooLarge(f"there are {len(self._sizes)} objects with {LARGEST >> 20} MiB and more")

    def _forget(self, data: Mapping[str, Any]) -> None:
        self._objects.pop(_key(data), None)
        self._size -= self._sizes.pop(_key(data), 0)

    def _query(self, **more: str) -> str:
        return f"{self.path}?{urlencode({**self.selector, **more})}"


def _understood(events: Iterator[Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Kind and object of each event. Raises Expired, Passing."""
    for event in events:
        data = event.get("object") or {}
        if event.get("type") == "ERROR":
            if data.get("code") == GONE:
                raise Expired
            raise Passing(f"the watch failed: {data.get('message')}")
        yield str(event.get("type")), data


def _key(data: Mapping[str, Any]) -> Key:
    return data["metadata"].get("namespace") or "", data["metadata"]["name"]
