"""What a thread may have of its own."""

from __future__ import annotations

import ctypes
import os

from cni.spec.errors import CNIError

CLONE_FS = 0x00000200


def own_directory() -> None:
    """Give the calling thread, and those it starts, a working directory and a umask of their own. Raises CNIError."""
    # os.unshare is new in Python 3.12
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_FS) != 0:
        raise CNIError("could not give a thread its own working directory", os.strerror(ctypes.get_errno()))
