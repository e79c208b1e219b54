"""Play the runtime: take a column through the steps of a case, and note what came of each."""

import base64
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fake_plugin import Plugins

from . import snapshot
from . import stage as stages
from .columns import DAEMON, EXECUTED, Answer, Column
from .reference import OLD
from .stage import SANDBOX, Stage
from .table import VERBS, Case, Step

CONTAINER, IFNAME, NETWORK, VERSION = "c1", "eth0", "net", "1.0.0"
LEASES, CONFIGURATIONS, CACHE = "networks", "net.d", "cache"
Seen = dict[str, Any]


def play_all(case: Case, present: Mapping[str, Column], directory: Path) -> dict[str, dict[str, Seen]]:
    """What comes of a case, for each column that is present and can be asked; in directories of their own."""
    found = {}
    for who, column in present.items():
        if who in case.without or not _is_asked(who, case):
            continue
        own = directory / re.sub(r"\W", "-", f"{case.id}-{who}")
        own.mkdir()
        found[who] = play(case, column, own)
    return found


def _is_asked(who: str, case: Case) -> bool:
    """Starting Python takes long, so that few cases are executed; the command that plays the runtime has no daemon."""
    if who == EXECUTED:
        return case.executed
    return who != DAEMON or any(step.do in VERBS for step in case.steps)


def play(case: Case, column: Column, directory: Path) -> dict[str, Seen]:
    """What comes of each step, by its label, for one column."""
    with stages.opened(directory, case.sandboxes) as stage, column.ready(stage):
        player = Player(case, column, stage)
        player.prepare()
        return {step.label: seen for step in case.steps if (seen := player.take(step)) is not None}


class Player:
    """A runtime at work on one case."""

    def __init__(self, case: Case, column: Column, stage: Stage) -> None:
        self.case = case
        self.column = column
        self.stage = stage
        self.fakes = Plugins(stage.directory)
        self.path = os.pathsep.join((str(self.fakes.directory), column.path))
        self.results: dict[tuple[str, str], Any] = {}
        """What ADD answered, by container and interface, for prevResult."""
        digest = hashlib.sha512(stage.netns(SANDBOX).encode()).hexdigest()[:20]
        stage.symbols |= {column.path: "@BIN@", str(self.fakes.directory): "@FAKES@", f"cnitool-{digest}": "@CID@"}

    def prepare(self) -> None:
        """Put the case's files and fake plugins where they belong."""
        for folder in (CONFIGURATIONS, CACHE):
            (self.stage.directory / folder).mkdir()
        self._write(self.case.files)
        for kind, answers in self.case.plugins.items():
            self.fakes.install(kind, **{verb: _answer(answer) for verb, answer in (answers or {}).items()})

    def take(self, step: Step) -> Seen | None:
        """Do one step; what can be seen after it, or None where nobody answered."""
        if step.do == "run":
            self.stage.run(step.what["in"], self._filled(step.what["run"]))
            return None
        if step.do == "write":
            self._write(step.what["write"])
            return None
        answered = self._plugin(step) if step.do in VERBS else self._runtime(step)
        looked = self.stage.look()
        seen: Seen = self.stage.symbolic(answered | looked | self._left())
        for role in looked:
            snapshot.sort(seen[role])
        return seen

    def _plugin(self, step: Step) -> Seen:
        answer = self.column.call(self._kind(step), self.stage, self._environ(step), self._stdin(step))
        told = _told(answer, whole="stdout" in (step.expect or {}))
        if step.do == "ADD" and answer.rc == 0:
            self.results[self._who(step)] = json.loads(answer.stdout)
        return told

    def _runtime(self, step: Step) -> Seen:
        """One call of cnitool, or of our command."""
        arguments = [step.do, step.what.get("network", NETWORK), self._netns(step)]
        environ = {
            "PATH": stages.PATH,
            "NETCONFPATH": str(self.stage.directory / CONFIGURATIONS),
            "CNI_PATH": self.path,
        }
        environ |= {key: self._filled(value) for key, value in step.what.get("environ", {}).items()}
        answer = self.column.runtime(self.stage, environ, arguments, self.stage.directory / CACHE)
        return _told_by_command(answer)

    def _environ(self, step: Step) -> dict[str, str]:
        container_id, ifname = self._who(step)
        known = {"ADD", "DEL", "CHECK"}
        variables = {
            "CNI_COMMAND": step.do,
            "CNI_CONTAINERID": container_id if step.do in known else None,
            "CNI_NETNS": self._netns(step) if step.do in known else None,
            "CNI_IFNAME": ifname if step.do in known else None,
            "CNI_ARGS": step.what.get("args"),
            "CNI_PATH": self.path,
        }
        variables |= step.what.get("environ", {})
        return {"PATH": stages.PATH} | {key: value for key, value in variables.items() if value is not None}

    def _stdin(self, step: Step) -> bytes:
        if "stdin" in step.what:
            return self._filled(step.what["stdin"]).encode()
        written = {"cniVersion": VERSION, "name": NETWORK, "type": self._kind(step)} | dict(self.case.conf)
        written |= {"prevResult": self._prev_result(step)} | step.what.get("conf", {})
        conf = {key: value for key, value in written.items() if value is not None}
        ipam = conf.get("ipam")
        if isinstance(ipam, Mapping) and ipam.get("type") == "host-local":
            conf["ipam"] = {"dataDir": f"@DIR@/{LEASES}"} | ipam
        if self.column.name == OLD and conf.get("cniVersion") == "1.1.0":
            conf["cniVersion"] = "1.0.0"  # a case that needs the newer one is not for it
        return self._filled(json.dumps(conf)).encode()

    def _prev_result(self, step: Step) -> Any:
        """As libcni sends it: what ADD answered, from CNI 0.4.0 on."""
        given = step.what.get("prev", step.do in ("CHECK", "DEL"))
        return self.results.get(self._who(step)) if given is True else given or None

    def _kind(self, step: Step) -> str:
        return str(step.what.get("plugin", self.case.plugin))

    def _who(self, step: Step) -> tuple[str, str]:
        return step.what.get("container", CONTAINER), step.what.get("ifname", IFNAME)

    def _netns(self, step: Step) -> str:
        return self._filled(step.what.get("netns", f"@{step.what.get('sandbox', SANDBOX).upper()}@"))

    def _filled(self, text: str) -> str:
        for role in (stages.HOST, SANDBOX):
            if not self.stage.has_kernel:
                text = text.replace(f"@{role.upper()}@", stages.NOWHERE)
        return self.stage.actual(text)

    def _write(self, files: Mapping[str, str]) -> None:
        for name, content in files.items():
            path = self.stage.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._filled(content).encode())
            path.chmod(0o600)  # as plugins write their files

    def _left(self) -> Seen:
        """Files that plugins and runtimes leave, and the calls of the fake plugins."""
        seen: Seen = {}
        leases = self.stage.directory / LEASES
        if leases.exists():
            # Ours keeps an index beside each directory, in which it only looks things up.
            found = [path for path in sorted(leases.rglob("*")) if path.is_file() and path.suffix != ".index"]
            names = {path: str(path.relative_to(leases)) for path in found}
            seen["files"] = {names[path]: path.read_bytes().decode() for path in found}
            seen["modes"] = {names[path]: f"{path.stat().st_mode & 0o777:o}" for path in found}
        cached = sorted((self.stage.directory / CACHE).glob("results/*"))
        if cached:
            seen["cache"] = {path.name: _cached(path) for path in cached}
        if self.case.plugins:
            seen["calls"] = [_call(call) for call in self.fakes.calls]
        return seen


