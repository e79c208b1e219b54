"""Have a worker of the node daemon serve a request, in this process, so that changes can be made to fail there too.

With PLEXUS_TESTS_DAEMON=1 all calls of a runtime go this way: launcher's frame, worker, and the answer as JSON.
"""

import json
import os
import re
import socket
import threading

from cni.linux import thread
from cni.node import launcher
from cni.node.client import Client, own_place
from cni.node.waiting import Waiting
from cni.node.worker import Worker, Workshop
from cni.plugin import invoke
from cni.spec import convert, errors
from cni.spec.errors import CNIError
from cni.spec.request import Request
from cni.spec.result import Result

WANTED = os.environ.get("PLEXUS_TESTS_DAEMON") == "1"
if WANTED:
    launcher.SILENCE = 60  # there is only the worker here: nobody gives signs of life in between
ID = re.compile(r"(?P<reason>.*) \[(?P<id>PLX-[A-Z0-9-]+)\]", re.DOTALL)


def call(kind: str, request: Request) -> Result | None:
    """Serve the request in this thread, which is not used for anything else. Raises the CNIError that is answered."""
    invoke.validate(kind, request)  # as for a delegate: what a runtime executes is there
    thread.own_directory()
    worker = Worker(Workshop(code=launcher.__file__, place=own_place(), waiting=Waiting(1)), 0)
    ours, theirs = socket.socketpair()
    token = launcher.Token()
    answer: list[bytes] = []
    with ours:
        launcher._send(ours, _frame(kind, request), token)
        reading = threading.Thread(target=lambda: answer.append(launcher._await(ours, token)))
        reading.start()
        client = Client(theirs)
        try:
            client.reassure()
            worker.serve(client)
        finally:
            client.close()
            reading.join()
            os.close(token.reader)
            os.close(token.writer)
    return _understood(answer[0], request)


def _frame(kind: str, request: Request) -> bytes:
    environ = {
        **request.environ,
        "CNI_COMMAND": request.command,
        "CNI_CONTAINERID": request.container_id,
        "CNI_NETNS": request.netns,
        "CNI_IFNAME": request.ifname,
        "CNI_ARGS": request.args,
        "CNI_PATH": os.pathsep.join(request.path),
    }
    pairs = {os.fsencode(name): os.fsencode(value) for name, value in environ.items()}
    return launcher.request(kind, pairs, request.stdin)


def _understood(answer: bytes, request: Request) -> Result | None:
    stdout = launcher._streams(answer)[0]
    if answer[0]:
        raise _error(json.loads(stdout))
    return convert.decode(json.loads(stdout), request.cni_version, "the answer") if stdout else None


def _error(data: dict[str, str]) -> CNIError:
    """The error as its class, as far as JSON tells."""
    kinds = {kind.code: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, CNIError)}
    found = ID.fullmatch(data.get("details", ""))
    reason, name = (found["reason"], found["id"]) if found else (data.get("details", ""), "")
    kind = kinds.get(int(data["code"]), CNIError)
    error = kind.__new__(kind)
    CNIError.__init__(error, data["msg"], reason, id=name, code=int(data["code"]))
    return error
