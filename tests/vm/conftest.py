"""The tests of guest/ need a kernel that filters VLANs: test_vlan_in_vm.py runs them, where there is one."""

collect_ignore = ["guest"]
