"""A node whose pod has one network by a plugin that misbehaves, between others that do not; and how plugins misbehave.

All are shell scripts, so that they start in a millisecond.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine import Namespace
from plexus_node import Node

from cni.linux import netns
from cni.plugin import log, skel

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
ARGS = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=vm"
SECRET = "s3cret-of-the-node"
RESULT = '{"cniVersion": "1.0.0", "ips": [{"address": "10.9.9.9/24"}]}'
SCRIPT = """#!/bin/sh
PATH={path}; export PATH
echo "$CNI_COMMAND" >> {calls}
case " {verbs} " in *" $CNI_COMMAND "*) ;; *) cat >/dev/null; [ $CNI_COMMAND != ADD ] || echo '{result}'; exit 0;; esac
{misbehaves}
"""
GOOD = """#!/bin/sh
echo "$CNI_COMMAND" >> {calls}
cat >/dev/null
[ $CNI_COMMAND != ADD ] || echo '{result}'
"""
SHORT, LONG = 1.5, 60
"""Seconds for plugins, where one hangs, and where none does, however busy the machine is."""
numbers = itertools.count(1)


@dataclass(frozen=True)
class Fault:
    """How a plugin misbehaves, and what comes of it: an error's code and id, or none, for ADD and for all others."""

    script: str
    add: tuple[int, str]
    others: tuple[int, str]
    told: str = ""
    """What the error must say."""

    @property
    def hangs(self) -> bool:
        return HUNG in (self.add, self.others)


