"""Rules that nobody remembers and nothing can need: those that check what comes from an interface that is gone."""

from __future__ import annotations

import logging
import socket

from cni.linux import nft
from cni.linux.nft import Change
from cni.spec.errors import CNIError
from delegates import spoofcheck
from delegates.spoofcheck import Stray

log = logging.getLogger(__name__)


def find() -> list[Stray]:
    """All of them; none where the kernel does not tell."""
    try:
        return _find()
    except CNIError as error:
        log.warning("rules without an interface are not looked for: %s", error)
        return []


def remove(identity: str) -> bool:
    """Remove that attachment's, if its interface still is gone; whether it was there. Raises KernelFailure."""
    planned: list[Change] = []

    def plan() -> list[Change]:
        planned[:] = [change for stray in _find() if stray.identity == identity for change in stray.removal]
        return planned

    nft.apply(f'remove the nftables rules of "{identity}"', plan)
    return bool(planned)


def _find() -> list[Stray]:
    rules = nft.rules(spoofcheck.PREROUTING, about=spoofcheck.COMMENT)
    # After the rules: an interface is there before them.
    return spoofcheck.strays(rules, {name for _, name in socket.if_nameindex()})
