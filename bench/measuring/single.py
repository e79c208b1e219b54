"""One executable called for one container at a time: who takes part in that, and a turn of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measuring.call import Attachment, call
from measuring.daemons import Daemon
from measuring.places import Places

SERVED, ALONE, REFERENCE = "ours, daemon", "ours, no daemon", "reference"


@dataclass(frozen=True)
class Contender:
    """A plugin with its configuration, which may have work done by a daemon."""

    name: str
    plugin: Path
    conf: Mapping[str, Any]
    daemon: Daemon | None = None

    def attach(self, attachment: Attachment) -> dict[str, float]:
        """ADD and DEL, and what they took."""
        before = self.daemon.processor() if self.daemon else 0.0
        add = call(self.plugin, "ADD", attachment, self.conf)
        delete = call(self.plugin, "DEL", attachment, self.conf)
        served = self.daemon.processor() - before if self.daemon else 0.0
        return {
            "ADD": add.seconds,
            "DEL": delete.seconds,
            "ADD+DEL": add.seconds + delete.seconds,
            "processor": add.processor + delete.processor + served,
        }

    def turn(self, sandbox: str, offset: int = 0) -> Callable[[int], dict[str, float]]:
        """What it does in a round: a container of its own."""
        return lambda number: self.attach(Attachment(f"{offset + number:064x}", sandbox))


def contenders(
    places: Places, plugin: str, daemon: Daemon, conf: Callable[[str], Mapping[str, Any]]
) -> list[Contender]:
    """Ours with the daemon and without, and the reference; `conf` tells each one's configuration by a short name."""
    return [
        Contender(SERVED, Path(places.served, plugin), conf("od"), daemon),
        Contender(ALONE, Path(places.alone, plugin), conf("oa")),
        Contender(REFERENCE, Path(places.reference, plugin), conf("rf")),
    ]
