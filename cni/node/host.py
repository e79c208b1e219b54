"""The host's files, where we see them: in a container its root, or parts of it, are mounted below a directory."""

from __future__ import annotations

import os
from dataclasses import dataclass

from cni.spec.errors import InvalidConfiguration

LINKS = 40
"""Symbolic links that a path may go through, as in the kernel."""


@dataclass(frozen=True)
class Host:
    """The host, whose `/` we see at `root`. All paths that we are given, and write into files, are the host's."""

    root: str = "/"

    def local(self, path: str) -> str:
        """Where we see `path`; if it is a link, the link itself."""
        directory, name = os.path.split(path)
        return os.path.join(self.directory(directory), name)

    def directory(self, path: str) -> str:
        """Where we see `path`, all links followed as the host would. Raises InvalidConfiguration."""
        resolved, links = "", 0
        rest = _parts(path)
        while rest:
            part, *rest = rest
            if part == "..":
                resolved = os.path.dirname(resolved).rstrip("/")
                continue
            target = self._link(f"{resolved}/{part}")
            if target is None:
                resolved = f"{resolved}/{part}"
                continue
            links += 1
            if links > LINKS:
                raise InvalidConfiguration(f'could not follow "{path}"', "its symbolic links lead in a circle")
            rest = _parts(target) + rest
            resolved = "" if target.startswith("/") else resolved
        return self._below_root(resolved or "/")

    def _link(self, path: str) -> str | None:
        try:
            return os.readlink(self._below_root(path))
        except OSError:
            return None  # no link, or nothing at all

    def _below_root(self, path: str) -> str:
        return path if self.root == "/" else self.root.rstrip("/") + path


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
