"""The tools that read the code find nothing: ruff, mypy, import-linter and shellcheck."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tracked
from tracked import ROOT, name

PYTHON = ["cni", "ipam", "delegates", "tests", "bench"]
SHEBANGS = (b"#!/usr/bin/env bash", b"#!/bin/bash", b"#!/bin/sh", b"#!/usr/bin/env sh")


def assert_finds_nothing(*command: str) -> None:
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if process.returncode != 0:
        pytest.fail(f"{' '.join(command)}\n{process.stdout}{process.stderr}", pytrace=False)


def is_shell(path: Path) -> bool:
    return path.read_bytes().split(b"\n", 1)[0] in SHEBANGS


def test_ruff_finds_nothing():
    assert_finds_nothing(sys.executable, "-m", "ruff", "check", *PYTHON)


def test_the_code_is_formatted():
    assert_finds_nothing(sys.executable, "-m", "ruff", "format", "--check", *PYTHON)


def test_mypy_finds_nothing_in_strict_mode():
    assert_finds_nothing(sys.executable, "-m", "mypy")


def test_layers_import_only_downwards():
    assert_finds_nothing(str(Path(sys.executable).with_name("lint-imports")), "--no-cache")


def test_shellcheck_finds_nothing():
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed")
    scripts = [name(path) for path in tracked.files() if is_shell(path)]
    assert "install.sh" in scripts
    assert_finds_nothing("shellcheck", "--external-sources", *scripts)
