"""Each test of guest/, with the outcome it had where the kernel filters VLANs: here, or in the throw-away machine."""

import os
from pathlib import Path

import filelock
import guest_suite
import pytest
import vm
from guest_suite import Case


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the one run of all of them leaves its report: the same for all workers."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "guest"


@pytest.fixture(scope="session")
def outcomes(directory: Path) -> dict[str, list[Case]]:
    """What they gave."""
    with filelock.FileLock(directory.with_suffix(".lock")):
        if not directory.exists():
            directory.mkdir()
            try:
                guest_suite.run(directory)
            except vm.Unavailable as error:
                directory.rmdir()
                pytest.skip(f"no machine whose kernel filters VLANs: {error}")
            except vm.NoAnswer as error:
                pytest.fail(str(error), pytrace=False)
    return guest_suite.read(directory)


@pytest.mark.parametrize("name", guest_suite.tests())
def test_guest(name: str, outcomes: dict[str, list[Case]], directory: Path):
    cases = outcomes.get(name, [])
    failures = [f"{case.name}\n{case.failure}" for case in cases if case.failure]
    if failures:
        pytest.fail("\n\n".join(failures), pytrace=False)
    if not cases:
        pytest.fail(f"it did not run:\n{guest_suite.output(directory)}", pytrace=False)
    if all(case.skipped for case in cases):
        pytest.skip(cases[0].skipped)
