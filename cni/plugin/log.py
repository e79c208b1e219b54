"""What is logged, and where: the meta plugin's keys `logLevel`, `logToStderr`, `logFile` and `logOptions`.

A line is `<time> [<level>] <process>: <text>`, its control characters escaped: text of others, say an annotation,
begins no line. Configurations are not logged, since they may hold secrets. No log ever fails a call.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import time
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TextIO

from cni.plugin import logfile
from cni.plugin.logfile import LogFile
from cni.spec.document import Document, lookup
from cni.spec.errors import CNIError
from cni.spec.request import Request

log = logging.getLogger(__name__)
calls = logging.getLogger("cni.call")

LEVELS = {"debug": logging.DEBUG, "verbose": logging.INFO, "error": logging.WARNING, "panic": logging.CRITICAL}
DEFAULT_LEVEL = "error"
LABELS = {logging.DEBUG: "debug", logging.INFO: "verbose", logging.WARNING: "warning", logging.CRITICAL: "panic"}
OURS = ("cni", "delegates", "ipam")
"""Libraries stay at their warnings: the API's answers, which one of them shows when debugging, are full of secrets."""

CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
MEGABYTE = 1 << 20
LONGEST = 8192
"""Characters of a text that are logged."""

_handlers: ContextVar[tuple[logging.Handler, ...]] = ContextVar("handlers", default=())
"""Of the call that is being served, since a process may serve many at once."""
_stream: ContextVar[TextIO | None] = ContextVar("stream", default=None)
"""What stands for stderr in that call, where it is not the process's own."""

others_level = logging.DEBUG
"""The least that handlers besides those of a call may want of it: a daemon's own log shows warnings only."""


@dataclass(frozen=True)
class Settings:
    """The four keys; a value that is none of its type is left to whoever checks the configuration."""

    level: str = ""
    to_stderr: bool = True
    file: str = ""
    backups: logfile.Backups = field(default_factory=logfile.Backups)

    @property
    def threshold(self) -> int:
        """The least that is logged."""
        return LEVELS.get(self.level.lower(), LEVELS[DEFAULT_LEVEL])


def begin(stderr: TextIO | None = None) -> None:
    """Log to stderr, or to what stands for it in this call, what nobody else is told: warnings and defects."""
    _stream.set(stderr)
    _install(Settings())


def end() -> None:
    """Log for no call any more."""
    _handlers.set(())


def configure(conf: Document) -> None:
    """Log as the configuration says, from now on."""
    settings = read(conf)
    _install(settings)
    if settings.level and settings.level.lower() not in LEVELS:
        told = "unknown logLevel %r: it is debug, verbose, error or panic; logging as with %r"
        log.warning(told, settings.level, DEFAULT_LEVEL)


def read(conf: Document) -> Settings:
    """The settings of a configuration, which may be wrong elsewhere."""
    options = lookup(conf, "logOptions")
    return Settings(
        level=_value(conf, "logLevel", ""),
        to_stderr=_value(conf, "logToStderr", True),
        file=_value(conf, "logFile", ""),
        backups=_backups(options if isinstance(options, dict) else {}),
    )


@contextlib.contextmanager
def call(request: Request) -> Iterator[None]:
    """Have one line tell how a call of the runtime ended, and how long it took."""
    with _told(request, _of_pod(request), success=logging.INFO, failure=logging.ERROR):
        yield


@contextlib.contextmanager
def delegate(plugin_type: str, request: Request) -> Iterator[None]:
    """The same of a delegate's call, for those who look closely."""
    about = f" plugin={plugin_type} network={request.network}"
    with _told(request, about, success=logging.DEBUG, failure=logging.DEBUG):
        yield


def defect(plugin: str, error: Exception) -> None:
    """Log an exception that should not have been."""
    log.critical("%s failed unexpectedly", plugin, exc_info=error)


def unheard(plugin: str, error: Exception) -> None:
    """Log that nobody could be told how a call ended."""
    log.warning("nobody heard how a call of %s ended: %s", plugin, error)