def _told(answer: Answer, *, whole: bool) -> Seen:
    """What a plugin answered; `whole` with its very bytes."""
    told: Seen = {"rc": answer.rc, "code": None, "msg": None}
    try:
        printed = json.loads(answer.stdout) if answer.stdout else None
    except ValueError:
        return told | {"unreadable": answer.stdout}
    if answer.rc:
        return told | {key: (printed or {}).get(key) for key in ("code", "msg", "details")}
    return told | {"result": printed} | ({"stdout": answer.stdout} if whole else {})


def _told_by_command(answer: Answer) -> Seen:
    """What cnitool or our command answered; its errors are one line."""
    told: Seen = {"rc": answer.rc, "code": None, "msg": None}
    if answer.rc == 0:
        return told | {"result": json.loads(answer.stdout) if answer.stdout else None}
    line = answer.stderr.strip().removeprefix("plexus: ")
    msg, _, details = line.partition("; ")
    return told | {"msg": msg, "details": details or None}


def _answer(written: Mapping[str, Any]) -> dict[str, Any]:
    """A fake plugin's answer: what is no text is JSON."""
    stdout = written.get("stdout", "")
    return dict(written) | {"stdout": stdout if isinstance(stdout, str) else json.dumps(stdout)}


def _call(call: Mapping[str, Any]) -> Seen:
    environ = call["environ"]
    return {
        "call": f"{environ['CNI_COMMAND']} {call['type']}",
        "ifname": environ.get("CNI_IFNAME", ""),
        "args": environ.get("CNI_ARGS", ""),
        "conf": json.loads(call["stdin"]),
    }


def _cached(path: Path) -> Any:
    content = json.loads(path.read_text())
    if isinstance(content, dict) and "config" in content:
        content["config"] = base64.b64decode(content["config"]).decode()
    return content | {"mode": f"{path.stat().st_mode & 0o777:o}"}
