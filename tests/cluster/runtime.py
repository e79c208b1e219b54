"""A runtime that adds sandboxes without end, for a pod that asks for a network: none may come without it.

It does what containerd does: takes the first configuration of its directory, and executes that one's plugins.
"""

import contextlib
import itertools
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from node import BIN_DIR, Node

EXTENSIONS = (".conf", ".conflist", ".json")
PAUSE = 0.05
"""Seconds from one ADD to the next."""
AT_ONCE = 4
"""More than that do not run at the same time: a machine of two processors would do nothing else."""
TRIES = 50


@dataclass
class Runtime:
    """What the sandboxes were given."""

    node: Node
    pod: dict[str, Any]
    wanted: str
    """The interface without which no sandbox may be."""
    attached: int = 0
    refused: list[str] = field(default_factory=list)
    """Why ADD failed, as it may at any time."""
    wrong: list[str] = field(default_factory=list)
    """What may never be: a sandbox without its network, or one that cannot be deleted."""

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Add a sandbox every PAUSE, and delete it, as long as the block lasts."""
        stop = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            ended = pool.submit(self._run, stop)
            try:
                yield
            finally:
                stop.set()
            ended.result()

    def _run(self, stop: threading.Event) -> None:
        slots = threading.Semaphore(AT_ONCE)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            pending: list[Future[None]] = []
            for number in itertools.count():
                slots.acquire()
                if stop.wait(PAUSE):
                    break
                done = pool.submit(self._cycle, f"storm{number}")
                done.add_done_callback(lambda _: slots.release())
                pending.append(done)
            for done in pending:
                done.result()

    def _cycle(self, sandbox: str) -> None:
        plugins, name = self._configured()
        if not plugins:
            self.refused.append("there is no configuration")
            return
        self.node.host.run("ip", "netns", "add", sandbox)
        try:
            self._add(sandbox, plugins, name)
            self._delete(sandbox, plugins, name)
        finally:
            self.node.host.run("ip", "netns", "delete", sandbox)

    def _add(self, sandbox: str, plugins: list[dict[str, Any]], name: str) -> None:
        result: dict[str, Any] = {}
        for plugin in plugins:
            status, answer = self._call("ADD", sandbox, plugin | {"prevResult": result} if result else plugin, name)
            if status != 0:
                self.refused.append(answer)
                return
            result = json.loads(answer)
        links = {link["ifname"] for link in self.node.host.ip_json(f"-netns {sandbox} link")}
        self.attached += 1
        if self.wanted not in links:
            self.wrong.append(f"{sandbox} has {sorted(links)} of {name}: {[plugin['type'] for plugin in plugins]}")

    def _delete(self, sandbox: str, plugins: list[dict[str, Any]], name: str) -> None:
        for plugin in reversed(plugins):
            for _ in range(TRIES):
                status, answer = self._call("DEL", sandbox, plugin, name)
                if status == 0:
                    break
                time.sleep(0.2)
            else:
                self.wrong.append(f"{sandbox} cannot be deleted: {answer}")

    def _call(self, command: str, sandbox: str, plugin: dict[str, Any], name: str) -> tuple[int, str]:
        metadata = self.pod["metadata"]
        pairs = {"NAMESPACE": metadata["namespace"], "NAME": metadata["name"], "UID": metadata["uid"]}
        environ = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": sandbox,
            "CNI_NETNS": f"/run/netns/{sandbox}",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": BIN_DIR,
            "CNI_ARGS": ";".join(["IgnoreUnknown=1", *(f"K8S_POD_{key}={value}" for key, value in pairs.items())]),
        }
        conf = plugin | {"cniVersion": "1.0.0", "name": name}
        done = self.node.host.call(f"{BIN_DIR}/{plugin['type']}", stdin=json.dumps(conf), environ=environ)
        return done.returncode, done.stdout or done.stderr

    def _configured(self) -> tuple[list[dict[str, Any]], str]:
        """The plugins of the configuration that comes first, and its name; none where it cannot be read."""
        paths = sorted(path for path in self.node.conf_dir.iterdir() if path.suffix in EXTENSIONS)
        try:
            conf = json.loads(Path(paths[0]).read_text())
        except (IndexError, OSError, ValueError):
            return [], ""
        return conf.get("plugins", [conf]), conf["name"]
