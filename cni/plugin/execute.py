"""Execute a plugin from CNI_PATH as a runtime does (section 2), and understand how it failed."""

from __future__ import annotations

import errno
import logging
import os
import re
import signal
import time
from typing import TYPE_CHECKING

from cni.linux import environment as programs
from cni.linux import process as processes
from cni.linux.process import Ended
from cni.plugin import deadline
from cni.spec import document
from cni.spec.document import Document, lookup
from cni.spec.errors import (
    CNIError,
    DecodingFailure,
    InvalidConfiguration,
    NotExecuted,
    PluginFailed,
    TryAgainLater,
)
from cni.spec.request import Request

if TYPE_CHECKING:
    from cni.spec.result import Result

log = logging.getLogger(__name__)

BUSY_TRIES = 6
BUSY_WAIT = 1.0
"""Seconds between tries while a plugin's file is being replaced ("text file busy")."""
SHOWN = 300
"""Characters of a plugin's output that an error repeats."""
LONGEST = 4096
"""Characters of its own message, and of its own details."""
LARGEST_CODE = 2**31 - 1
MOST_OF_A_KIND = 1000
"""Interfaces, addresses or routes of a result."""
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")
"""What a terminal would obey, and what JSON cannot say."""


def find(plugin_type: str, path: tuple[str, ...]) -> str:
    """The first regular file of that name in `path`. Raises InvalidConfiguration or NotExecuted."""
    if not plugin_type:
        raise InvalidConfiguration("no plugin name provided", "the configuration lacks a `type`", id="PLX-PLUGIN-TYPE")
    if "/" in plugin_type or "\0" in plugin_type or plugin_type in (".", ".."):
        raise InvalidConfiguration(
            f"invalid plugin name: {plugin_type}", "`type` is a file name, not a path", id="PLX-PLUGIN-TYPE"
        )
    if not path:
        raise InvalidConfiguration("no paths provided", "set CNI_PATH, or binDir", id="PLX-PLUGIN-MISSING")
    for directory in path:
        candidate = os.path.join(directory, plugin_type)
        if os.path.isfile(candidate):
            if not os.access(candidate, os.X_OK):
                raise _not_executed(candidate, os.strerror(errno.EACCES))
            return candidate
    raise NotExecuted(
        plugin_type,
        f'failed to find plugin "{plugin_type}" in path [{" ".join(path)}]',
        "install it there, or correct the `type`",
        id="PLX-PLUGIN-MISSING",
    )


def execute(plugin_type: str, request: Request) -> Result | None:
    """Run the plugin; return its result for ADD. Raises the plugin's own error, PluginFailed, or TryAgainLater."""
    executable = find(plugin_type, request.path)
    seconds = deadline.for_plugin(request.command, request.plugin_timeout)
    process = _run(executable, request, seconds)
    if process.fault:
        raise _given_up(plugin_type, request, process, seconds)
    if process.returncode != 0:
        raise _failure(plugin_type, process)
    if process.stderr:
        log.info('plugin "%s" wrote: %s', plugin_type, _shown(process.stderr))
    if request.command != "ADD":
        return None
    from cni.spec import convert

    what = f'the result of plugin "{plugin_type}"'
    data = document.decode(process.stdout, what)
    _check_size(data, what)
    return convert.decode(data, request.cni_version, what)


def know_how_children_end() -> None:
    """Have the kernel keep it for us: who ignores SIGCHLD, as our caller may, takes every failure for a success."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def environment(request: Request) -> dict[str, str]:
    """The environment of the child: our caller's, with the six variables of the protocol replaced."""
    return {
        **programs.of_programs(request.environ),
        "CNI_COMMAND": request.command,
        "CNI_CONTAINERID": request.container_id,
        "CNI_NETNS": request.netns,
        "CNI_IFNAME": request.ifname,
        "CNI_ARGS": request.args,
        "CNI_PATH": os.pathsep.join(request.path),
    }


