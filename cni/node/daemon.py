"""The node daemon: a process with everything loaded that serves launchers' requests, and that nothing depends on."""

from __future__ import annotations

import contextlib
import gc
import importlib
import logging
import os
import resource
import signal
from collections.abc import Mapping
from dataclasses import dataclass

from cni.kube import watched
from cni.linux import messages
from cni.node import exposition, launcher, listener, metrics, systemd
from cni.node.cleaner import Cleaner
from cni.node.reception import Reception
from cni.node.waiting import Waiting
from cni.plugin import execute, invoke, log, observed

logger = logging.getLogger(__name__)

IMPORTED_LATER = (
    "cni.kube.api",
    "cni.kube.manifests",
    "cni.linux.links",
    "cni.linux.nft",
    "cni.plugin.underway",
    "cni.spec.convert",
    "delegates.bridge_add",
    "delegates.verify",
    "delegates.veth_add",
    "ipam.allocator",
    "ipam.config",
)
"""What plugins import when they are called."""
LIBRARIES = ("concurrent.futures.thread", "filelock", "ssl", "subprocess", "urllib3", "yaml")
PATIENCE = 10.0
"""Seconds for systemd to hear that we are ready, without which it would start us again."""
FILES = 8192
"""Descriptors that may be open: two for each who waits, some for each who is served."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the operator says."""

    socket: str = launcher.SOCKET
    slots: int = 16
    """Requests that are served at the same time."""

    capacity: int = 1024
    """Launchers that may wait for a slot."""

    metrics: str = ""
    """Where Prometheus may read metrics: `unix:` and a path, or a loopback address and a port."""

    clean_every: float = 0
    """Seconds between cleaning up after the dead; 0 for never."""


def run(settings: Settings, environ: Mapping[str, str]) -> None:
    """Serve until SIGTERM or SIGINT. Raises InvalidConfiguration when it cannot begin, IOFailure."""
    if settings.metrics:
        exposition.check_address(settings.metrics)
    _log_for_operators()
    execute.know_how_children_end()
    os.umask(0o077)
    _allow_descriptors()
    load()
    watched.of_this_process.remember()
    with contextlib.ExitStack() as stack:
        listeners = stack.enter_context(listener.opened(settings.socket, environ))
        waiting = Waiting(settings.capacity)
        counter: metrics.Counter = metrics.NOBODY
        if settings.metrics:
            counts = counter = metrics.Metrics(waiting, settings.slots)
            observed.observer = counts
            stack.enter_context(exposition.shown(counts, settings.metrics))
        cleaner = Cleaner(settings.clean_every, environ, counter)
        stack.callback(cleaner.end)
        if settings.clean_every:
            cleaner.start()
        reception = Reception(listeners, waiting, settings.slots, environ, counter)
        _work(reception, settings, environ)
    reception.finish()  # first of all: those that wait must hear that we live
    cleaner.finish()
    watched.of_this_process.finish()


def _work(reception: Reception, settings: Settings, environ: Mapping[str, str]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, reception.end)
    systemd.notify(environ, "READY=1", patience=PATIENCE)
    logger.info("ready on %s, for %d requests at a time", settings.socket, settings.slots)
    reception.work()
    systemd.notify(environ, "STOPPING=1")
    logger.info("ending; %d wait", reception.waiting.length)


def load() -> None:
    """Import everything that a request may need."""
    for module in (*invoke.BUILT_IN.values(), *invoke.META.values(), *IMPORTED_LATER, *LIBRARIES):
        importlib.import_module(module)
    messages.load_all()
    gc.collect()
    gc.freeze()  # what is loaded now stays: nobody need look through it again


def _allow_descriptors() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _log_for_operators() -> None:
    """Have the process's own log tell what the daemon does, and of the calls only what is wrong."""
    root = logging.getLogger()
    log.others_level = logging.WARNING
    for handler in root.handlers:
        handler.setFormatter(log.Line())
        handler.addFilter(lambda record: record.levelno >= (root.level if _is_daemons(record) else logging.WARNING))


def _is_daemons(record: logging.LogRecord) -> bool:
    return record.name.startswith("cni.node.")