OK = (0, "")
HUNG = (11, "PLX-PLUGIN-HUNG")
FAILED = (104, "PLX-PLUGIN-FAILED")
FLOODED = (104, "PLX-PLUGIN-OUTPUT")
NO_JSON = (6, "")
FAULTS = {
    "hangs": Fault("sleep 1000", HUNG, HUNG, 'plugin "bad" did not end'),
    "hangs-and-ignores-that-it-is-told-to-end": Fault("trap '' TERM INT HUP; while :; do sleep 9; done", HUNG, HUNG),
    "hangs-without-its-streams": Fault("exec <&- >&- 2>&-; sleep 1000", HUNG, HUNG),
    "hangs-having-said-why": Fault("echo waits for godot >&2; sleep 1000", HUNG, HUNG, "waits for godot"),
    "hangs-with-a-child-that-ignores-it": Fault("(trap '' TERM; sleep 1000) & wait; sleep 1000", HUNG, HUNG),
    "answers-and-hangs": Fault(f"echo '{RESULT}'; sleep 1000", HUNG, HUNG),
    "leaves-a-child-with-its-output": Fault(f"sleep 1000 & echo $! >>{{pids}}; echo '{RESULT}'", OK, OK),
    "fails-and-leaves-a-child-with-its-output": Fault(
        "sleep 1000 & echo $! >>{pids}; exit 3", FAILED, FAILED, "status 3"
    ),
    "prints-garbage": Fault("echo all is well", NO_JSON, OK),
    "prints-half-of-an-answer": Fault('printf \'{"cniVersion": "1.0.0", "interfa\'', NO_JSON, OK),
    "prints-an-older-result": Fault('echo \'{"cniVersion": "0.2.0", "interfaces": 5}\'', OK, OK),
    "prints-a-result-of-no-version": Fault('echo \'{"cniVersion": "9.9.9"}\'', NO_JSON, OK),
    "prints-wrong-types": Fault('echo \'{"cniVersion": "1.0.0", "ips": "10.0.0.1", "dns": [1]}\'', (7, "PLX-CONF"), OK),
    "prints-a-number": Fault("echo 5", NO_JSON, OK),
    "prints-a-million-interfaces": Fault(
        """printf '{"cniVersion":"1.0.0","interfaces":['; yes '{"name":"a"},' | head -n 999999; echo '{"name":1}]}'""",
        FLOODED,
        FLOODED,
    ),
    "prints-as-many-interfaces-as-it-may": Fault(
        """printf '{"cniVersion":"1.0.0","interfaces":['; yes '{"name":"a"},' | head -n 70000; echo '{"name":"a"}]}'""",
        FLOODED,
        OK,
    ),
    "prints-a-hundred-megabytes": Fault("head -c 100000000 /dev/zero", FLOODED, FLOODED, "more than 1048576 bytes"),
    "prints-without-end-whatever-it-is-told": Fault("trap '' TERM; yes", FLOODED, FLOODED),
    "writes-a-hundred-megabytes-to-stderr": Fault(
        "head -c 100000000 /dev/zero >&2; echo the end >&2; exit 1", FAILED, FAILED, "the end"
    ),
    "prints-nothing": Fault("exit 0", NO_JSON, OK, ""),
    "fails-without-a-word": Fault("exit 7", FAILED, FAILED, "exited with status 7"),
    "dies": Fault("kill -SEGV $$", FAILED, FAILED, "signal 11"),
    "does-not-read": Fault("exec <&-; exit 1", FAILED, FAILED),
    "nests-deeply": Fault("head -c 500000 /dev/zero | tr '\\0' '['", NO_JSON, OK),
    "fails-nesting-deeply": Fault("head -c 500000 /dev/zero | tr '\\0' '['; exit 1", FAILED, FAILED),
    "fails-with-an-endless-code": Fault(
        """printf '{"code": 1'; head -c 4000 /dev/zero | tr '\\0' 0; echo ', "msg": "no"}'; exit 1""",
        (104, ""),
        (104, ""),
        "no",
    ),
    "fails-with-a-code-that-is-none": Fault(
        """echo '{"code": -5, "msg": "no room"}'; exit 1""", (104, ""), (104, ""), "no room"
    ),
    "fails-with-a-message-of-half-a-megabyte": Fault(
        """printf '{"code": 42, "msg": "'; head -c 500000 /dev/zero | tr '\\0' m; echo '"}'; exit 1""",
        (42, ""),
        (42, ""),
    ),
    "fails-in-strange-letters": Fault(
        """printf '{"code": 42, "msg": "a\\\\u001b[2J\\\\u0000\\\\ud800\\\\u202eb","details":["\\\\u009b"]}'; exit 1""",
        (42, ""),
        (42, ""),
    ),
    "writes-strange-letters-to-stderr": Fault(
        "printf 'a\\033[2J\\000\\377\\302\\233b\\r\\n%s' \"$(printf '\\342\\200\\256')\" >&2; exit 1", FAILED, FAILED
    ),
}


@dataclass(frozen=True)
class Answer:
    """What a call has printed."""

    status: int
    text: str
    stderr: str

    @property
    def data(self) -> dict[str, Any]:
        return json.loads(self.text) if self.text else {}

    @property
    def verdict(self) -> tuple[int, str]:
        """The error's code and id, as a fault expects them."""
        details = self.data.get("details", "")
        found = details[details.rindex("[") + 1 : -1] if details.endswith("]") and "[PLX-" in details else ""
        return self.data.get("code", 0), found


