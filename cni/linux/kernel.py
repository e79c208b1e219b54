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

    Raises KernelFailure, with the kernel's own reason, for an OSError or a NetlinkError, or a value that does not fit.
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
    except Exception as error:
        number = _errno(error)
        if number is None:
            raise
        raise KernelFailure(f"could not {what}", os.strerror(number), errno=number) from error


def _errno(error: Exception) -> int | None:
    """The error number of an OSError, or of pyroute2's NetlinkError (which is none, and costs 120 ms to import)."""
    number = getattr(error, "errno", None) or getattr(error, "code", None)
    return number if isinstance(number, int) and number > 0 else None
