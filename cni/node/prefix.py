"""Our directory on the host: the environments, and what was changed elsewhere, so that all of it can be taken back.

It is laid out as install.sh does it: either of them can update, or take back, what the other installed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

from cni.node.host import Host
from cni.plugin import files
from cni.spec.errors import InvalidConfiguration

DEFAULT_PREFIX = "/opt/plexus"
SHEBANG_BYTES = 127
"""What older kernels take in a #! line."""
LONGEST_REST = len("#!/versions/0123456789abcdef/bin/python3 -IS")


@dataclass(frozen=True)
class Prefix:
    """The directory at the host's `path`."""

    host: Host
    path: str

    def check(self) -> None:
        """Raise InvalidConfiguration unless the kernel can execute what is below it."""
        if len(self.path.split()) != 1 or len(os.fsencode(self.path)) > SHEBANG_BYTES - LONGEST_REST:
            reason = f"the kernel takes no white space and {SHEBANG_BYTES} bytes in a #! line: choose another prefix"
            raise InvalidConfiguration(f'could not install below "{self.path}"', reason, id="PLX-NODE-PATHS")

    def local(self, *parts: str) -> str:
        """Where we see a path below it; a host's path, which begins with a slash, is one too."""
        return os.path.join(self.host.directory(self.path), *(part.lstrip("/") for part in parts))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others from installing or uninstalling; the directory is made where it is missing."""
        self.ensure_directory(self.path)
        descriptor = files.change(f'open "{self.path}"', os.open, self.local(), os.O_RDONLY | os.O_DIRECTORY)
        try:
            files.change(f'lock "{self.path}"', fcntl.flock, descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def record(self, kind: str, path: str) -> None:
        """Remember, before it is done, that `path` is ours to remove, or to restore."""
        line = f"{kind}\t{path}\n"
        known = self._record()
        if line not in known:
            files.replace(self.local("installed"), "".join([*known, line]).encode(errors="surrogateescape"), 0o644)

    def recorded(self, kind: str) -> list[str]:
        """The host's paths of that kind, the newest first."""
        found = (line.rstrip("\n").partition("\t") for line in reversed(self._record()))
        return [path for recorded, _, path in found if recorded == kind]

    @property
    def is_installed(self) -> bool:
        """Whether anything is recorded."""
        return os.path.exists(self.local("installed"))

    def ensure_directory(self, path: str, mode: int = 0o755) -> None:
        """Make the host's directory `path`; what is made is ours to remove."""
        missing = []
        while not os.path.isdir(self.host.directory(path)):
            missing.append(path)
            path = os.path.dirname(path)
        for made in reversed(missing):
            files.ensure_directory(self.host.directory(made), mode if made == missing[0] else 0o755)
        for made in reversed(missing):
            self.record("directory", made)

    def keep(self, path: str) -> None:
        """Keep a copy of somebody else's file, which is about to be replaced."""
        kept = self.local("replaced", path)
        files.ensure_directory(os.path.dirname(kept), 0o755)
        files.change(f'keep "{path}"', _copy, self.host.local(path), kept)

    def restore(self, path: str) -> bool:
        """Put back what was kept of `path`, if there is anything; whether there was."""
        kept = self.local("replaced", path)
        if os.path.lexists(kept):
            files.change(f'restore "{path}"', _copy, kept, self.host.local(path))
            return True
        return False

    def _record(self) -> list[str]:
        content = files.read(self.local("installed")) or b""
        return content.decode(errors="surrogateescape").splitlines(keepends=True)

    def remove_versions(self) -> None:
        """Remove the environments, what was kept, and the record."""
        for name in ("versions", "current", ".current.tmp", "replaced", "written", "installed"):
            _remove(self.local(name))


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        files.change(f'remove "{path}"', shutil.rmtree, path)
    else:
        files.remove(path)


def _copy(source: str, target: str) -> None:
    """Copy a file or a link with its owner, mode and times; whoever executes the old target keeps it."""
    temporary = os.path.join(os.path.dirname(target), f".{os.path.basename(target)}.tmp")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    status = os.lstat(source)
    try:
        shutil.copyfile(source, temporary, follow_symlinks=False)
        os.chown(temporary, status.st_uid, status.st_gid, follow_symlinks=False)
        shutil.copystat(source, temporary, follow_symlinks=False)
        os.rename(temporary, target)
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
