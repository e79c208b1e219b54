"""Where everything is that takes part: our code as it is now, the reference plugins, Multus, and room to work in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from comparison import columns, reference
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("cni", "ipam", "delegates")
MULTUS = "v4.3.0"
MULTUS_MODULE = "gopkg.in/k8snetworkplumbingwg/multus-cni.v4"
MULTUS_NAMES = ("multus", "multus-shim", "multus-daemon")
GO_TIMEOUT = 1800


class Unavailable(Exception):
    """A peer cannot be had; the text says why."""


@dataclass(frozen=True)
class Places:
    """Directories, and where the API is reached; "" where there is none."""

    directory: str
    alone: str
    """Launchers that no daemon serves."""
    served: str
    """Launchers of the daemon."""
    reference: str
    multus: str = ""
    kubeconfig: str = ""
    token: str = ""
    authority: str = ""

    def to_json(self) -> str:
        """For the process that does the work."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Places:
        """The opposite."""
        return cls(**json.loads(text))


def prepare(directory: Path, commit: str = "") -> Places:
    """Copy our code, which others may be changing, with launchers; find the reference. Raises Unavailable."""
    source = directory / "source"
    _copy(source, commit)
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(source)], check=True, timeout=300)
    found = reference.find(reference.NEW)
    if not found.directory:
        raise Unavailable(found.reason)
    alone, served = (_launchers(directory / name, source) for name in ("alone", "served"))
    return Places(str(directory), str(alone), str(served), str(found.directory))


def _copy(source: Path, commit: str) -> None:
    """Copy our packages, as they are in the checkout or were committed."""
    source.mkdir()
    if commit:
        git = ["git", "-C", str(ROOT), "-c", "safe.directory=*", "archive", commit, *PACKAGES]
        packed = subprocess.run(git, check=True, capture_output=True, timeout=60).stdout
        subprocess.run(["tar", "--extract", "--directory", str(source)], input=packed, check=True, timeout=60)
        return
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))


def _launchers(directory: Path, source: Path) -> Path:
    """Launchers as an installation has them, of the copy."""
    directory.mkdir()
    columns.install(directory)
    for path in directory.iterdir():
        path.write_text(path.read_text().replace(repr(str(columns.ROOT)), repr(str(source))))
    return directory


def multus() -> str:
    """The directory of Multus' executables, built once from the Go module proxy. Raises Unavailable."""
    directory = reference.cache() / f"multus-{MULTUS}"
    directory.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{directory}.lock"):
        if not directory.is_dir():
            _build(directory)
    return str(directory)


def _build(directory: Path) -> None:
    """Build in the module itself, so that what it depends on is what it pins."""
    if reason := reference.no_go():
        raise Unavailable(f"no Go toolchain to build Multus {MULTUS} with: {reason}")
    told = _go("mod", "download", "-json", f"{MULTUS_MODULE}@{MULTUS}", cwd=directory.parent)
    unfinished = directory.with_suffix(".new")
    shutil.rmtree(unfinished, ignore_errors=True)
    packages = [f"./cmd/{name}" for name in MULTUS_NAMES]
    _go("build", "-trimpath", "-o", f"{unfinished}/", *packages, cwd=Path(json.loads(told)["Dir"]))
    unfinished.rename(directory)


def _go(*words: str, cwd: Path) -> str:
    environ = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false -mod=readonly"}
    done = subprocess.run(
        ["nice", "-n", "10", "go", *words],
        cwd=cwd, env=environ, capture_output=True, text=True, check=False, timeout=GO_TIMEOUT,
    )  # fmt: skip
    if done.returncode != 0:
        raise Unavailable(f"could not build Multus {MULTUS}: {done.stderr.strip()[-500:]}")
    return done.stdout
