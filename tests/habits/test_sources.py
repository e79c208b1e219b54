"""What the sources are like: short, documented, of no particular machine, and with every error explained."""

import ast
import re
from pathlib import Path

import pytest
import tracked
from tracked import ROOT, name

PACKAGES = ("cni", "ipam", "delegates")
FILE_LINES = 400
FUNCTION_LINES = 50
ERRORS = ROOT / "docs" / "errors.md"
BINARY = (".png", ".gz")

OURS = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
ERROR_ID = re.compile(r"\bPLX-[A-Z0-9]+(?:-[A-Z0-9]+)*\b")
HOME = re.compile(r"/(?:root/\.|work/|home/\w+/|Users/\w+/)\S*|/tmp/(?:dev|ref)\S*")


def functions(tree: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    first = function.body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    docstring = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


def error_ids(paths: list[Path]) -> set[str]:
    return {found for path in paths for found in ERROR_ID.findall(path.read_text())}


@pytest.mark.parametrize("path", OURS, ids=name)
def test_a_file_fits_in_a_readers_head(path):
    assert len(path.read_text().splitlines()) <= FILE_LINES


@pytest.mark.parametrize("path", OURS, ids=name)
def test_a_function_fits_on_a_screen(path):
    tree = ast.parse(path.read_text())
    assert not {function.name: length(function) for function in functions(tree) if length(function) > FUNCTION_LINES}


@pytest.mark.parametrize("path", OURS + TESTS, ids=name)
def test_a_module_says_what_it_is_for(path):
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_no_file_names_a_directory_of_a_particular_machine():
    texts = [path for path in tracked.files() if path.suffix not in BINARY]
    lines = [
        f"{name(path)}:{number}: {line.strip()}"
        for path in texts
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if HOME.search(line)
    ]
    assert not lines


def test_every_error_id_is_documented():
    assert error_ids(OURS) - error_ids([ERRORS]) == set()


def test_every_documented_error_id_exists():
    assert error_ids([ERRORS]) - error_ids(OURS) == set()