def _run(executable: str, request: Request, seconds: float) -> Ended:
    for attempt in range(1, BUSY_TRIES + 1):
        try:
            return processes.run([executable], request.stdin, environment(request), seconds)
        except OSError as error:
            if error.errno == errno.ETXTBSY and attempt < BUSY_TRIES:
                time.sleep(BUSY_WAIT)
                continue
            raise _not_executed(executable, error.strerror or str(error)) from error
        except ValueError as error:  # a NUL in what becomes the environment
            raise _not_executed(executable, str(error)) from error
    raise AssertionError("unreachable")


def _not_executed(executable: str, reason: str) -> NotExecuted:
    msg = f'could not execute plugin "{executable}"'
    return NotExecuted(os.path.basename(executable), msg, reason, id="PLX-PLUGIN-EXEC")


def _given_up(plugin_type: str, request: Request, process: Ended, seconds: float) -> CNIError:
    """What is told of a plugin that had to be ended."""
    call = f'{request.command} of network "{request.network}"'
    if process.fault == processes.FLOODED:
        told = f"more than {processes.MOST} bytes as its answer to {call}; it was killed{_heard(process)}"
        return PluginFailed(f'plugin "{plugin_type}" printed too much', told, id="PLX-PLUGIN-OUTPUT")
    limit = "`pluginTimeout`" if seconds >= request.plugin_timeout else "what was left for it of the call's time"
    told = f"{call} was given {seconds:.3g} seconds, {limit}; then it was killed{_heard(process)}"
    return TryAgainLater(f'plugin "{plugin_type}" did not end', told, id="PLX-PLUGIN-HUNG")


def _failure(plugin_type: str, process: Ended) -> CNIError:
    """The plugin's own error object, or what can be said of an answer that is none."""
    msg = f'plugin "{plugin_type}" failed'
    own = _own_error(process.stdout, msg)
    if own is not None:
        return own
    stdout = _shown(process.stdout)
    said = f"it printed {stdout!r}" if stdout else "it printed no error"
    told = f"{said} and {_ended(process.returncode)}{_heard(process)}"
    return PluginFailed(msg, told, id="PLX-PLUGIN-FAILED")


def _check_size(data: Document, what: str) -> None:
    """Raise PluginFailed for a result that nobody could remember or publish."""
    for key in ("interfaces", "ips", "routes"):
        found = lookup(data, key)
        if isinstance(found, list) and len(found) > MOST_OF_A_KIND:
            told = f"it has {len(found)} {key}, and at most {MOST_OF_A_KIND} are taken"
            raise PluginFailed(f"could not use {what}", told, id="PLX-PLUGIN-OUTPUT")


def _heard(process: Ended) -> str:
    stderr = _shown(process.stderr)
    return f'; stderr: "{stderr}"' if stderr else ""


def _own_error(stdout: bytes, msg: str) -> PluginFailed | None:
    """The error object that the plugin printed, if it is one: it has a code, or at least a message."""
    try:
        data = document.decode(stdout, "the plugin's error")
    except DecodingFailure:
        return None
    code, own_msg, details = (lookup(data, key) for key in ("code", "msg", "details"))
    has_code = isinstance(code, int) and not isinstance(code, bool) and 0 < code <= LARGEST_CODE
    if not has_code and not own_msg:
        return None
    return PluginFailed(_clean(own_msg or msg), _clean(details or ""), code=code if has_code else None)


def _ended(returncode: int) -> str:
    if returncode >= 0:
        return f"exited with status {returncode}"
    return f"was killed by signal {-returncode} ({signal.strsignal(-returncode)})"


def _shown(output: bytes) -> str:
    text = CONTROL.sub("?", output[-4 * SHOWN :].decode(errors="replace")).strip()
    return text if len(text) <= SHOWN else "…" + text[-SHOWN:]


def _clean(text: object) -> str:
    """A plugin's own words, as they can be told to anybody."""
    clean = CONTROL.sub("?", str(text))
    return clean if len(clean) <= LONGEST else clean[:LONGEST] + "…"
