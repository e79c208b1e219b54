"""The door that every change to the kernel goes through, so that every refusal is told in the same words."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from cni.spec.errors import KernelFailure

P = ParamSpec("P")
T = TypeVar("T")

GONE = (errno.ENODEV, errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL, errno.ENXIO)
"""What the kernel answers when the thing to delete is not there."""
UNSENDABLE = (struct.error, OverflowError, UnicodeError)
"""What becomes of a value that no message to the kernel can hold, a number that is too large, say."""


def change(what: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Make one change: `call`, described by `what` (for example, set up link "eth0").

    Raises KernelFailure, with the kernel's own reason, for an OSError, or a value that does not fit.
    """
    return _translated(what, call, *args, **kwargs)


def ask(what: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Read something, changing nothing; failures are told as those of `change` are. Raises KernelFailure."""
    return _translated(what, call, *args, **kwargs)


def already_gone(error: KernelFailure) -> bool:
    """Whether a deletion failed because there was nothing to delete."""
    return error.errno in GONE


def _translated(what: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        return call(*args, **kwargs)
    except KernelFailure:
        raise
    except UNSENDABLE as error:
        raise KernelFailure(f"could not {what}", f"a value does not fit: {error}", errno=errno.EINVAL) from error
    except OSError as error:
        if not error.errno:
            raise
        raise KernelFailure(f"could not {what}", os.strerror(error.errno), errno=error.errno) from error
