"""The tests of guest/ need a kernel that filters VLANs: test_vlan_in_vm.py runs them, where there is one."""

import pytest

collect_ignore = ["guest"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the machine: it takes one processor for a minute, and the rest of the tests can have the others."""
    items.sort(key=lambda item: item.path.name != "test_vlan_in_vm.py")
