"""`plexus add|check|del|gc|status NETWORK NETNS`: one network for one namespace, as cnitool does it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping

from cni.cli.runtime import Runtime, Settings, absolute, digest, read_settings
from cni.plugin import chain, confdir, invoke
from cni.plugin.cache import Cache
from cni.plugin.chain import Attachment, Host
from cni.spec.netconf import NetConfList


def run(options: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Serve one of the five commands. Raises CNIError."""
    settings = read_settings(environ)
    network = confdir.load(settings.conf_dir, options.network)
    runtime = Runtime(_host(settings), Cache(options.cache_dir))
    COMMANDS[options.command](runtime, network, _attachment(settings, options.netns))


def _add(runtime: Runtime, network: NetConfList, attachment: Attachment) -> None:
    from cni.spec import convert

    result = runtime.add(network, attachment)
    end = "\n" if sys.stdout.isatty() else ""  # where a program reads, the bytes are cnitool's
    sys.stdout.write(convert.to_json(result, network.cni_version) + end)


def _gc(runtime: Runtime, network: NetConfList, _attachment: Attachment) -> None:
    runtime.gc(network)


def _status(runtime: Runtime, network: NetConfList, _attachment: Attachment) -> None:
    chain.status(network, runtime.host)


COMMANDS: dict[str, Callable[[Runtime, NetConfList, Attachment], None]] = {
    "add": _add,
    "check": Runtime.check,
    "del": Runtime.delete,
    "gc": _gc,
    "status": _status,
}


def _attachment(settings: Settings, netns: str) -> Attachment:
    path = absolute(netns)
    return Attachment(
        container_id=f"cnitool-{digest(path)}",
        ifname=settings.ifname,
        netns=path,
        args=settings.args,
        runtime_config=settings.capability_args,
    )


def _host(settings: Settings) -> Host:
    """As cnitool: CNI_PATH says what is executed; only what is not there is built in."""
    found = frozenset(kind for kind in invoke.BUILT_IN | invoke.META if _is_installed(kind, settings.path))
    return Host(path=settings.path, environ=settings.environ, external=found)


def _is_installed(kind: str, path: tuple[str, ...]) -> bool:
    return any(os.path.isfile(os.path.join(directory, kind)) for directory in path)
