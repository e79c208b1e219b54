"""Where we differ from the reference plugins on purpose, and why: the one place for it.

`SKEL` is by case, `HOST_LOCAL` by case and step, `RAW_OUTPUT` the whole output by case. Fields that are not listed must
be as the reference has them, those that are must be exactly ours, and a listed field that no longer differs is an error
too.
"""

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Difference:
    """One answer of ours, and why it is not the reference's."""

    ours: Any
    reason: str


CODES = "the reference calls everything that a handler finds 999, internal; ours says what kind of failure it is"
JSON = "the reference repeats what Go's decoder says; ours says where the text is broken"
PARSER = "the reference repeats what Go's number parser says"

ABSENT_PLUGINS = {
    "bandwidth": "not built in: plexus executes the reference's",
    "firewall": "not built in: plexus executes the reference's",
    "vrf": "not built in: plexus executes the reference's",
}
"""Plugins of the vectors that we do not have, so that their cases are not ours to pass."""


def _banner() -> dict[str, Difference]:
    versions = "0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"
    text = f"CNI host-local plugin v@VERSION@\nCNI protocol versions supported: {versions}\n"
    return {"stderr": Difference(text, "our own version")}


SKEL: dict[str, dict[str, Difference]] = {
    "S01-no-env": _banner(),
    "S02-empty-command": _banner(),
    "S35-bad-json": {
        "msg": Difference("could not decode the network configuration on stdin", JSON),
        "details": Difference(
            "it ends too early, at line 1, column 2: Expecting property name enclosed in double quotes", JSON
        ),
    },
    "S46-check-bad-version": {
        "msg": Difference('failed to convert major version part "adsfsadf"', PARSER),
        "details": Difference('in version "adsfsadf"', PARSER),
    },
    "S51-version-type": {
        "msg": Difference("could not decode the network configuration on stdin", JSON),
        "details": Difference("`cniVersion` must be a string, not a number", JSON),
    },
    "S52-bridge-l2-check-bug": {
        "code": Difference(6, "the reference cannot CHECK a bridge without IPAM; ours goes on to what is missing"),
        "msg": Difference("Required prevResult missing", "the same"),
        "details": Difference('network "n", CHECK', "the same"),
    },
}


def _typed(code: int, reason: str = CODES) -> dict[str, Difference]:
    return {"code": Difference(code, reason)}


INVALID = _typed(7)
TAKEN = _typed(11)
ARGS = _typed(4, "what is wrong is CNI_ARGS, a variable of the environment; the reference says 999, internal")

HOST_LOCAL: dict[str, dict[int, dict[str, Difference]]] = {
    "H04-exhaust-/29": {5: TAKEN},
    "H05-/30-one-address": {1: TAKEN},
    "H22-request-taken": {1: TAKEN},
    "H24-request-outside-rolls-back": {0: INVALID},
    "H25-request-broadcast-refused": {0: INVALID},
    "H27-unknown-arg": {0: ARGS},
    "H30-ignoreunknown-values": {1: ARGS, 2: ARGS},
    "H31-lowercase-ip-key-unknown": {0: ARGS},
    "H35-two-requests-one-range": {0: INVALID},
    "H40-resolvConf-missing": {0: _typed(5)},
    "H41-check-found-and-not": {0: _typed(102), 3: _typed(102)},
    "H49-empty-file-blocks-forever": {
        0: {
            field: Difference(
                value,
                "an empty file under the lock is what a crash of the reference left (upstream #498): "
                "the reference never gives that address away again, ours does",
            )
            for field, value in {"rc": 0, "code": None, "msg": None, "ips": ["10.0.0.2/30"]}.items()
        }
    },
    "H50-multi-ip-0.2.0": {
        0: INVALID,
        1: {
            field: Difference(
                value,
                "DEL releases what is held whatever the configuration has become: it needs no ranges",
            )
            for field, value in {"rc": 0, "code": None, "msg": None}.items()
        },
    },
    "HE02": {0: INVALID},
    "HE03": {0: INVALID},
    "HE04": {0: INVALID},
    "HE05": {0: INVALID},
    "HE06": {0: INVALID},
    "HE07": {0: INVALID},
    "HE10": {0: INVALID},
    "HE11": {0: INVALID},
    "HE14": {0: INVALID},
    "HE16": {0: INVALID},
    "HE18": {0: INVALID},
    "HE20": {0: INVALID},
    "HE22-no-ipam": {0: INVALID},
}


def _error_object(code: int, msg: str, details: str) -> Difference:
    error = {"cniVersion": "1.1.0", "code": code, "msg": msg, "details": details}
    reason = "ours has the cniVersion that the specification wants, says what kind of failure it is, and where and why"
    return Difference(json.dumps(error, indent=4), reason)


RAW_OUTPUT: dict[str, Difference] = {
    "R-static-env-badgw": _error_object(
        4, "invalid gateway address: zz", "GATEWAY in CNI_ARGS must hold addresses [PLX-IPAM-REQUEST]"
    ),
    "R-static-rt-ips-nocidr": _error_object(
        7,
        "an entry in the 'ips' field is NOT in CIDR notation, got: '10.10.8.8'",
        'runtimeConfig.ips[0]: write it with its prefix length, for example "192.0.2.10/24" [PLX-IPAM-REQUEST]',
    ),
    "R-static-no-ipam": _error_object(7, "IPAM config missing 'ipam' key", "ipam [PLX-IPAM-CONF]"),
}
