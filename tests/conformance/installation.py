"""install.sh on a directory that stands for the root of a machine, and what a test run builds once."""

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("cni", "ipam", "delegates", "conf-examples", "pyproject.toml", "constraints.txt", "install.sh")
THEIRS = b"#!/bin/sh\necho another vendor\n"
OLD = 10**18
"""A time of modification, in nanoseconds, that nothing written now has."""


@dataclass(frozen=True)
class Machine:
    """A directory that stands for the machine's root; `prefix` may be another's, so that it is built only once."""

    root: Path
    prefix: Path
    sources: Path
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def bin_dir(self) -> Path:
        return self.root / "opt/cni/bin"

    @property
    def conf_dir(self) -> Path:
        return self.root / "etc/cni/net.d"

    @property
    def conf(self) -> Path:
        return self.conf_dir / "10-plexus.conflist"

    def run(self, *options: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        script = str(self.sources / "install.sh")
        paths = ("--prefix", str(self.prefix), "--bin-dir", str(self.bin_dir))
        environ = dict(os.environ) | self.environ
        command = [*before, script, *paths, *options]
        return subprocess.run(command, env=environ, cwd=self.root, capture_output=True, text=True, check=False)

    def install(self, *options: str) -> str:
        process = self.run(*options)
        assert process.returncode == 0, process.stdout + process.stderr
        return process.stdout

    def launchers(self) -> set[str]:
        """The names in the directory of plugins that are ours."""
        shebang = f"#!{self.prefix}/versions/".encode()
        return {path.name for path in self.bin_dir.iterdir() if path.read_bytes().startswith(shebang)}

    def launch(self, name: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[bytes]:
        command = [str(self.bin_dir / name), *arguments]
        environ = {"PATH": os.environ["PATH"]} | environ
        return subprocess.run(command, env=environ, cwd=self.root, input=b"", capture_output=True, check=False)

    def put_theirs(self, name: str) -> Path:
        self.bin_dir.mkdir(parents=True, exist_ok=True)
        path = self.bin_dir / name
        path.write_bytes(THEIRS)
        path.chmod(0o750)
        os.utime(path, ns=(OLD, OLD))
        return path


def shared_directory(factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A directory that the processes of a test run share."""
    own = factory.getbasetemp()
    path = (own if worker_id == "master" else own.parent) / "install"
    path.mkdir(exist_ok=True)
    return path


def ensure_sources(shared: Path) -> Path:
    """A copy of the sources, which nobody edits while the tests run."""
    root = shared / "sources"
    with FileLock(shared / "lock"):
        if not root.exists():
            root.mkdir()
            for name in SOURCES:
                copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
                copy(ROOT / name, root / name)
    return root


def ensure_prefix(shared: Path) -> Path:
    """Where an environment is built, which takes seconds: one for all tests."""
    machine = Machine(shared, shared / "opt/plexus", ensure_sources(shared))
    with FileLock(shared / "lock"):
        machine.install()
    return machine.prefix


def next_version(sources: Path, root: Path) -> Path:
    """The sources of another version."""
    shutil.copytree(sources, root)
    with (root / "cni/__init__.py").open("a") as file:
        file.write("# the next version\n")
    return root
