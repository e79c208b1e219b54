"""What holds for every test: what runs where, and with PLEXUS_TESTS_STRICT=1 nothing is skipped for want of a tool."""

import os
from collections.abc import Generator
from typing import Any

import pytest

STRICT = os.environ.get("PLEXUS_TESTS_STRICT") == "1"
KERNEL = "this kernel"
"""How the reason of a skip begins that is no fault of the machine's set-up: no package brings, say, VLAN filtering."""
GO = "no Go toolchain"
"""Another: what Debian 12 packages is too old for the reference plugins that are built from source."""


TOGETHER = ("tests/cluster/", "tests/deploy/", "tests/vm/")
"""Folders whose tests share what takes long to make, so that one process runs all of a folder."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--nightly", action="store_true", help="tests/faults with many times as many inputs")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--nightly"):
        os.environ["PLEXUS_TESTS_NIGHTLY"] = "1"  # for xdist's processes, too


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return next((folder for folder in TOGETHER if nodeid.startswith(folder)), nodeid)

    return Scheduling(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    refuse_skip(report)
    return report


def refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not STRICT or report.outcome != "skipped" or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if reason.removeprefix("Skipped: ").startswith((KERNEL, GO)):
        return
    report.outcome = "failed"
    report.longrepr = f"PLEXUS_TESTS_STRICT=1 and this was skipped: {reason}"
