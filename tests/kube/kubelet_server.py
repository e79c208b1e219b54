"""A kubelet's pod-resources API, by grpcio, that answers as told; a program of its own, since grpcio keeps threads.

Usage: kubelet_server.py SOCKET ANSWERS. The answers to each method are a list in the JSON file ANSWERS, the last one
for ever: a message in base64, or a status and its text, or null for silence. Each request is told on stdout.
"""

from __future__ import annotations

import base64
import json
import sys
import threading
from concurrent import futures
from pathlib import Path

import grpc

METHODS = ("Get", "List", "GetAllocatableResources")


def serve(path: str, answers: dict[str, list]) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    handlers = {method: grpc.unary_unary_rpc_method_handler(_answering(method, answers[method])) for method in answers}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("v1.PodResourcesLister", handlers)])
    server.add_insecure_port(f"unix:{path}")
    server.start()
    print("ready", flush=True)
    sys.stdin.read()
    server.stop(None)


def _answering(method, answers):
    left = list(answers)

    def answer(request, context):
        print(json.dumps([method, base64.b64encode(request).decode()]), flush=True)
        told = left.pop(0) if len(left) > 1 else left[0]
        if told is None:
            threading.Event().wait()
        if isinstance(told, list):
            context.abort(getattr(grpc.StatusCode, told[0]), told[1])
        return base64.b64decode(told)

    return answer


if __name__ == "__main__":
    serve(sys.argv[1], json.loads(Path(sys.argv[2]).read_text()))
