"""Launchers: the small scripts in the runtime's directory of plugins that start an environment below our prefix."""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import dataclass

from cni.node import bundle, launcher
from cni.node.prefix import DEFAULT_PREFIX, Prefix
from cni.plugin import files, invoke

log = logging.getLogger(__name__)

SHARED = tuple(name for name in invoke.BUILT_IN if name != "ptp")
"""Names that other vendors' plugins have too."""
OWN = ("plexus", *(f"plexus-{name}" for name in SHARED))
MULTUS = ("multus",)
"""The meta plugin's name where it takes the place of Multus."""


@dataclass(frozen=True)
class Launchers:
    """Those of one version of the environment, in the host's directory of plugins."""

    prefix: Prefix
    bin_dir: str
    version: str
    packages: str
    """Where the environment's packages are, below it."""

    @property
    def can_run(self) -> bool:
        """Whether the environment that they start is there."""
        return bundle.is_complete(self.prefix.local("versions", self.version))

    def place(self, *, replace: bool = False, as_multus: bool = False) -> None:
        """Put every launcher there, but of the shared names only those that are free, unless `replace`.

        What an earlier call placed is brought up to date too. Raises IOFailure.
        """
        for name in OWN + (MULTUS if as_multus else ()):
            self._place(f"{self.bin_dir}/{name}")
        for name in SHARED:
            path = f"{self.bin_dir}/{name}"
            if replace or not self._is_others(path):
                self._place(path)
            else:
                log.info('kept "%s", which is another vendor\'s', path)
        if replace:
            self._place(f"{self.bin_dir}/ptp")
        for path in self.prefix.recorded("launcher"):
            if is_ours(self.prefix, path):
                self._write(path)

    def place_missing(self) -> None:
        """Put back what somebody has removed, as an upgrade of a distribution does. Raises IOFailure."""
        for path in self.prefix.recorded("launcher"):
            if os.path.dirname(path) == self.bin_dir and not os.path.lexists(self.prefix.host.local(path)):
                log.warning('put back "%s", which was gone', path)
                self._write(path)

    def _place(self, path: str) -> None:
        if self._is_others(path):
            self.prefix.keep(path)
            log.info('replaced "%s", which was another vendor\'s; uninstalling brings it back', path)
        self.prefix.record("launcher", path)
        self._write(path)

    def _write(self, path: str) -> None:
        text = script(self.prefix.path, self.version, self.packages, os.path.basename(path))
        local = self.prefix.host.local(path)
        if not os.path.isfile(local) or files.read(local) != text:
            files.replace(local, text, 0o755)

    def _is_others(self, path: str) -> bool:
        return os.path.lexists(self.prefix.host.local(path)) and not is_ours(self.prefix, path)


def script(prefix: str, version: str, packages: str, name: str) -> bytes:
    """What the launcher `name` consists of, where the environment has its packages in `packages`."""
    home = f"{prefix}/versions/{version}"
    return (
        f"#!{home}/bin/python3 -IS\n"
        "# A launcher of plexus, written by its installer.\n"
        f'import sys\n\nsys.path.insert(0, "{home}/{packages}")\n'
        f'from cni.node.launcher import main\n\nraise SystemExit(main("{name}", "{socket(prefix)}"))\n'
    ).encode()


def socket(prefix: str) -> str:
    """Where the daemon of the installation listens."""
    if prefix == DEFAULT_PREFIX:
        return launcher.SOCKET
    return f"/run/plexus/{hashlib.sha256(os.fsencode(prefix)).hexdigest()[:16]}.sock"


def is_ours(prefix: Prefix, path: str) -> bool:
    """Whether the file starts an environment below the prefix."""
    local = prefix.host.local(path)
    if not os.path.isfile(local):
        return False
    with files.change(f'read "{path}"', open, local, "rb") as file:
        return file.readline(300).startswith(f"#!{prefix.path}/versions/".encode())


def remove(prefix: Prefix) -> None:
    """Put back what was there before the launchers, or nothing. Raises IOFailure."""
    for path in prefix.recorded("launcher"):
        if os.path.lexists(prefix.host.local(path)) and not is_ours(prefix, path):
            log.info('left "%s", which another vendor has installed since', path)
        elif not prefix.restore(path):
            files.remove(prefix.host.local(path))
