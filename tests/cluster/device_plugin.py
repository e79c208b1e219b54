"""A device plugin of the kubelet (v1beta1) for a resource whose devices are nothing but names.

Usage: device_plugin.py RESOURCE DEVICE... It describes each device as an SR-IOV device plugin does, and serves until
its standard input ends.
"""

from __future__ import annotations

import json
import sys
import threading
from concurrent import futures
from pathlib import Path

import grpc

DIRECTORY = Path("/var/lib/kubelet/device-plugins")
DESCRIPTIONS = Path("/var/run/k8s.cni.cncf.io/devinfo/dp")
ENDPOINT = "example.sock"
VERSION = b"v1beta1"


def field(number: int, content: bytes) -> bytes:
    """A field of a protobuf message: a string, or a message."""
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


def describe(resource: str, devices: list[str]) -> None:
    DESCRIPTIONS.mkdir(parents=True, exist_ok=True)
    for device in devices:
        told = {"type": "pci", "version": "1.1.0", "pci": {"pci-address": device}}
        path = DESCRIPTIONS / f"{resource.replace('/', '-')}-{device}-device.json"
        path.write_text(json.dumps(told))


def serve(devices: list[str]) -> grpc.Server:
    listed = b"".join(field(1, field(1, device.encode()) + field(2, b"Healthy")) for device in devices)

    def options(request, context):
        return b""  # none

    def watch(request, context):
        yield listed
        threading.Event().wait()

    def allocate(request, context):
        # As many empty answers as there are requests, each of which is a field that begins with the key 0x0a.
        count, rest = 0, request
        while rest:
            count, rest = count + 1, rest[2 + rest[1] :]
        return field(1, b"") * count

    methods = {
        "GetDevicePluginOptions": grpc.unary_unary_rpc_method_handler(options),
        "ListAndWatch": grpc.unary_stream_rpc_method_handler(watch),
        "Allocate": grpc.unary_unary_rpc_method_handler(allocate),
    }
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("v1beta1.DevicePlugin", methods)])
    server.add_insecure_port(f"unix:{DIRECTORY / ENDPOINT}")
    server.start()
    return server


def register(resource: str) -> None:
    with grpc.insecure_channel(f"unix:{DIRECTORY / 'kubelet.sock'}") as channel:
        ask = channel.unary_unary("/v1beta1.Registration/Register")
        ask(field(1, VERSION) + field(2, ENDPOINT.encode()) + field(3, resource.encode()), wait_for_ready=True)


if __name__ == "__main__":
    _, name, *ids = sys.argv
    describe(name, ids)
    serving = serve(ids)
    register(name)
    print("ready", flush=True)
    sys.stdin.read()
    serving.stop(None)
