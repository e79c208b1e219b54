"""A node on which the rows about the verbs are played: plugins that note every call, an API server, a runtime."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from conformance.fake_plugin import Plugins, failure
from conformance.plugin_call import Answer, in_process
from kube.api_server import RESET, Server, write_kubeconfig

CONTAINER = "123456789"
ADDRESSES = {
    "weave-net": "1.1.1.2/24",
    "other-plugin": "1.1.1.5/24",
    "mynet": "1.1.1.3/24",
    "mynet2": "1.1.1.4/24",
}
POD = "/api/v1/namespaces/test/pods/test-pod"
EVENTS = "/api/v1/namespaces/test/events"
DEFINITION = "/apis/k8s.cni.cncf.io/v1/namespaces/{}/network-attachment-definitions/{}"


class Api(Server):
    """Knows the row's pod and definitions; takes events and network-status."""

    def __init__(self, given: dict[str, Any]) -> None:
        super().__init__()
        metadata = {"name": "test-pod", "namespace": "test"} | given["pod"]
        self.pod = {"metadata": metadata}
        for full_name, conf in given["definitions"].items():
            path = DEFINITION.format(*full_name.split("/"))
            self.objects[path] = {"spec": {"config": json.dumps(conf)}}
        self.objects[EVENTS] = {}
        self.show(known=not given.get("hidden"))
        self.refused = given.get("refused") == "status"
        self.cut_off = bool(given.get("unreachable"))

    def show(self, *, known: bool) -> None:
        self.objects.pop(POD, None)
        self.objects |= {POD: self.pod} if known else {}

    def answer(self, path: str) -> Any:
        if self.cut_off:
            return RESET
        if path == f"{POD}/status":
            return (403, {"message": "pods/status is forbidden"}) if self.refused else (200, self.pod)
        return super().answer(path)

    def events(self) -> list[list[str]]:
        bodies = [body for method, path, _, body in self.requests if (method, path) == ("POST", EVENTS)]
        return [[body["type"], body["reason"], body["message"]] for body in bodies]


class Player:
    """Plays one row under one version of the specification."""

    def __init__(self, given: dict[str, Any], version: str, sandbox: str, directory: Path) -> None:
        self.given = json.loads(json.dumps(given).replace("$V", version).replace("$BIN", str(directory / "bin")))
        self.version = version
        self.sandbox = sandbox
        self.directory = directory
        self.state = directory / "state"
        self.kubeconfig = directory / "kubeconfig"
        self.plugins = Plugins(directory)
        for kind in ADDRESSES:
            self._install(kind, self.given.get("answers", {}).get(kind, {}))
        self.api = Api(self.given) if "pod" in self.given else None
        if self.api:
            write_kubeconfig(self.kubeconfig, self.api.url, self.api.token)
        self.last_result: dict[str, Any] | None = None

    def stop(self) -> None:
        if self.api:
            self.api.stop()

    def _install(self, kind: str, answers: dict[str, Any]) -> None:
        """`answers` are errors by command; {} is a result without anything in it."""
        told = {"ADD": {"stdout": json.dumps(self._result(ADDRESSES[kind]))}}
        for command, answer in answers.items():
            told[command] = failure(**answer) if answer else {"stdout": json.dumps({"cniVersion": self.version})}
        self.plugins.install(kind, **told)

    def _result(self, address: str) -> dict[str, Any]:
        if self.version == "0.2.0":
            return {"cniVersion": "0.2.0", "ip4": {"ip": address}}
        family = {"version": "4"} if self.version.startswith("0.") else {}
        return {"cniVersion": self.version, "ips": [family | {"address": address}]}

    def call(self, command: str, **keys: Any) -> Answer:
        """What a runtime gets for the verb."""
        stdin = self.given.get("stdin") or json.dumps(self._conf() | keys.pop("conf", {}))
        answer = in_process("plexus", self._environ(command, **keys), stdin.encode())
        if command == "ADD" and answer.rc == 0:
            self.last_result = answer.result
        return answer

    def _conf(self) -> dict[str, Any]:
        source = {"kubeconfig": str(self.kubeconfig), "apiTimeout": 0.3}
        (self.directory / "manifests").mkdir(exist_ok=True)
        own = {
            "cniVersion": self.version,
            "name": "multus",
            "type": "plexus",
            "binDir": str(self.plugins.directory),
            "cniDir": str(self.state),
            "parallel": False,  # as in Multus
            **(source if self.api else {"manifests": str(self.directory / "manifests")}),
        }
        return own | self.given["conf"] if "conf" in self.given else own

    def _environ(self, command: str, netns: str | None = None) -> dict[str, str]:
        uid = self.given.get("uid", "testUID")
        named = {"K8S_POD_NAMESPACE": "test", "K8S_POD_NAME": "test-pod", "K8S_POD_INFRA_CONTAINER_ID": CONTAINER}
        pairs = {"IgnoreUnknown": "1"} | (named | {"K8S_POD_UID": uid} if self.api else {})
        args = [f"{key}={value}" for key, value in pairs.items()]
        return {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": CONTAINER,
            "CNI_NETNS": self.sandbox if netns is None else netns,
            "CNI_IFNAME": "eth0",
            "CNI_ARGS": ";".join([*args, self.given["args"]] if "args" in self.given else args),
            "CNI_PATH": "/nowhere",
            "PATH": os.environ["PATH"],
        }

    def play_a_part(self, what: str) -> None:
        """Do what happens between two calls."""
        record = self.state / "containers" / f"{CONTAINER}@eth0.json"
        parts = {
            "forget the pod": lambda: self.api.show(known=False),
            "show the pod": lambda: self.api.show(known=True),
            "cut the API off": lambda: setattr(self.api, "cut_off", True),
            "remove the kubeconfig": self.kubeconfig.unlink,
            "lose the record": record.unlink,
            "damage the record": lambda: record.write_text("{"),
            "mend mynet": lambda: self._install("mynet", {}),
        }
        parts[what]()

    def files(self) -> list[str]:
        """What is remembered; a damaged record that was set aside is none, nor is a lock."""
        kept = (".damaged", ".lock")
        found = (path for path in self.state.rglob("*") if path.is_file() and path.suffix not in kept)
        return sorted(str(path.relative_to(self.state)) for path in found)

    def calls(self) -> list[dict[str, Any]]:
        """Every call of a plugin so far, with its `short` form."""
        return [call | {"short": _short(call)} for call in self.plugins.calls]


def _short(call: dict[str, Any]) -> str:
    environ = call["environ"]
    return f"{environ['CNI_COMMAND']} {call['type']} {environ['CNI_IFNAME']}".strip()
