"""The image as the Containerfile makes it: by buildah, from a Debian that debootstrap made once, without a registry."""

import hashlib
import os
import shutil
import subprocess
import tempfile
import tomllib
from pathlib import Path

import bundled
import filelock
import pytest
from bundled import PYTHON, ROOT

CONTAINERFILE = ROOT / "deploy" / "image" / "Containerfile"
PACKAGES = "python3-venv,patchelf,ca-certificates"
"""What the Containerfile would install by apt-get, had the base not got it already."""
BASE = "localhost/debian"
IMAGE = "localhost/plexus"
TOOLS = ("buildah", "debootstrap", "apt-get", "tar")
PIP = "[global]\nno-index = true\nfind-links = /wheels\n"


def build(storage: list[str], scratch: Path) -> None:
    """Build IMAGE in a storage of the test's, which takes half a minute, and minutes where nothing is cached."""
    missing = [tool for tool in TOOLS if not shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")]
    if missing:
        pytest.skip(f"missing tools: {', '.join(missing)}")
    cache = bundled.cache_directory("image")
    with filelock.FileLock(cache / "lock"):
        base, wheels = _base(cache), _wheels(cache)
    (scratch / "pip.conf").write_text(PIP)
    (scratch / "Containerfile").write_text("FROM scratch\nADD base.tar /\n")
    common = [*storage, "build", "--isolation", "chroot", "--pull-never"]
    _run("buildah", *common, "--tag", BASE, "--file", str(scratch / "Containerfile"), str(base.parent))
    mounts = [f"--volume={wheels}:/wheels:ro", f"--volume={scratch / 'pip.conf'}:/etc/pip.conf:ro"]
    _run(
        "buildah", *common, *mounts, f"--build-arg=BASE={BASE}", "--tag", IMAGE, "--file", str(CONTAINERFILE), str(ROOT)
    )


def _base(cache: Path) -> Path:
    """Debian's files, in a directory of their own with nothing else in it."""
    suite = _suite()
    directory = cache / f"{suite}-{hashlib.sha256(PACKAGES.encode()).hexdigest()[:8]}"
    if not directory.exists():
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            root, made = Path(scratch, "root"), Path(scratch, "made")
            _run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", suite, str(root), _mirror())
            made.mkdir()
            _run("tar", "-C", str(root), "--exclude=./var/cache/apt/archives/*", "-cf", str(made / "base.tar"), ".")
            made.rename(directory)
    return directory / "base.tar"


def _wheels(cache: Path) -> Path:
    """The packages that pip is to find in there."""
    constraints = ROOT / "constraints.txt"
    pinned = constraints.read_bytes() + (ROOT / "pyproject.toml").read_bytes()
    directory = cache / f"wheels-{hashlib.sha256(pinned).hexdigest()[:8]}"
    if not directory.exists():
        for older in cache.glob("wheels-*"):
            shutil.rmtree(older)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            _run(str(PYTHON), "-I", "-m", "venv", f"{scratch}/venv")
            wanted = ["--only-binary", ":all:", "--constraint", str(constraints), *_dependencies()]
            pip = [f"{scratch}/venv/bin/python3", "-I", "-m", "pip", "--quiet", "--disable-pip-version-check"]
            _run(*pip, "download", "--dest", f"{scratch}/wheels", *wanted)
            Path(scratch, "wheels").rename(directory)
    return directory


def _dependencies() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return list(project["dependencies"])


def _suite() -> str:
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    return release.get("VERSION_CODENAME", "bookworm").strip('"')


def _mirror() -> str:
    """Where apt fetches this distribution's packages from."""
    sites = _run("apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages").split()
    if not sites:
        pytest.skip("apt knows no place to fetch packages from")
    return sites[0]


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout
