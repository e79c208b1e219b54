"""What has been written must outlive a power failure: one file system is told to be."""

from __future__ import annotations

import ctypes
import os


def sync(directory: str) -> None:
    """Write everything of the directory's file system to its disk. Raises OSError.

    Unlike os.sync it does not wait for the others, of which one may be a server that is gone.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if libc.syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), directory)
    finally:
        os.close(descriptor)
