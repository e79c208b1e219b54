"""The first code of every installed executable: asks the node daemon, or does the work in this process.

A runtime waits for every millisecond here, so only what the interpreter has built in is imported: `posix` is `os`
without what makes that comfortable, and nothing is of ours before it is known that we work alone.
"""

import _socket
import posix
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

SOCKET = "/run/plexus/plexus.sock"
"""Where the daemon listens, unless the installation says otherwise."""

MAGIC = b"plexus/1"
"""How a request begins; another protocol is another number."""
WAIT, ANSWER, BUSY = b".", b"=", b"!"
"""What the daemon sends: that it lives, as often as it likes; then the answer, or that it can take no more."""

VERBS = (b"ADD", b"DEL", b"CHECK", b"GC", b"STATUS", b"VERSION")
NAMESPACES = ("/proc/self/ns/net", "/proc/self/ns/mnt", "/")
"""What makes our place in the system: the daemon works for its own place only."""

NOTICE = 0.05
"""Seconds in which a daemon says that it lives; if not, a look is taken at its process."""
GRACE = 0.5
"""Seconds it gets besides unless it is stopped: on a busy machine, waiting is quicker than to load all libraries."""
SILENCE = 3.0
"""Seconds without a sign of life after which it is taken to hang; there are some four signs a second."""
PATIENCE = 100.0
PATIENCE_TO_ADD = 200.0
"""Seconds to wait for our turn: less than the kubelet waits, two minutes, and four for a new sandbox.

A line that does not move the daemon itself sends away, much earlier; see `reception.HOPELESS`.
"""

ROOT = 0
SO_SNDBUFFORCE = 32
"""From <asm-generic/socket.h>."""
ROOM = 100_000
"""Bytes that a socket's buffer holds without being asked to."""

ALONE, HALF_DONE, LOST, OVERLOADED = "alone", "half done", "lost", "overloaded"
"""Why there is no answer: nobody has begun; a daemon died over it; one hangs over it; it was not begun in time."""

DAMAGED = {"cniVersion": "1.1.0", "code": 999, "msg": "could not begin to serve the request"}
REMEDY = "the installation is damaged: run its installer again (PLX-INSTALLATION)"
ERRORS = {
    OVERLOADED: b'{"cniVersion":"1.1.0","code":11,"msg":"could not serve the request now","details":"the node daemon'
    b' has too much to do: the request waited too long, or too many wait already (PLX-DAEMON-BUSY)"}\n',
    LOST: b'{"cniVersion":"1.1.0","code":11,"msg":"could not learn how the request ended","details":"the node daemon'
    b" began it and went silent: what it did is undone by the next DEL, which does without the daemon"
    b' (PLX-DAEMON-HUNG)"}\n',
}


class Unanswered(Exception):
    """The daemon will not answer, and why."""

    def __init__(self, why: str) -> None:
        self.why = why


def main(name: str, socket: str = SOCKET) -> int:
    """Be the executable `name`: the plugin of that name, or the operator's command; return the exit status.

    `plexus-bridge` is the plugin `bridge` under a name that no other vendor uses. Only `plexus` itself is a command
    too: when it has arguments and no runtime is calling, which a runtime tells by CNI_COMMAND.
    """
    verb = posix.environ.get(b"CNI_COMMAND", b"")
    if name == "plexus" and len(sys.argv) > 1 and not verb:
        status: int = _load("cni.cli.command").main(sys.argv[1:], socket)
        return status
    try:
        return _serve(name.removeprefix("plexus-"), verb, socket)
    except Exception as error:  # noqa: BLE001 - whatever it is, the runtime must get an answer
        return _give_up(error)


