"""Kubernetes' executables: those of PLEXUS_KUBE_BIN, else built once from the Go module proxy into a cache directory.

`kube/go.mod` pins them: it requires k8s.io/kubernetes, and gives each of its staging modules the version that belongs
to it.
"""

import os
import shutil
import subprocess
from pathlib import Path

import filelock
from comparison import reference

MODULE = Path(__file__).resolve().parent / "kube"
NAMES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl")
VERSION_PACKAGES = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
"""Where they keep their own version, without which they refuse to work together."""
BUILD_TIMEOUT = 3600


class Unavailable(Exception):
    """There can be no cluster here; the text says why."""


def find() -> Path:
    """The directory that has them all; building them takes two processors some 5 minutes. Raises Unavailable."""
    given = os.environ.get("PLEXUS_KUBE_BIN")
    if given:
        missing = [name for name in NAMES if not os.access(Path(given, name), os.X_OK)]
        if missing:
            raise Unavailable(f"PLEXUS_KUBE_BIN={given} lacks {', '.join(missing)}")
        return Path(given)
    directory = reference.cache() / f"kubernetes-{version()}"
    directory.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{directory}.lock"):
        return directory if directory.is_dir() else _build(directory)


def version() -> str:
    """The version that is pinned, such as 1.36.3."""
    required = next(line for line in (MODULE / "go.mod").read_text().splitlines() if line.startswith("require k8s.io/"))
    return required.split()[-1].removeprefix("v")


def _build(directory: Path) -> Path:
    reason = reference.no_go()
    if reason:
        raise Unavailable(f"no Go toolchain to build Kubernetes {version()} with: {reason}")
    unfinished = directory.with_suffix(".new")
    shutil.rmtree(unfinished, ignore_errors=True)
    major, minor, _ = version().split(".")
    told = {"gitVersion": f"v{version()}", "gitMajor": major, "gitMinor": minor}
    flags = [f"-X {package}.{key}={value}" for package in VERSION_PACKAGES for key, value in told.items()]
    command = ["go", "build", "-trimpath", "-buildvcs=false", "-ldflags", " ".join(["-s -w", *flags])]
    done = subprocess.run(
        [*command, "-o", f"{unfinished}/", *(f"k8s.io/kubernetes/cmd/{name}" for name in NAMES)],
        cwd=MODULE,
        env=os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"},
        capture_output=True,
        text=True,
        check=False,
        timeout=BUILD_TIMEOUT,
    )
    if done.returncode != 0:
        raise Unavailable(f"could not build Kubernetes {version()}: {done.stderr.strip()[-500:]}")
    unfinished.rename(directory)
    return directory
