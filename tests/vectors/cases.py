"""The cases of the protocol as data: what the reference plugins answer, seen by running them."""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


def load(group: str) -> list[dict[str, Any]]:
    """The cases of one file of this folder."""
    cases: list[dict[str, Any]] = json.loads((FOLDER / f"{group}.json").read_text())["cases"]
    return cases


def by_id(group: str) -> dict[str, dict[str, Any]]:
    """The same, by their ids."""
    return {case["id"]: case for case in load(group)}