def _serve(name: str, verb: bytes, socket: str) -> int:
    if verb not in VERBS:
        return _alone(name, None)
    try:
        stdin = _read_all() if verb != b"VERSION" else None
    except OSError:
        return _alone(name, None)
    try:
        answer = _ask(socket, name, stdin or b"", PATIENCE_TO_ADD if verb == b"ADD" else PATIENCE)
    except Unanswered as unanswered:
        return _go_on(name, verb, stdin, unanswered.why)
    status, is_heard = answer[0], _tell(*_streams(answer))
    if verb == b"ADD" and status == 0 and not is_heard:
        _take_back(name, stdin)
    posix._exit(status if is_heard else 1)  # noqa: SLF001 - this is its name


def _give_up(error: Exception) -> "NoReturn":
    """End with an error as the specification has it, where not even our own code could be loaded."""
    sys.__excepthook__(type(error), error, error.__traceback__)
    import json

    details = f"{type(error).__name__}: {error}; {REMEDY}"
    _finish(1, json.dumps(DAMAGED | {"details": details}).encode() + b"\n", b"")


def _go_on(name: str, verb: bytes, stdin: bytes | None, why: str) -> int:
    """End a request that the daemon did not answer; only an ADD cannot simply be served again."""
    if why == OVERLOADED or (why == LOST and verb == b"ADD"):
        return _finish(1, ERRORS[why], b"")
    return _alone(name, stdin, half_done=why == HALF_DONE and verb == b"ADD")


class Token:
    """The right to serve the request: whoever reads the byte has it, the daemon or we, and nobody has it twice."""

    def __init__(self) -> None:
        self.reader, self.writer = posix.pipe2(posix.O_CLOEXEC | posix.O_NONBLOCK)
        posix.write(self.writer, b"1")

    def take(self) -> bool:
        """Whether it is ours from now on."""
        try:
            return bool(posix.read(self.reader, 1))
        except BlockingIOError:
            return False


def request(name: str, environ: dict[bytes, bytes], stdin: bytes) -> bytes:
    """What the daemon is sent: all that makes our process another than its own."""
    umask = posix.umask(0o077)
    posix.umask(umask)
    place = b" ".join(b"%d:%d" % (status.st_dev, status.st_ino) for status in map(posix.stat, NAMESPACES))
    variables = b"\0".join(b"%s=%s" % pair for pair in environ.items())
    code = __file__.encode("utf-8", "surrogateescape")
    parts = (code, place, posix.getcwdb(), b"%d" % umask, name.encode(), variables, stdin)
    body = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return MAGIC + len(body).to_bytes(4, "big") + body


def _ask(path: str, name: str, stdin: bytes, patience: float) -> bytes:
    """The daemon's answer. Raises Unanswered."""
    try:
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        connection.settimeout(NOTICE)
        connection.connect(path)
        if _peer(connection)[1] != ROOT:
            raise Unanswered(ALONE)
        token = Token()
        _send(connection, request(name, posix.environ, stdin), token)
    except OSError as error:
        raise Unanswered(ALONE) from error
    return _await(connection, token, patience)


def _send(connection: _socket.socket, frame: bytes, token: Token) -> None:
    """Send all of the request at once, since a daemon reads it only when it is our turn. Raises OSError, Unanswered."""
    if len(frame) > ROOM:
        connection.setsockopt(_socket.SOL_SOCKET, SO_SNDBUFFORCE, 2 * len(frame))
    rights = token.reader.to_bytes(4, sys.byteorder)
    sent = connection.sendmsg([frame], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
    if sent < len(frame):
        raise Unanswered(ALONE)  # what is cut short nobody serves


def _await(connection: _socket.socket, token: Token, patience: float = PATIENCE) -> bytes:
    """Wait for the answer as long as the daemon lives. Raises Unanswered."""
    end = time.monotonic() + patience
    received = b""
    silences: tuple[float, ...] = (NOTICE, GRACE, SILENCE)
    while not _is_complete(received):
        received = (received + _hear(connection, token, silences)).lstrip(WAIT)
        silences = (SILENCE,)
        if received[:1] not in (b"", ANSWER, BUSY):
            raise Unanswered(ALONE if token.take() else LOST)  # nothing that a daemon of ours says
        if (received == BUSY or time.monotonic() > end) and token.take():
            raise Unanswered(OVERLOADED)
    return received[1:]


def _hear(connection: _socket.socket, token: Token, silences: tuple[float, ...]) -> bytes:
    """What the daemon says next. Raises Unanswered when it is gone, or silent for so long, and for all so long."""
    for silence in silences:
        connection.settimeout(silence)
        try:
            said = connection.recv(65536)
        except TimeoutError:
            if (silence > NOTICE or _is_stopped(connection)) and token.take():
                raise Unanswered(ALONE) from None
            continue
        except OSError:
            said = b""
        if not said:
            raise Unanswered(ALONE if token.take() else HALF_DONE)
        return said
    raise Unanswered(LOST)


def _peer(connection: _socket.socket) -> tuple[int, int]:
    """Process and user that listen at the other end; systemd is such a process too."""
    credentials = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[:4], sys.byteorder), int.from_bytes(credentials[4:8], sys.byteorder)


