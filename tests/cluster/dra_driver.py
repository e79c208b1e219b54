"""A driver of dynamic resource allocation (v1) that prepares every claim by doing nothing.

Usage: dra_driver.py DRIVER. It serves until its standard input ends.
"""

from __future__ import annotations

import sys
import threading
from concurrent import futures

import grpc
from device_plugin import field

REGISTRY = "/var/lib/kubelet/plugins_registry"
REGISTRATION = "pluginregistration.Registration"
PLUGIN = "k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin"


def parts(message: bytes) -> list[bytes]:
    """What the fields of a message hold, all of which are strings or messages."""
    found = []
    while message:
        end = 2 + message[1]
        found.append(message[2:end])
        message = message[end:]
    return found


def serve(driver: str, registered: threading.Event) -> grpc.Server:
    path = f"{REGISTRY}/{driver}-reg.sock"
    told = {1: b"DRAPlugin", 2: driver.encode(), 3: path.encode(), 4: b"v1.DRAPlugin"}

    def tell(request, context):
        return b"".join(field(number, text) for number, text in told.items())

    def note(request, context):
        registered.set()
        return b""

    def prepare(request, context):
        uids = [parts(claim)[1] for claim in parts(request)]
        return b"".join(field(1, field(1, uid) + field(2, b"")) for uid in uids)

    services = {
        REGISTRATION: {"GetInfo": tell, "NotifyRegistrationStatus": note},
        PLUGIN: {"NodePrepareResources": prepare, "NodeUnprepareResources": prepare},
    }
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    for service, methods in services.items():
        handlers = {name: grpc.unary_unary_rpc_method_handler(method) for name, method in methods.items()}
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers)])
    server.add_insecure_port(f"unix:{path}")
    server.start()
    return server


if __name__ == "__main__":
    known = threading.Event()
    serving = serve(sys.argv[1], known)
    known.wait()
    print("ready", flush=True)
    sys.stdin.read()
    serving.stop(None)
