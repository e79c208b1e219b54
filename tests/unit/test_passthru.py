"""passthru makes nothing, and passes on what was made."""

from __future__ import annotations

from typing import Any

import pytest

from cni.plugin import invoke
from cni.spec.document import encode
from cni.spec.errors import CNIError
from cni.spec.request import Request

PREVIOUS = {"cniVersion": "1.0.0", "interfaces": [{"name": "eth0"}], "ips": [{"address": "10.0.0.2/24"}]}


def call(command: str, **keys: Any) -> Any:
    conf = {"cniVersion": "1.1.0", "name": "n", "type": "passthru", **keys}
    request = Request(command=command, container_id="c1", ifname="net1", conf=conf, stdin=encode(conf))
    return invoke.call("passthru", request)


def test_a_chain_that_begins_with_it_begins_with_nothing():
    assert not call("ADD").model_dump(exclude_defaults=True)


def test_what_came_before_goes_on():
    result = call("ADD", cniVersion="1.0.0", prevResult=PREVIOUS)
    assert [str(ip.address) for ip in result.ips] == ["10.0.0.2/24"]
    assert [interface.name for interface in result.interfaces] == ["eth0"]


def test_what_is_no_result_does_not():
    with pytest.raises(CNIError, match="prevResult; ips"):
        call("ADD", prevResult={"cniVersion": "1.1.0", "ips": 5})


@pytest.mark.parametrize("command", ["DEL", "CHECK", "GC", "STATUS"])
def test_every_other_verb_has_nothing_to_do(command: str):
    assert call(command) is None
