"""What is certain of the time before this machine was started."""

from __future__ import annotations

import time


def clock() -> float:
    """When the machine was started, in seconds since 1970, by the clock as it is now."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
