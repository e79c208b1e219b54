"""What every error is like: one that has an id also says why, since an event's message is all that many will read."""

import ast
from pathlib import Path

import pytest
from tracked import ROOT, name

OURS = [path for package in ("cni", "ipam", "delegates") for path in sorted((ROOT / package).rglob("*.py"))]


def raised_with_an_id(path: Path) -> list[ast.Call]:
    calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    return [call for call in calls if any(keyword.arg == "id" for keyword in call.keywords)]


def says_why(call: ast.Call) -> bool:
    """Whether there are details besides the message, which a constant may not leave empty."""
    details = call.args[1:2]
    return bool(details) and not (isinstance(details[0], ast.Constant) and not details[0].value)


@pytest.mark.parametrize("path", OURS, ids=name)
def test_an_error_that_has_an_id_says_why_or_what_to_do(path):
    assert [f"{name(path)}:{call.lineno}" for call in raised_with_an_id(path) if not says_why(call)] == []


def test_errors_with_ids_are_found_at_all():
    assert sum(len(raised_with_an_id(path)) for path in OURS) > 100