class BadNode(Node):
    """The pod has the cluster network, net1 of `bridge`, net2 of the plugin "bad", net3 of "good", net4 of `bridge`."""

    def __init__(self, host: Any, sandbox: Any, directory: Path) -> None:
        super().__init__(host, sandbox, directory)
        self.bin = directory / "bin"
        self.bin.mkdir()
        self.calls_of_good, self.calls, self.pids = (directory / name for name in ("good", "bad", "pids"))
        self.log = directory / "log"
        self.conf["delegates"] = [self.bridge("cluster", "cni0", "10.244.0.0/24", ipMasq=True)]
        self.conf |= {"logFile": str(self.log), "logLevel": "debug"}
        self.define("first", self.bridge("first", "multus1", "10.1.0.0/24"))
        self.define("bad", {"cniVersion": "1.0.0", "name": "bad", "type": "bad", "token": SECRET})
        self.define("good", {"cniVersion": "1.0.0", "name": "good", "type": "good"})
        self.define("last", self.bridge("last", "multus2", "10.2.0.0/24"))
        self.run("first,bad,good,last")
        self.write("good", GOOD.format(calls=self.calls_of_good, result=RESULT))
        self.misbehave("")

    def meet(self, fault: Fault, *verbs: str) -> None:
        """Have the plugin misbehave so when it is called by one of the verbs, and be good otherwise."""
        self.misbehave(fault.script, *verbs, hangs=fault.hangs)

    def misbehave(self, script: str, *verbs: str, hangs: bool = False) -> None:
        """The same by a script."""
        self.conf["pluginTimeout"] = SHORT if hangs else LONG
        script = script.replace("{pids}", str(self.pids))
        words = {"path": PATH, "calls": self.calls, "verbs": " ".join(verbs), "result": RESULT}
        self.write("bad", SCRIPT.format(misbehaves=script, **words))

    def write(self, name: str, text: str) -> None:
        """Put a plugin there, whoever is executing the one before."""
        (self.bin / f".{name}").write_text(text)
        (self.bin / f".{name}").chmod(0o755)
        (self.bin / f".{name}").rename(self.bin / name)

    def environ(self, verb: str) -> dict[str, str]:
        names = {"CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0", "CNI_NETNS": self.sandbox.path, "CNI_ARGS": ARGS}
        concerned = names if verb not in ("GC", "STATUS") else {}
        return {"CNI_COMMAND": verb, "CNI_PATH": str(self.bin), "PATH": PATH, "A_TOKEN": SECRET, **concerned}

    def call(self, verb: str, *, environ: dict[str, str] | None = None, **keys: Any) -> Answer:
        """Be called by a runtime, in this process."""
        told = self.environ(verb) | (environ or {})
        text = json.dumps(self.conf | keys).encode()
        stdout, stderr = io.StringIO(), io.StringIO()

        def serve() -> int:
            log.begin(stderr)
            try:
                return skel.run("plexus", told, io.BytesIO(text), stdout, stderr)
            finally:
                log.end()

        status = netns.run_inside(self.host.path, serve)
        return Answer(status, stdout.getvalue(), stderr.getvalue())

    def call_for(self, sandbox: Namespace, verb: str) -> Answer:
        """The same for another container, which is no pod's and has the cluster network only."""
        return self.call(verb, environ={"CNI_CONTAINERID": "c0", "CNI_NETNS": sandbox.path, "CNI_ARGS": ""})

    def of_every_pod(self) -> dict[str, Any]:
        """Keys that make the bad network the cluster's, which STATUS and GC are about, beside one more."""
        networks = [json.loads(self._definition(name)) for name in ("first", "bad", "good")]
        return {"delegates": [network | {"cniVersion": "1.1.0"} for network in networks]}

    def _definition(self, name: str) -> str:
        text: str = json.loads((self.manifests / f"nad-{name}.json").read_text())["spec"]["config"]
        return text

    def called(self) -> list[str]:
        """By which verbs the plugin was called."""
        return self.calls.read_text().split() if self.calls.exists() else []

    def kill_children(self) -> None:
        """End what plugins have left behind."""
        for pid in self.pids.read_text().split() if self.pids.exists() else []:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), 9)


@contextlib.contextmanager
def namespaces(*roles: str) -> Iterator[list[Namespace]]:
    """Namespaces for the block."""
    made = [Namespace(f"pf{os.getpid()}-{next(numbers)}-{role}") for role in roles]
    try:
        for namespace in made:
            subprocess.run(["ip", "netns", "add", namespace.name], check=True)
            namespace.ip("link set lo up")
        yield made
    finally:
        for namespace in made:
            subprocess.run(["ip", "netns", "del", namespace.name], check=False, capture_output=True)
