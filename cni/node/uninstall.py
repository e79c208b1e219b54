"""Take back what was installed: the runtime uses the primary again, and every file is what it was before."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator

from cni.node import launchers
from cni.node.agent import ASIDE
from cni.node.prefix import Prefix
from cni.plugin import files, ledger, lock
from cni.plugin.ledger import Ledger, Record
from cni.spec.errors import InvalidConfiguration

log = logging.getLogger(__name__)


def uninstall(prefix: Prefix, state_dir: str, *, force: bool = False) -> bool:
    """Take back everything that is recorded; whether there was anything.

    Raises InvalidConfiguration while containers are attached, unless `force`; IOFailure.
    """
    if not prefix.is_installed:
        return False
    attached = list(find_attached(prefix, state_dir))
    if attached and not force:
        raise _refusal(attached)
    with prefix.locked():
        _remove_configuration(prefix)
        launchers.remove(prefix)
        directories = prefix.recorded("directory")
        prefix.remove_versions()
        files.remove(os.path.join(prefix.host.directory(state_dir), lock.NAME))
        for path in [*directories, *_state(state_dir)]:
            with contextlib.suppress(OSError):  # others have files there
                os.rmdir(prefix.host.directory(path))
    return True


def find_attached(prefix: Prefix, state_dir: str) -> Iterator[Record]:
    """The containers of this boot that were attached and not yet detached."""
    boot = ledger.boot_id()
    for record in Ledger(os.path.join(prefix.host.directory(state_dir), "containers")).records():
        if record.boot_id in ("", boot):
            yield record


def _remove_configuration(prefix: Prefix) -> None:
    """Ours goes first of all: from then on the runtime uses the primary."""
    for path in prefix.recorded("aside"):
        local = prefix.host.local(path)
        if os.path.lexists(local + ASIDE) and not os.path.lexists(local):
            files.change(f'restore "{path}"', os.rename, local + ASIDE, local)
    for path in prefix.recorded("conf"):
        _remove_conf(prefix, path)
    for path in prefix.recorded("file"):
        files.remove(prefix.host.local(path))


def _remove_conf(prefix: Prefix, path: str) -> None:
    """Remove the entry; what somebody has edited is renamed, because without plexus it would stop every pod."""
    local = prefix.host.local(path)
    content = files.read(local)
    if content is not None and content != files.read(prefix.local("written", path)):
        files.change(f'rename "{path}"', os.rename, local, f"{local}.uninstalled")
        log.info('renamed "%s" to "%s.uninstalled", because it was edited', path, os.path.basename(path))
    else:
        files.remove(local)


def _state(state_dir: str) -> tuple[str, ...]:
    """Our directories of state, which are empty when nothing is attached; what is not empty stays."""
    return tuple(f"{state_dir}{part}" for part in ("/containers", "/unfinished", "/network-status", ""))


def _refusal(attached: list[Record]) -> InvalidConfiguration:
    pods = sorted(record.pod or record.container_id for record in attached)
    shown = ", ".join(pods[:5]) + (f" and {len(pods) - 5} more" if len(pods) > 5 else "")
    return InvalidConfiguration(
        "could not uninstall while containers are attached",
        f"{shown}: without plexus nobody would detach them; drain the node, or use --force and clean up by hand",
        id="PLX-NODE-ATTACHED",
    )
