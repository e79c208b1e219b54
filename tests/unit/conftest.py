"""Unit tests need neither root nor a kernel: a test that reaches for netlink or another process is stopped."""

from collections.abc import Iterator

import pytest
from outside_world import GUARD


@pytest.fixture(autouse=True)
def no_outside_world() -> Iterator[None]:
    GUARD.active = True
    yield
    GUARD.active = False
