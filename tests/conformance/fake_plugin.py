"""Executable plugins that note every call, and answer what they are told to answer."""

import json
import sys
from pathlib import Path
from typing import Any

SCRIPT = """\
#!{python} -IS
import json, os, signal, sys

with open("{log}", "a") as log:
    call = {{"type": "{kind}", "stdin": sys.stdin.read(), "environ": dict(os.environ)}}
    log.write(json.dumps(call) + "\\n")
answers = json.load(open("{answers}"))
command = os.environ["CNI_COMMAND"]
answer = answers.get(f"{{command}} {{os.environ.get('CNI_IFNAME')}}", answers.get(command, {{}}))
sys.stdout.write(answer.get("stdout", ""))
sys.stderr.write(answer.get("stderr", ""))
sys.stdout.flush()
if "signal" in answer:
    os.kill(os.getpid(), answer["signal"])
sys.exit(answer.get("rc", 0))
"""
RESULT = {"cniVersion": "1.1.0", "ips": [{"address": "10.0.0.2/24"}]}


class Plugins:
    """A directory of such plugins, and the log of their calls."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "bin"
        self.directory.mkdir()
        self.log = directory / "calls.log"
        self.answers_directory = directory / "answers"
        self.answers_directory.mkdir()

    def install(self, kind: str, **answers: dict[str, Any]) -> Path:
        """Put one there; `answers` are by command, or command and ifname: stdout, stderr, rc, signal."""
        told = {"ADD": {"stdout": json.dumps(RESULT)}} | answers
        path = self.directory / kind
        answers_path = self.answers_directory / kind
        answers_path.write_text(json.dumps(told))
        path.write_text(SCRIPT.format(python=sys.executable, log=self.log, kind=kind, answers=answers_path))
        path.chmod(0o755)
        return path

    @property
    def calls(self) -> list[dict[str, Any]]:
        """Every call so far: type, stdin, environ."""
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    @property
    def commands(self) -> list[str]:
        """The calls in short."""
        return [f"{call['environ']['CNI_COMMAND']} {call['type']}" for call in self.calls]

    def confs(self) -> list[dict[str, Any]]:
        """What the plugins read from stdin."""
        return [json.loads(call["stdin"]) for call in self.calls]


def failure(code: int = 999, msg: str = "plugin error: banana", details: str = "") -> dict[str, Any]:
    """The answer of a plugin that fails as the specification says."""
    return {"stdout": json.dumps({"code": code, "msg": msg, "details": details}), "rc": 1}
