"""Who answers: our plugins in this process, our plugins as the executables that are installed, or the reference's."""

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest import mock

from node_daemon import Nursery

from cni.cli import command
from cni.linux import netns
from cni.plugin import invoke, skel

from . import reference
from .stage import HOST, Stage

ROOT = Path(__file__).resolve().parents[3]
OURS, EXECUTED, DAEMON = "ours", "ours, executed", "ours, by the daemon"
AGAIN = (EXECUTED, DAEMON)
"""Ours in other ways, which all must be the same."""
REFERENCES = (reference.OLD, reference.NEW)
LAUNCHER = """\
#!{python} -IS
import sys

sys.path.insert(0, {root!r})
{before}from cni.node.launcher import main

raise SystemExit(main({name!r}, {socket!r}))
"""
DEPENDENT = """\
from cni.node import launcher

launcher.GRACE = 60


def go_on(name, verb, stdin, why):
    sys.exit(f"the daemon has not answered: {why}")


launcher._go_on = go_on
"""
"""Makes launchers that do not work alone: what these tests are about is the daemon."""
PRIVATE_CACHE = """
mount -t tmpfs tmpfs /var/lib && mkdir /var/lib/cni && mount --bind "$0" /var/lib/cni && exec "$@"
"""
"""cnitool always remembers results below /var/lib/cni."""


@dataclass(frozen=True)
class Answer:
    """What a call gave back."""

    rc: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Column:
    """Plugins of one make, in a directory of executables."""

    name: str
    directory: Path

    @property
    def path(self) -> str:
        """CNI_PATH."""
        return str(self.directory)

    def ready(self, stage: Stage) -> AbstractContextManager[None]:  # noqa: ARG002
        """Have what the plugins need on a stage, for the block."""
        return contextlib.nullcontext()

    def close(self) -> None:
        """Be at the end."""

    def call(self, plugin: str, stage: Stage, environ: Mapping[str, str], stdin: bytes) -> Answer:
        """Call a plugin as a runtime does."""
        return _run([*_enter(stage), str(self.directory / plugin)], environ, stdin)

    def runtime(self, stage: Stage, environ: Mapping[str, str], arguments: list[str], cache: Path) -> Answer:
        """Have the command that plays the runtime, cnitool or ours, serve a command line."""
        if self.name in REFERENCES:
            tool = ["unshare", "--mount", "sh", "-ec", PRIVATE_CACHE, str(cache), str(self.directory / "cnitool")]
            return _run([*_enter(stage), *tool, *arguments], environ, b"")
        tool = [str(self.directory / "plexus"), *arguments, "--cache-dir", str(cache)]
        return _run([*_enter(stage), *tool], environ, b"")


class InProcess(Column):
    """Ours without the half second that starting Python and importing takes."""

    def call(self, plugin: str, stage: Stage, environ: Mapping[str, str], stdin: bytes) -> Answer:
        stdout, stderr = io.StringIO(), io.StringIO()
        rc = _inside(stage, partial(skel.run, plugin, environ, io.BytesIO(stdin), stdout, stderr))
        return Answer(rc, stdout.getvalue(), stderr.getvalue())

    def runtime(self, stage: Stage, environ: Mapping[str, str], arguments: list[str], cache: Path) -> Answer:
        stdout, stderr = io.StringIO(), io.StringIO()
        serve = partial(command.main, [*arguments, "--cache-dir", str(cache)])
        with (
            mock.patch.dict(os.environ, environ),
            contextlib.redirect_stdout(stdout),
            contextlib.redirect_stderr(stderr),
        ):
            rc = _inside(stage, serve)
        return Answer(rc, stdout.getvalue(), stderr.getvalue())


@dataclass(frozen=True)
class ByDaemon(Column):
    """Ours as launchers that leave all of the work to a daemon on the same host."""

    nursery: Nursery

    def ready(self, stage: Stage) -> AbstractContextManager[None]:
        netns = stage.netns(HOST) if stage.has_kernel else ""
        return self.nursery.daemon(self.directory / "plexus.sock", netns)

    def close(self) -> None:
        self.nursery.close()


def install(directory: Path, before: str = "", *, called: str = "") -> Path:
    """Put launchers of ours, as install.sh does, into a directory, which may be `called` otherwise where they run."""
    for name in (*invoke.BUILT_IN, "plexus"):
        path = directory / name
        socket = f"{called or directory}/plexus.sock"
        text = LAUNCHER.format(python=sys.executable, root=str(ROOT), name=name, socket=socket, before=before)
        path.write_text(text)
        path.chmod(0o755)
    return directory


def present(directory: Path) -> dict[str, Column]:
    """Who is there to answer, by name; `directory` is for what they need."""
    nothing, launchers, dependent = directory / "nothing", directory / "launchers", directory / "dependent"
    for path in (nothing, launchers, dependent):
        path.mkdir()
    found: dict[str, Column] = {OURS: InProcess(OURS, nothing), EXECUTED: Column(EXECUTED, install(launchers))}
    if os.geteuid() == 0:
        found[DAEMON] = ByDaemon(DAEMON, install(dependent, DEPENDENT), Nursery(directory))
    for version in REFERENCES:
        plugins = reference.find(version)
        if plugins.directory:
            found[version] = Column(version, plugins.directory)
    return found


def _inside(stage: Stage, work: "partial[int]") -> int:
    return netns.run_inside(stage.netns(HOST), work) if stage.has_kernel else work()


def _enter(stage: Stage) -> list[str]:
    return stage.enter(HOST)


def _run(words: list[str], environ: Mapping[str, str], stdin: bytes) -> Answer:
    done = subprocess.run(words, input=stdin, env=dict(environ), capture_output=True, check=False, timeout=60)
    return Answer(done.returncode, done.stdout.decode(), done.stderr.decode())
