"""Call a plugin as a runtime does, and know what it cost."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ENVIRON = {"PATH": os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"}
PIPE = 60_000
"""Bytes that a pipe holds without a reader."""


class Failed(Exception):
    """A plugin failed; the text says which and why."""


@dataclass(frozen=True)
class Cost:
    """What a call took: seconds of the clock, and of the processor for the process and those that it waited for."""

    seconds: float
    processor: float


@dataclass(frozen=True)
class Attachment:
    """A container that a plugin is called for."""

    container_id: str
    sandbox: str
    args: str = ""

    def of(self, container_id: str) -> Attachment:
        """The same for another container."""
        return replace(self, container_id=container_id)


def call(
    plugin: Path, verb: str, attachment: Attachment, conf: Mapping[str, Any], *, wrapper: list[str] | None = None
) -> Cost:
    """Execute the plugin, and wait for it. Raises Failed."""
    environ = ENVIRON | {
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": attachment.container_id,
        "CNI_NETNS": f"/run/netns/{attachment.sandbox}",
        "CNI_IFNAME": "eth0",
        "CNI_ARGS": attachment.args,
        "CNI_PATH": str(plugin.parent),
    }
    if isinstance(path := conf.get("binDir"), str):
        environ["CNI_PATH"] = path
    stdin = _filled(json.dumps(conf).encode())
    reader, writer = os.pipe()
    words = [*(wrapper or []), str(plugin)]
    actions = [(os.POSIX_SPAWN_DUP2, stdin, 0), (os.POSIX_SPAWN_DUP2, writer, 1), (os.POSIX_SPAWN_DUP2, writer, 2)]
    begin = time.perf_counter()
    try:
        pid = os.posix_spawnp(words[0], words, environ, file_actions=actions)
        _, status, usage = os.wait4(pid, 0)
        seconds = time.perf_counter() - begin
    finally:
        os.close(stdin)
        os.close(writer)
    with os.fdopen(reader, "rb") as file:
        said = file.read()
    if status != 0:
        raise Failed(f"{verb} by {plugin} ended with {os.waitstatus_to_exitcode(status)}: {said.decode()[:2000]}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime)


def _filled(data: bytes) -> int:
    """The end of a pipe that the data can be read from."""
    if len(data) > PIPE:
        raise Failed("the configuration does not fit into a pipe")
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    return reader
