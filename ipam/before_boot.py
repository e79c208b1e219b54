"""What is certain of the time before this machine was started."""

from __future__ import annotations

import os
import time

from cni.linux import disk


def clock() -> float:
    """When the machine was started, in seconds since 1970, by the clock as it is now."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def is_of_this_machine(directory: str) -> bool:
    """Whether nobody but this machine can have the directory: it is on a file system of a kind that has one user."""
    return disk.kind(os.path.realpath(directory)) in disk.LOCAL
