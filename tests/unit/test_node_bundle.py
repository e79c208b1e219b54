"""What an installation is proven to have."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from cni.node import bundle

DEPENDENCIES = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["dependencies"]


@pytest.mark.parametrize("dependency", DEPENDENCIES)
def test_every_library_that_plexus_needs_is_imported_before_a_version_counts_as_installed(dependency):
    wanted = re.split(r"[<>=!~ ]", dependency)[0]
    packages = metadata.packages_distributions()
    proven = {name for module in bundle.MODULES for name in packages.get(module.partition(".")[0], [])}
    assert wanted in proven