def _is_stopped(connection: _socket.socket) -> bool:
    """Whether the process that listens cannot go on by itself; not where we cannot see it."""
    pid = _peer(connection)[0]
    try:
        descriptor = posix.open(f"/proc/{pid}/stat", posix.O_RDONLY | posix.O_CLOEXEC)
        return posix.read(descriptor, 4096).rpartition(b") ")[2][:1] in (b"T", b"t", b"Z", b"X")
    except OSError:
        return pid > 0


def _is_complete(received: bytes) -> bool:
    """Whether it is an answer with a status, two lengths, and as many bytes."""
    return received[:1] == ANSWER and len(received) >= 10 and len(received) >= 10 + sum(_lengths(received[1:]))


def _lengths(answer: bytes) -> tuple[int, int]:
    return int.from_bytes(answer[1:5], "big"), int.from_bytes(answer[5:9], "big")


def _streams(answer: bytes) -> tuple[bytes, bytes]:
    """Stdout and stderr."""
    end = 9 + _lengths(answer)[0]
    return answer[9:end], answer[end : end + _lengths(answer)[1]]


def _finish(status: int, stdout: bytes, stderr: bytes) -> "NoReturn":
    """Print, and end without the tidying up that takes Python a millisecond."""
    posix._exit(status if _tell(stdout, stderr) else 1)  # noqa: SLF001 - this is its name


def _tell(stdout: bytes, stderr: bytes) -> bool:
    """Print; whether the runtime can have heard it."""
    try:
        _write_all(2, stderr)
    except OSError:
        stderr = b""  # nobody listens there, which is allowed
    try:
        _write_all(1, stdout)
    except OSError:
        return False
    return True


def _take_back(name: str, stdin: bytes | None) -> None:
    """Undo an ADD of whose result the runtime, which was killed, knows nothing: its DEL may have come already."""
    _load("os").environ["CNI_COMMAND"] = "DEL"
    _alone(name, stdin)


def _read_all() -> bytes:
    """Stdin, to its end. Raises OSError."""
    parts = []
    while part := posix.read(0, 65536):
        parts.append(part)
    return b"".join(parts)


def _write_all(descriptor: int, rest: bytes) -> None:
    while rest:
        try:
            rest = rest[posix.write(descriptor, rest) :]
        except BlockingIOError:  # somebody else's descriptor is ours too, and does not want to wait
            posix.set_blocking(descriptor, True)


def _alone(name: str, stdin: bytes | None, *, half_done: bool = False) -> int:
    """Do it in this process; `stdin` is None where it has not been read."""
    status: int = _load("cni.plugin.skel").main(name, stdin, half_done=half_done)
    return status


def _load(module: str) -> "Any":
    """Import one of our own modules, and what an interpreter that was started with -S lacks for that."""
    import importlib

    if "site" not in sys.modules:
        import site

        site.main()
    return importlib.import_module(module)
