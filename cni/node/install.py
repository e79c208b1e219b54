"""Install the bundle that we run from: its copy below the host's prefix, and launchers that start it."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil

from cni.node import bundle, launchers
from cni.node.launchers import Launchers
from cni.node.prefix import Prefix
from cni.plugin import files

log = logging.getLogger(__name__)


def install(source: str, prefix: Prefix, bin_dir: str, *, replace: bool = False, as_multus: bool = False) -> Launchers:
    """Bring the host up to date with the bundle `source`; what is right already stays untouched.

    It may happen while launchers run: they keep the environment they began with. Raises IOFailure,
    InvalidConfiguration.
    """
    prefix.check()
    with prefix.locked():
        version = _ensure_version(source, prefix)
        prefix.ensure_directory(bin_dir)
        placed = Launchers(prefix, bin_dir, version, bundle.packages(source))
        placed.place(replace=replace, as_multus=as_multus)
        _switch(prefix, version)
    return placed


def _ensure_version(source: str, prefix: Prefix) -> str:
    version = bundle.version(source)
    target = prefix.local("versions", version)
    if not bundle.is_complete(target):
        files.ensure_directory(prefix.local("versions"), 0o755)
        command = launchers.script(prefix.path, version, bundle.packages(source), "plexus")
        bundle.install(source, target, f"{prefix.path}/versions/{version}", command)
        log.info('installed version %s below "%s"', version, prefix.path)
    return version


def _switch(prefix: Prefix, version: str) -> None:
    """Name the current version; the one before stays, because a launcher may be running from it."""
    link = prefix.local("current")
    previous = os.readlink(link) if os.path.islink(link) else ""
    current = f"versions/{version}"
    if previous == current:
        return
    files.change(f'write "{link}"', _replace_link, link, current)
    kept = {os.path.basename(current), os.path.basename(previous)}
    for name in set(os.listdir(prefix.local("versions"))) - kept:
        files.change(f'remove version "{name}"', shutil.rmtree, prefix.local("versions", name))


def _replace_link(link: str, target: str) -> None:
    # The same name each time: what one that was killed has left is in nobody's way, and goes.
    temporary = os.path.join(os.path.dirname(link), f".{os.path.basename(link)}.tmp")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    os.symlink(target, temporary)
    os.rename(temporary, link)
