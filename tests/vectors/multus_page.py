"""docs/multus.md, written from the rows about Multus and the standard; run it to write the page."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
PAGE = ROOT / "docs" / "multus.md"
INTRODUCTION = FOLDER / "multus_introduction.md"
CLAUSES = "multus_clauses"
"""The file of what is no single call's; its rows name their proofs: tests, or other rows."""
FIRST = ("multus_annotations", "multus_networks", "multus_conf", "multus_devices")
LAST = ("multus_gateway", "multus_status", "multus_verbs")
INVENTORY = {
    "A": (1, 2, 4, 5, 6, 7, 8, 11, 12, 13, 14),
    "B": (2, 3, 4, 5, 7, 8, 9, 13, 15),
    "C": (1, 4, 6, 9, 10, 11, 12, 15, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 31, 32),
    "D": (1, 4, 6, 7, 8, 9, 10, 11, 12, 13, 15, 16, 19, 20, 21, 22, 23, 24),
    "E": (1, 2, 4, 5, 6, 7, 10, 12, 13, 14),
    "F": (3, 4, 6, 7, 8, 9),
    "G": (2, 4, 5, 6, 9, 10, 13, 14, 15, 16, 17, 19),
    "H": (1, 3, 4, 7, 10, 12, 13, 14),
    "J": (2,),
}
"""The cases of Multus' own tests, by their numbers."""

Row = dict[str, Any]


def areas() -> list[tuple[str, list[Row]]]:
    """Every area with its rows, in the order of the page."""
    clauses = [(area["area"], area["cases"]) for area in _load(CLAUSES)["areas"]]
    files = [path.stem for path in sorted(FOLDER.glob("multus_*.json"))]
    others = [name for name in files if "cases" in _load(name) and name not in (*FIRST, *LAST)]
    tables = [_load(name) for name in (*FIRST, *others, *LAST)]
    return clauses[:1] + [(table["area"], table["cases"]) for table in tables] + clauses[1:]


def left_out() -> list[Row]:
    """Cases of Multus' tests that are not ours to pass: `rows`, and `why`."""
    found: list[Row] = _load(CLAUSES)["left_out"]
    return found


def rows() -> list[Row]:
    """All rows."""
    return [row for _, found in areas() for row in found]


def case(row_id: str) -> str:
    """The case that a row is of: "A1b" is one of "A1"."""
    match = re.match(r"[A-Z]\d+", row_id)
    return match[0] if match else row_id


def render() -> str:
    """The whole page."""
    return "\n".join(_lines()) + "\n"


def _load(name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return data


def _lines() -> Iterator[str]:
    yield INTRODUCTION.read_text().rstrip("\n")
    yield ""
    yield from _totals()
    for area, found in areas():
        yield from _area(area, found)
    yield "## Left out"
    yield ""
    for entry in left_out():
        yield f"* {', '.join(entry['rows'])}: {entry['why']}"


def _totals() -> Iterator[str]:
    every = rows()
    other = sum(1 for row in every if _differs(row, "multus"))
    standard = sum(1 for row in every if _differs(row, "standard"))
    yield f"{len(every)} rows: {other} are otherwise than with Multus, {standard} than the standard says."
    yield ""


def _differs(row: Row, whom: str) -> bool:
    return "plexus" in row and whom in row and row[whom] != row["plexus"]


def _area(area: str, found: list[Row]) -> Iterator[str]:
    yield f"## {area}"
    yield ""
    told = [row for row in found if "plexus" in row]
    if told:
        yield _cells("id", "what", "standard 1.3", "Multus 4.3.0", "plexus", "why")
        yield "|---|---|---|---|---|---|"
        yield from (_line(row) for row in told)
        yield ""
    same = [row for row in found if "plexus" not in row]
    if same:
        yield "As Multus does: " + "; ".join(f"{row['title']} ({row['id']})" for row in same) + "."
        yield ""


def _line(row: Row) -> str:
    standard = "" if row.get("standard") == row["plexus"] else row.get("standard", "")
    multus = "the same" if row.get("multus") == row["plexus"] else row.get("multus", "")
    return _cells(row["id"], row["title"], standard, multus, row["plexus"], row["why"])


def _cells(*cells: str) -> str:
    escaped = (cell.replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"


if __name__ == "__main__":
    PAGE.write_text(render())
