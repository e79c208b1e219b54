"""Every case of the table, in every column that is at hand: nothing is otherwise than the table says."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import columns, document, judge, reference, table
from .columns import AGAIN, OURS, REFERENCES, Column
from .play import play_all
from .stage import PATH
from .table import Case

CASES = table.cases()
TOOLS = ("ip", "bridge", "nft", "nsenter", "ping")


@pytest.fixture(scope="session")
def present(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Column]]:
    """Who is there to answer."""
    found = columns.present(tmp_path_factory.mktemp("columns"))
    yield found
    for column in found.values():
        column.close()


@pytest.mark.parametrize("case_id", CASES)
def test_a_case_is_as_the_table_says(case_id: str, present: dict[str, Column], tmp_path: Path):
    case = CASES[case_id]
    require(case)
    found = play_all(case, present, tmp_path)
    again = {who: found.pop(who) for who in AGAIN if who in found}
    assert judge.complaints(case, found) == []
    for who, seen in again.items():
        assert judge.same(found[OURS], seen) == [], who
    for entry in table.general():
        if (
            entry.seen_in == case_id
            and not entry.sometimes
            and found.keys() >= {*entry.who, reference.NEW} - {*case.without}
        ):
            assert entry.name in judge.general_in(case, found), f"{entry.name} is no difference (any more)"


def require(case: Case) -> None:
    """Skip a case for which the machine lacks something."""
    needed = {*case.needs, *(TOOLS if case.sandboxes else ())}
    missing = sorted(program for program in needed if not shutil.which(program, path=PATH))
    if missing:
        pytest.skip(f"missing tools: {', '.join(missing)}")
    if os.geteuid() != 0 and (case.sandboxes or case.group == "libcni"):
        pytest.skip("namespaces need root")


@pytest.mark.parametrize("version", REFERENCES)
def test_the_reference_is_at_hand(version: str):
    found = reference.find(version)
    if not found.directory:
        pytest.skip(found.reason)


def test_the_page_is_what_the_table_says():
    written = document.PATH.read_text()
    assert document.settled(written) == document.settled(document.render()), (
        "write it anew: python -m tests.conformance.comparison --write"
    )


def test_every_row_of_the_inventory_is_a_case_or_left_out_with_a_reason():
    cases = {row for case in CASES.values() for row in case.rows}
    without = {row for entry in table.left_out() for row in entry.rows}
    assert set(table.inventory()) - cases - without == set()
    assert without & cases == set()
    assert without <= set(table.inventory())


def test_ours_passes_every_case():
    assert [case.id for case in CASES.values() if not case.passed_by(OURS)] == []


def test_every_general_difference_is_seen_in_a_case_there_is():
    assert {entry.seen_in for entry in table.general()} <= CASES.keys()
