"""Wait until the default network is ready, which the file of `readinessindicatorfile` says by being there."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator

from cni.meta.config import MetaConf
from cni.spec.errors import CNIError, PluginUnavailable, TryAgainLater

PAUSE = 0.25
STATUS_PATIENCE = 10.0
"""Seconds for STATUS at most: the kubelet asks again soon, and takes a runtime that is silent for 30 for dead."""
ID = "PLX-NOT-READY"


def wait(
    conf: MetaConf, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Return once the file is there, or none is configured. Raises TryAgainLater after `readinessTimeout`."""
    missing = _wait(conf, conf.readiness_timeout, clock, sleep)
    if missing:
        raise TryAgainLater("could not begin: the default network is not ready", missing, id=ID)


def wait_for_status(
    conf: MetaConf, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Do the same for STATUS, which is not to wait for long. Raises PluginUnavailable."""
    missing = _wait(conf, min(conf.readiness_timeout, STATUS_PATIENCE), clock, sleep)
    if missing:
        raise PluginUnavailable("the default network is not ready", missing, id=ID)


@contextlib.contextmanager
def needed_by_all() -> Iterator[None]:
    """Have whatever fails in the block be what STATUS says: it would fail each ADD. Raises PluginUnavailable."""
    try:
        yield
    except PluginUnavailable:
        raise
    except CNIError as error:
        raise PluginUnavailable(error.msg, error.reason, id=error.id) from error


def _wait(conf: MetaConf, seconds: float, clock: Callable[[], float], sleep: Callable[[float], None]) -> str:
    """Why the file is not there, "" when it is."""
    path = conf.readiness_indicator_file
    reason = _missing(path) if path else ""
    end = clock() + seconds
    while reason and (left := end - clock()) > 0:
        sleep(min(PAUSE, left))
        reason = _missing(path)
    return reason and f'waited {seconds:g} seconds for the file of `readinessindicatorfile`, "{path}": {reason}'


def _missing(path: str) -> str:
    try:
        os.stat(path)
        return ""
    except OSError as error:
        return error.strerror or str(error)
    except ValueError as error:  # a NUL in the path
        return str(error)
