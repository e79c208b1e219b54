"""docs/multus.md says what the rows say, and the rows leave nothing out."""

from __future__ import annotations

import ast
from collections import Counter

import pytest
from vectors import multus_page
from vectors.multus_page import ROOT

ROWS = multus_page.rows()
IDS = {row["id"] for row in ROWS}
PROVEN = [pytest.param(row, id=row["id"]) for row in ROWS if "proof" in row]
KEYS = {"id", "title", "multus", "standard", "plexus", "why", "proof", "given", "expected", "steps", "versions", "text"}


def test_the_page_is_what_the_rows_say():
    assert multus_page.PAGE.read_text() == multus_page.render(), "write it anew: python tests/vectors/multus_page.py"


def test_every_row_has_an_id_of_its_own():
    assert [row_id for row_id, count in Counter(row["id"] for row in ROWS).items() if count > 1] == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_what_is_otherwise_has_a_reason_and_what_has_a_reason_is_otherwise(row):
    assert row.keys() <= KEYS
    assert ("plexus" in row) == ("why" in row) == ("multus" in row or "standard" in row)


@pytest.mark.parametrize("row", PROVEN)
def test_a_row_without_a_case_names_tests_or_rows_that_there_are(row):
    assert row["proof"]
    for proof in row["proof"]:
        path, _, name = proof.partition("::")
        assert proof in IDS or name in _tests(path)


def _tests(path):
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_case_of_multus_own_tests_is_a_row_or_left_out_with_a_reason():
    inventory = {f"{letter}{number}" for letter, numbers in multus_page.INVENTORY.items() for number in numbers}
    cases = {multus_page.case(row_id) for row_id in IDS}
    without = {row for entry in multus_page.left_out() for row in entry["rows"]}
    assert inventory - cases - without == set()
    assert without & cases == set()
    assert all(entry["why"] for entry in multus_page.left_out())
