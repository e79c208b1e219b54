"""Networks with VLANs, and the memberships of an attachment's port to expect."""

from typing import Any

NATIVE = "PVID, Egress Untagged"
TAGGED = ""
DEFAULT_LEFT = "Egress Untagged"
"""The default VLAN of a port whose untagged frames belong to another."""

CASES: dict[str, tuple[dict[str, Any], dict[int, str]]] = {
    "access": ({"vlan": 100}, {100: NATIVE}),
    "access, default VLAN preserved": (
        {"vlan": 100, "preserveDefaultVlan": True},
        {1: DEFAULT_LEFT, 100: NATIVE},
    ),
    "trunk of an id and a range": (
        {"vlanTrunk": [{"id": 101}, {"minID": 200, "maxID": 210}]},
        {1: NATIVE, 101: TAGGED} | dict.fromkeys(range(200, 211), TAGGED),
    ),
    "trunk of an id": ({"vlanTrunk": [{"id": 10}]}, {1: NATIVE, 10: TAGGED}),
    "trunk entry with both": (
        {"vlanTrunk": [{"minID": 100, "maxID": 105, "id": 10}]},
        {1: NATIVE, 10: TAGGED} | dict.fromkeys(range(100, 106), TAGGED),
    ),
    "trunk, default VLAN preserved": (
        {"vlanTrunk": [{"id": 10}], "preserveDefaultVlan": True},
        {1: NATIVE, 10: TAGGED},
    ),
    "trunk with the default VLAN": ({"vlanTrunk": [{"minID": 1, "maxID": 2}]}, {1: NATIVE, 2: TAGGED}),
    "access and trunk": (
        {"vlan": 100, "vlanTrunk": [{"id": 4094}, {"minID": 5, "maxID": 6}]},
        {5: TAGGED, 6: TAGGED, 100: NATIVE, 4094: TAGGED},
    ),
    "access VLAN named by the trunk as well": (
        {"vlan": 100, "vlanTrunk": [{"minID": 99, "maxID": 101}]},
        {99: TAGGED, 100: NATIVE, 101: TAGGED},
    ),
    "empty trunk": ({"vlanTrunk": []}, {1: NATIVE}),
}
