"""passthru: a plugin that makes nothing and passes on what was made, so that a chain can begin with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cni.spec.request import Request

if TYPE_CHECKING:
    from cni.spec.result import Result


def add(request: Request) -> Result:
    """Answer with prevResult, or with an empty result. Raises DecodingFailure."""
    from cni.spec.result import Result

    return request.prev_result or Result()


def delete(request: Request) -> None:
    """Succeed: nothing was made."""


def check(request: Request) -> None:
    """Succeed: nothing was made."""


def gc(request: Request) -> None:
    """Succeed: nothing was made."""


def status(request: Request) -> None:
    """Succeed: nothing can be wrong."""