class Line(logging.Formatter):
    """One line for each record; those of a traceback follow indented."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record out."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        label = LABELS.get(record.levelno, "error")
        line = f"{stamp}.{int(record.msecs):03}Z [{label}] {record.process}: {_escaped(record.getMessage())}"
        trace = self.formatException(record.exc_info).splitlines() if record.exc_info else []
        return "\n    ".join([line, *map(_escaped, trace)])


class Stderr(logging.StreamHandler[TextIO]):
    """The stderr of this call, or of this moment, which `main` may have moved."""

    @property
    def stream(self) -> TextIO:
        """Where to write."""
        return _stream.get() or sys.stderr

    @stream.setter
    def stream(self, _: TextIO) -> None:
        """Be told by the constructor, and keep nothing."""


class OfThisCall(logging.Handler):
    """Hands a record to the handlers of the call in which it was made."""

    def handle(self, record: logging.LogRecord) -> bool:
        """Hand it on, without the lock of `emit`: calls do not wait for each other's files."""
        for handler in _handlers.get():
            if record.levelno >= handler.level:
                handler.handle(record)
        return True


def _install(settings: Settings) -> None:
    wanted = tuple(_wanted(settings))
    for handler in wanted:
        handler.setFormatter(Line())
        handler.setLevel(settings.threshold)
    _handlers.set(wanted)
    root = logging.getLogger()
    if not any(isinstance(handler, OfThisCall) for handler in root.handlers):
        root.addHandler(OfThisCall())
    for name in OURS:
        logging.getLogger(name).setLevel(logging.DEBUG)


def _wanted(settings: Settings) -> Iterator[logging.Handler]:
    if settings.to_stderr:
        yield _stderr(settings)
    if settings.file:
        yield LogFile(settings.file, settings.backups)


def _stderr(settings: Settings) -> logging.Handler:
    handler = Stderr()
    if not settings.level:  # a call's error is on stdout already
        handler.addFilter(lambda record: record.name != calls.name)
    return handler


@contextlib.contextmanager
def _told(request: Request, about: str, *, success: int, failure: int) -> Iterator[None]:
    begun = time.monotonic()
    level, outcome = success, "done"
    try:
        yield
    except CNIError as error:
        level, outcome = failure, f"failed with code {error.code}: {error}"
        raise
    except BaseException as error:
        level, outcome = failure, f"failed unexpectedly: {type(error).__name__}"
        raise
    finally:
        if _is_wanted(level):
            took = time.monotonic() - begun
            told = f"{request.command}{_of_attachment(request)}{about} duration={took:.3f}s {outcome}"
            calls.log(level, "%s", _escaped(told))  # other handlers than ours need not bear control characters


def _is_wanted(level: int) -> bool:
    """Whether anybody shows it; most lines are for debugging, and not even made."""
    least = min((handler.level for handler in _handlers.get()), default=others_level)
    return level >= min(least, others_level) and calls.isEnabledFor(level)


def _of_attachment(request: Request) -> str:
    container = f" containerID={request.container_id}" if request.container_id else ""
    return container + (f" ifname={request.ifname}" if request.ifname else "")


def _of_pod(request: Request) -> str:
    pairs = dict(pair.partition("=")[::2] for pair in request.args.split(";"))
    namespace, name = pairs.get("K8S_POD_NAMESPACE", ""), pairs.get("K8S_POD_NAME", "")
    return f" pod={namespace}/{name}" if name else ""


def _escaped(text: str) -> str:
    shown = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), shown)


def _value(conf: Document, key: str, default: Any) -> Any:
    value = lookup(conf, key)
    return value if type(value) is type(default) else default


def _backups(options: Document) -> logfile.Backups:
    plain = logfile.Backups()
    return logfile.Backups(
        size=_value(options, "maxSize", 0) * MEGABYTE or plain.size,
        days=_value(options, "maxAge", plain.days),
        number=_value(options, "maxBackups", plain.number),
        compress=_value(options, "compress", plain.compress),
    )
