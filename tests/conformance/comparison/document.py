"""docs/conformance.md, written from the table of cases."""

import datetime as dt
import platform
import re
from collections.abc import Iterator
from pathlib import Path

from . import reference, table
from .columns import OURS, REFERENCES, ROOT
from .table import Case

PATH = ROOT / "docs" / "conformance.md"
WRITTEN = "Written "
"""How the one line begins that is another one each time."""
COLUMNS = (OURS, *REFERENCES)
GROUPS = {
    "host_local": "host-local",
    "static": "static",
    "bridge": "bridge",
    "ptp": "ptp (veth)",
    "libcni": "libcni, cnitool",
}
INTRODUCTION = Path(__file__).with_name("introduction.md")
NOT_ASKED = "n/a"


def render() -> str:
    """The whole page."""
    return "\n".join(_lines()) + "\n"


def settled(text: str) -> str:
    """A page without the line that is another one each time."""
    return "\n".join(line for line in text.splitlines() if not line.startswith(WRITTEN))


def _lines() -> Iterator[str]:
    yield INTRODUCTION.read_text().format(old=reference.OLD, new=reference.NEW, written=_written())
    yield from _totals()
    yield from _general()
    for group, title in GROUPS.items():
        yield from _cases(title, [case for case in table.cases().values() if case.group == group])
    yield from _left_out()


def _written() -> str:
    today = dt.datetime.now(dt.UTC).date().isoformat()
    return f"{WRITTEN}{today}, on Linux {platform.release()} with Python {platform.python_version()}."


def _totals() -> Iterator[str]:
    yield "## Totals"
    yield ""
    yield from _head("cases", "ours", *(f"reference {version}" for version in REFERENCES))
    for group, title in GROUPS.items():
        yield _total(title, [case for case in table.cases().values() if case.group == group])
    yield _total("**all**", list(table.cases().values()))
    yield ""
    defects = sum(1 for case in table.cases().values() if case.passed_by(reference.NEW) is False)
    yield f"Ours passes all of them. {defects} show a defect of the reference {reference.NEW} that ours does not have."
    yield ""


def _total(title: str, cases: list[Case]) -> str:
    return _row(f"{title}: {len(cases)}", *(_passed(cases, who) for who in COLUMNS))


def _passed(cases: list[Case], who: str) -> str:
    verdicts = [case.passed_by(who) for case in cases]
    asked = len(verdicts) - verdicts.count(None)
    return f"{verdicts.count(True)} of {asked}" if asked else NOT_ASKED


def _general() -> Iterator[str]:
    yield "## Differences that are no single case's"
    yield ""
    yield from _head("whose", "name", "what and why", "seen in")
    for entry in table.general():
        limited = f" ({entry.plugin} only)" if entry.plugin else ""
        yield _row(_whose(entry.who), entry.name, f"{entry.why}{limited}", entry.seen_in)
    yield ""


def _cases(title: str, cases: list[Case]) -> Iterator[str]:
    yield f"## {title}"
    yield ""
    yield from _head("id", "case", *COLUMNS, "differences, and why")
    for case in cases:
        title = case.title + ("ᵉ" if case.executed else "")
        yield _row(_short(case.id), title, *(_verdict(case, who) for who in COLUMNS), "; ".join(_reasons(case)))
    yield ""


def _verdict(case: Case, who: str) -> str:
    return {True: "yes", False: "**no**", None: NOT_ASKED}[case.passed_by(who)]


def _reasons(case: Case) -> Iterator[str]:
    for who, why in case.without.items():
        yield f"{who}: {why}"
    for entry in case.differences:
        yield f"{_whose(entry.who)}: {entry.why}"


def _left_out() -> Iterator[str]:
    yield "## Left out"
    yield ""
    yield "Of what was collected about the reference (by the ids of its rows, or in words):"
    yield ""
    yield from _head("what", "why")
    for entry in table.left_out():
        yield _row(", ".join(entry.rows) or entry.what, entry.why)


def _whose(who: tuple[str, ...]) -> str:
    return "both" if who == REFERENCES else who[0]


def _short(case_id: str) -> str:
    """An id without the words that the title repeats."""
    match = re.match(r"[A-Z]+\d+[a-z]?(?=-|$)", case_id)
    return match[0] if match else case_id


def _head(*cells: str) -> Iterator[str]:
    yield _row(*cells)
    yield "|" + "---|" * len(cells)


def _row(*cells: str) -> str:
    escaped = (cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells)
    return f"| {' | '.join(escaped)} |"
