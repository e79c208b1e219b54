"""An installation with two versions of plexus, and ways to change from one to the other, also ones that are killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from installation import ROOT, Machine, next_version

from cni.node import launchers

COMMANDS = ("chmod", "cp", "ln", "mkdir", "mv", "rm", "sync")
"""What install.sh changes files with."""
COUNTING = """\
#!/bin/sh
# Counts, and kills the installer with all of its processes where the count is what it is to be.
echo "{name} $*" >>{counted}
[ $(wc -l <{counted}) -ne "$KILL_AT" ] || kill -9 0
exec {program} "$@"
"""
BY_AGENT = """\
import os, signal, sys
sys.path.insert(0, sys.argv[1])
source, prefix, bin_dir, kill_at = sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5])
from cni.node import install
from cni.node.host import Host
from cni.node.prefix import Prefix
counted = 0


def counting(call):
    def counted_call(*args, **kwargs):
        global counted
        counted += 1
        if counted == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **kwargs)

    return counted_call


for name in ("chmod", "fsync", "link", "mkdir", "open", "rename", "symlink", "unlink", "write"):
    setattr(os, name, counting(getattr(os, name)))
install.install(source, Prefix(Host(), prefix), bin_dir)
"""


@dataclass(frozen=True)
class Version:
    """One of the two: where its sources are, and what it is called."""

    machine: Machine
    name: str
    conf: bytes
    """The configuration that it would have the runtime use."""

    @property
    def source(self) -> Path:
        """What the node agent would take for its image: the environment is there already."""
        return self.machine.root / "images" / self.name


@dataclass(frozen=True)
class Installation:
    """A machine's root with both versions in its prefix; `first` is what it has at first."""

    machine: Machine
    versions: tuple[Version, Version]

    @property
    def bin_dir(self) -> Path:
        return self.machine.bin_dir

    @property
    def current(self) -> str:
        return os.readlink(self.machine.prefix / "current").rpartition("/")[2]

    def have(self, version: Version) -> None:
        """Have install.sh make this the version."""
        version.machine.install("--conf-dir", str(self.machine.conf_dir))

    def have_by_agent(self, version: Version, kill_at: int = 0) -> int:
        """Have the node agent's installer make it, or die on the way; the exit status."""
        words = [str(ROOT), str(version.source), str(self.machine.prefix), str(self.bin_dir), str(kill_at)]
        command = [sys.executable, "-I", "-c", BY_AGENT, *words]
        return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode

    def begin(self, version: Version, kill_at: int) -> int:
        """Have install.sh make it, and die before the change to a file with this number; the exit status."""
        wrappers = self.machine.root / "wrappers"
        counted = self.machine.root / "counted"
        counted.write_text("")
        wrappers.mkdir(exist_ok=True)
        for name in COMMANDS:
            text = COUNTING.format(name=name, counted=counted, program=shutil.which(name))
            (wrappers / name).write_text(text)
            (wrappers / name).chmod(0o755)
        script = version.machine.sources / "install.sh"
        machine = version.machine
        paths = [
            "--prefix",
            str(machine.prefix),
            "--bin-dir",
            str(machine.bin_dir),
            "--conf-dir",
            str(machine.conf_dir),
        ]
        environ = dict(os.environ) | {"PATH": f"{wrappers}:{os.environ['PATH']}", "KILL_AT": str(kill_at)}
        process = subprocess.Popen(
            [str(script), *paths],
            env=environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        return process.wait(60)

    def changes(self) -> int:
        """How many changes the last `begin` made, or was killed before."""
        return len((self.machine.root / "counted").read_text().splitlines())

    def kills(self) -> Iterator[tuple[str, Callable[[Version, int], int]]]:
        yield "install.sh", self.begin
        yield "the agent", self.have_by_agent

    def check(self) -> None:
        """Raise AssertionError unless every file is one version's, whole."""
        texts = {path.name: path.read_text() for path in self.bin_dir.iterdir() if not path.name.startswith(".")}
        assert len(texts) >= 11
        for name, text in texts.items():
            whose = [version.name for version in self.versions if f"/versions/{version.name}/bin/python3 -IS" in text]
            assert len(whose) == 1, text
            assert text.endswith(f'raise SystemExit(main("{name}", "{self.socket}"))\n'), text
        assert self.current in {version.name for version in self.versions}
        conf = self.machine.conf
        assert conf.read_bytes() in {version.conf for version in self.versions}

    @property
    def socket(self) -> str:
        """Where its daemon listens."""
        return launchers.socket(str(self.machine.prefix))


KILLED = -signal.SIGKILL


def installation(root: Path, prefix: Path, sources: Path) -> Installation:
    """Both versions below a prefix of their own; the environment of `prefix` is copied, and the first is installed."""
    sources_of_both = (sources, next_version(sources, root / "next"))
    edited = sources_of_both[1] / "conf-examples" / "10-plexus.conflist"
    edited.write_text(edited.read_text().replace('"cniVersion"', ' "cniVersion"', 1))
    made = []
    for tree in sources_of_both:
        machine = Machine(root, root / "opt/plexus", tree)
        name = version_id(tree)
        home = machine.prefix / "versions" / name
        home.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-al", str((prefix / "current").resolve()), str(home)], check=True)
        _make_own(home, prefix, machine.prefix, tree)
        conf = (tree / "conf-examples" / "10-plexus.conflist").read_bytes()
        made.append(Version(machine, name, conf))
        _make_image(made[-1], home)
    found = Installation(made[0].machine, (made[0], made[1]))
    (found.machine.prefix / "current").symlink_to(f"versions/{made[1].name}")  # the one before is kept
    found.have(made[0])
    return found


def version_id(sources: Path) -> str:
    """What install.sh calls the version of these sources."""
    script = 'source "$1"; python=$(find_python); version_id'
    return subprocess.run(
        ["bash", "-c", script, "bash", str(sources / "install.sh")], check=True, capture_output=True, text=True
    ).stdout.strip()


def _make_own(home: Path, old: Path, new: Path, sources: Path) -> None:
    """Have what names its own place, or is another in this version, not be shared with where it was copied from."""
    command = home / "bin" / "plexus"
    text = command.read_text().replace(str((old / "current").resolve()), str(home))
    text = text.replace(str(old), str(new)).replace(launchers.socket(str(old)), launchers.socket(str(new)))
    package = next(home.glob("lib/python3*/site-packages/cni/__init__.py"))
    for path, content in ((command, text), (package, (sources / "cni/__init__.py").read_text())):
        mode = path.stat().st_mode
        path.unlink()
        path.write_text(content)
        path.chmod(mode)


def _make_image(version: Version, home: Path) -> None:
    version.source.mkdir(parents=True)
    (version.source / "version").write_text(version.name)
    packages = next(home.glob("lib/python3*/site-packages")).relative_to(home)
    (version.source / "packages").write_text(str(packages))
