"""Execute a plugin from CNI_PATH as a runtime does (section 2), and understand how it failed."""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

from cni.linux import environment as programs
from cni.linux import inherited
from cni.spec import document
from cni.spec.document import lookup
from cni.spec.errors import CNIError, DecodingFailure, InvalidConfiguration, PluginFailed
from cni.spec.request import Request

if TYPE_CHECKING:
    from cni.spec.result import Result

log = logging.getLogger(__name__)

BUSY_TRIES = 6
BUSY_WAIT = 1.0
"""Seconds between tries while a plugin's file is being replaced ("text file busy")."""
SHOWN = 300
"""Characters of a plugin's output that an error repeats."""


def find(plugin_type: str, path: tuple[str, ...]) -> str:
    """The first regular file of that name in `path`. Raises InvalidConfiguration or PluginFailed."""
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
            return candidate
    raise PluginFailed(
        f'failed to find plugin "{plugin_type}" in path [{" ".join(path)}]',
        "install it there, or correct the `type`",
        id="PLX-PLUGIN-MISSING",
    )


def execute(plugin_type: str, request: Request) -> Result | None:
    """Run the plugin; return its result for ADD. Raises the plugin's own error, or PluginFailed."""
    executable = find(plugin_type, request.path)
    process = _run(executable, request)
    if process.returncode != 0:
        raise _failure(plugin_type, process)
    if process.stderr:
        log.info('plugin "%s" wrote: %s', plugin_type, _shown(process.stderr))
    if request.command != "ADD":
        return None
    from cni.spec import convert

    what = f'the result of plugin "{plugin_type}"'
    return convert.decode(document.decode(process.stdout, what), request.cni_version, what)


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


def _run(executable: str, request: Request) -> subprocess.CompletedProcess[bytes]:
    for attempt in range(1, BUSY_TRIES + 1):
        try:
            return subprocess.run(
                [executable],
                input=request.stdin,
                env=environment(request),
                capture_output=True,
                check=False,
                pass_fds=inherited.descriptors.get(),
            )
        except OSError as error:
            if error.errno == errno.ETXTBSY and attempt < BUSY_TRIES:
                time.sleep(BUSY_WAIT)
                continue
            reason = error.strerror or str(error)
            raise PluginFailed(f'could not execute plugin "{executable}"', reason, id="PLX-PLUGIN-EXEC") from error
        except ValueError as error:  # a NUL in what becomes the environment
            raise PluginFailed(f'could not execute plugin "{executable}"', str(error), id="PLX-PLUGIN-EXEC") from error
    raise AssertionError("unreachable")


def _failure(plugin_type: str, process: subprocess.CompletedProcess[bytes]) -> CNIError:
    """The plugin's own error object, or what can be said of an answer that is none."""
    msg = f'plugin "{plugin_type}" failed'
    own = _own_error(process.stdout, msg)
    if own is not None:
        return own
    stderr = _shown(process.stderr)
    stdout = _shown(process.stdout)
    said = f"it printed {stdout!r}" if stdout else "it printed no error"
    heard = f'; stderr: "{stderr}"' if stderr else ""
    return PluginFailed(msg, f"{said} and {_ended(process.returncode)}{heard}", id="PLX-PLUGIN-FAILED")


def _own_error(stdout: bytes, msg: str) -> PluginFailed | None:
    """The error object that the plugin printed, if it is one: it has a code, or at least a message."""
    try:
        data = document.decode(stdout, "the plugin's error")
    except DecodingFailure:
        return None
    code, own_msg, details = (lookup(data, key) for key in ("code", "msg", "details"))
    has_code = isinstance(code, int) and not isinstance(code, bool)
    if not has_code and not own_msg:
        return None
    return PluginFailed(str(own_msg or msg), str(details or ""), code=code if has_code else None)


def _ended(returncode: int) -> str:
    if returncode >= 0:
        return f"exited with status {returncode}"
    return f"was killed by signal {-returncode} ({signal.strsignal(-returncode)})"


def _shown(output: bytes) -> str:
    text = output.decode(errors="replace").strip()
    return text if len(text) <= SHOWN else "…" + text[-SHOWN:]
