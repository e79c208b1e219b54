"""How versions of the specification compare, case by case."""

from typing import Any

import pytest
from vectors import cases

from cni.spec import versions
from cni.spec.errors import DecodingFailure

CASES = cases.load("version_compare")


@pytest.mark.parametrize("case", [case for case in CASES if "bad" not in case], ids=str)
def test_versions_compare_as_in_the_reference(case: dict[str, Any]):
    assert versions.at_least(case["a"], case["b"]) is case["ge"]


@pytest.mark.parametrize("version", [case["bad"] for case in CASES if "bad" in case])
def test_what_is_no_version_is_a_decoding_failure_that_names_it(version: str):
    with pytest.raises(DecodingFailure) as caught:
        versions.parse(version)
    assert f'"{version}"' in str(caught.value)
