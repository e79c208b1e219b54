"""Whatever somebody writes into an annotation: it is read or refused, never a crash."""

from __future__ import annotations

import json

from hypothesis import example, given
from hypothesis import strategies as st

from cni.meta import selection
from cni.spec.errors import CNIError

KEYS = [
    "name",
    "namespace",
    "interface",
    "interfaceRequest",
    "ips",
    "mac",
    "infiniband-guid",
    "bandwidth",
    "ingressRate",
    "egressBurst",
    "portMappings",
    "hostPort",
    "containerPort",
    "protocol",
    "hostIP",
    "cni-args",
    "default-route",
    "deviceID",
]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.sampled_from(["net1", "10.0.0.1/24", "fe80::1%eth0", "02:00:00:00:00:01", "tcp", "", "a/b", "..", "::"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=8,
)
ELEMENTS = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6).map(lambda keys: {"name": "net1"} | keys)


def _read(text):
    """The error that refuses the text, or None."""
    try:
        for chosen in selection.parse(text, selection.NETWORKS, "default"):
            json.dumps(chosen.runtime_config)
    except CNIError as error:
        return error
    return None


def _check(text):
    error = _read(text)
    if error is not None:
        assert error.code in (6, 7)
        assert error.id
        assert "k8s.v1.cni.cncf.io/networks" in str(error)


@given(st.text())
@example("\udc80")
@example("net1@\udc80")
@example('["\\ud800"]')
def test_any_text_is_read_or_refused_with_the_annotations_name(text):
    _check(text)


@given(st.lists(ELEMENTS, min_size=1, max_size=2))
@example([{"name": "a", "interface": "\ud800"}])
@example([{"name": "a", "ips": ["\ud800"]}])
@example([{"name": "a", "default-route": ["1" * 5000]}])
@example([{"name": "a", "bandwidth": {"ingressRate": 10**400}}])
def test_any_json_is_read_or_refused_with_the_annotations_name(elements):
    _check(json.dumps(elements))
