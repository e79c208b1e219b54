"""The reference plugins: where they are, which version they are, and building the newest where there is Go."""

import functools
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

OLD, NEW = "1.1.1", "1.9.1"
PLUGINS = (
    *("main/bridge", "main/ptp", "main/loopback", "ipam/host-local", "ipam/static"),
    *("meta/tuning", "meta/portmap", "meta/bandwidth", "meta/firewall", "meta/sbr"),
)
INSTALLED = Path("/usr/lib/cni")
"""Where Debian's containernetworking-plugins puts them."""

MODULE = "github.com/containernetworking/plugins"
CNITOOL = "github.com/containernetworking/cni/cnitool@v1.3.0"
BANNER = f"-X {MODULE}/pkg/utils/buildversion.BuildVersion=v{NEW}"
OLDEST_GO = (1, 21)
"""The first that fetches the toolchain which a module asks for."""
NEWEST_SPEC = {"1.0.0": OLD, "1.1.0": NEW}
"""A version of the plugins by the newest version of the specification it knows: 1.1.1 does not tell its own."""
GO_TIMEOUT = 900


@dataclass(frozen=True)
class Reference:
    """A directory of reference plugins, or the reason why there is none."""

    version: str
    directory: Path | None
    reason: str = ""


@functools.cache
def find(version: str) -> Reference:
    """The plugins of a version: those of CNI_REFERENCE_DIR if they are of it, else installed or built ones."""
    places = [Path(given) for given in [os.environ.get("CNI_REFERENCE_DIR")] if given] + [INSTALLED]
    for directory in places:
        if _version(directory) == version and (version == OLD or _is_complete(directory)):
            return Reference(version, directory)
    if version == NEW:
        return _built()
    reason = f"no reference plugins {version} in {', '.join(map(str, places))}: install containernetworking-plugins"
    return Reference(version, None, reason)


def _version(directory: Path) -> str:
    """The version of the plugins in a directory; "" where there are none."""
    plugin = directory / "bridge"
    if not plugin.is_file():
        return ""
    environ = {"CNI_COMMAND": "VERSION"}
    answer = subprocess.run([plugin], env=environ, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    spoken = json.loads(answer.stdout)["supportedVersions"]
    return NEWEST_SPEC.get(spoken[-1], f"of CNI {spoken[-1]}")


def _built() -> Reference:
    reason = no_go()
    if reason:
        return Reference(NEW, None, f"no Go toolchain to build the reference plugins {NEW} with: {reason}")
    directory = cache() / f"reference-{NEW}"
    directory.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{directory}.lock"):
        return Reference(NEW, directory) if _is_complete(directory) else _build(directory)


def _is_complete(directory: Path) -> bool:
    """Whether everything is there that the newest version is asked for."""
    return all((directory / name).is_file() for name in ("cnitool", *map(os.path.basename, PLUGINS)))


def _build(directory: Path) -> Reference:
    packages = [f"{MODULE}/plugins/{plugin}@v{NEW}" for plugin in PLUGINS]
    unfinished = directory.with_suffix(".new")
    shutil.rmtree(unfinished, ignore_errors=True)
    environ = os.environ | {"CGO_ENABLED": "0", "GOBIN": str(unfinished), "GOFLAGS": "-buildvcs=false"}
    for command in (["-ldflags", BANNER, *packages], [CNITOOL]):
        done = subprocess.run(
            ["go", "install", *command], env=environ, capture_output=True, text=True, check=False, timeout=GO_TIMEOUT
        )
        if done.returncode != 0:
            return Reference(NEW, None, f"could not build the reference plugins {NEW}: {done.stderr.strip()[-300:]}")
    shutil.rmtree(directory, ignore_errors=True)
    unfinished.rename(directory)
    return Reference(NEW, directory)


def no_go() -> str:
    """Why there is no Go toolchain to build with; "" where there is one."""
    go = shutil.which("go")
    if not go:
        return "go is not installed"
    environ = os.environ | {"GOTOOLCHAIN": "local"}
    told = subprocess.run([go, "version"], env=environ, capture_output=True, text=True, check=False).stdout
    match = re.search(r"go(\d+)\.(\d+)", told)
    version = (int(match[1]), int(match[2])) if match else (0, 0)
    return "" if version >= OLDEST_GO else f"{told.strip() or go} is too old"


def cache() -> Path:
    """Where the tests keep what is built or fetched once."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "plexus-tests"
