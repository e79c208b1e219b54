"""The bundle as the image has it, assembled once for each state of the sources; and a host that has nothing else."""

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import filelock
import pytest
from throwaway import Host

ROOT = Path(__file__).resolve().parents[2]
ASSEMBLE = ROOT / "deploy" / "image" / "assemble.sh"
PYTHON = Path("/usr/bin/python3")
"""The distribution's, which knows its own libraries."""
TOOLS = ("patchelf", "ldd", "busybox")
KEPT = 2
"""Bundles that stay in the cache."""
ENTER = """
for name in proc dev sys run; do mount --rbind /$name "$0/$name"; done && exec chroot "$0" "$@"
"""


def ensure() -> Path:
    """The bundle, assembled where it is missing, which takes some 20 seconds."""
    missing = [tool for tool in TOOLS if not shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")]
    if missing or not PYTHON.exists():
        pytest.skip(f"missing tools: {', '.join(missing or [str(PYTHON)])}")
    cache = cache_directory("bundle")
    with filelock.FileLock(cache / "lock"):
        target = cache / key()
        complete = target.with_suffix(".complete")
        if not complete.exists():
            done = subprocess.run([ASSEMBLE, target, PYTHON], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            complete.touch()
        complete.touch()
        _forget_older(cache)
    return target


def cache_directory(name: str) -> Path:
    """A directory that outlives the test run."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "plexus-tests" / name
    cache.mkdir(parents=True, exist_ok=True)
    return cache


def sources() -> list[Path]:
    """Every file that the bundle is made of."""
    modules = [path for name in ("cni", "delegates", "ipam") for path in (ROOT / name).rglob("*.py")]
    return sorted([*modules, ASSEMBLE, ROOT / "pyproject.toml", ROOT / "constraints.txt"])


def key() -> str:
    content = hashlib.sha256(subprocess.run([PYTHON, "-VV"], capture_output=True, check=True).stdout)
    for path in sources():
        content.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return content.hexdigest()[:16]


def _forget_older(cache: Path) -> None:
    complete = sorted(cache.glob("*.complete"), key=lambda path: path.stat().st_mtime)
    for path in complete[:-KEPT]:
        shutil.rmtree(path.with_suffix(""), ignore_errors=True)
        path.unlink()


@dataclass(frozen=True)
class BareHost:
    """A root file system with one program in it, which needs no library, on a host with a network of its own."""

    host: Host
    root: Path
    bundle: Path

    @property
    def conf_dir(self) -> Path:
        return self.root / "etc/cni/net.d"

    @property
    def bin_dir(self) -> Path:
        return self.root / "opt/cni/bin"

    @property
    def entry(self) -> Path:
        return self.conf_dir / "00-plexus.conflist"

    def node(self, *words: str, bundle: Path | None = None) -> list[str]:
        """The command line of the node agent, which sees the host's root as a container does."""
        python = (bundle or self.bundle) / "bin" / "python3"
        return [str(python), "-I", "-m", "cni.cli", "node", *words, "--host-root", str(self.root)]

    def run_node(self, *words: str, bundle: Path | None = None) -> str:
        done = subprocess.run(self.node(*words, bundle=bundle), env={}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def launch(self, name: str, stdin: str = "", *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Execute a launcher as the runtime of this host would."""
        inside = ["unshare", "--mount", "sh", "-c", ENTER, str(self.root)]
        return self.host.call(*inside, f"/opt/cni/bin/{name}", *words, stdin=stdin, environ=environ)


def make_root(root: Path) -> Path:
    """Lay out a host that has busybox, and the directories that every runtime's host has."""
    for name in ("bin", "dev", "etc/cni/net.d", "opt/cni/bin", "proc", "run", "sys", "var/lib"):
        (root / name).mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "", root / "bin" / "busybox")
    return root
