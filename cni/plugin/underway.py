"""Whether plugins are being executed for an attachment, by somebody who lives or who was killed over it.

What is executed outlives a caller that is killed, and goes on making what the runtime's DEL, which comes at once, is to
undo. So for each attachment whoever executes plugins takes a lock, which they inherit. A caller that comes to its end
gives it back itself, whatever a plugin has left running.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from cni.linux import inherited
from cni.plugin import deadline, lock
from cni.spec.errors import TryAgainLater

PATIENCE = 20.0
"""Seconds to wait for plugins that another call has executed; less where the call has less left."""


@contextlib.contextmanager
def alone(directory: str, container_id: str, ifname: str) -> Iterator[None]:
    """Be the only one who executes plugins for the attachment, as are those whom the block executes.

    Where there can be no lock, nobody has one. Raises TryAgainLater when others do not come to their end.
    """
    seconds = deadline.for_plugin("DEL", PATIENCE)
    with lock.of(directory, f"{container_id}@{ifname}") as ours:
        if not ours.wait(seconds):
            raise TryAgainLater(
                "could not call its plugins",
                f"those that an earlier call has executed are still running after {seconds:.0f} seconds:"
                f" `fuser {os.path.join(directory, lock.NAME)}` names all such, of whatever container; end them if they"
                " hang",
                id="PLX-PLUGIN-RUNNING",
            )
        with inherited.besides(ours.descriptor) if ours.descriptor is not None else contextlib.nullcontext():
            yield
