"""The `veth` delegate (the reference plugins call it ptp): a routed link between the sandbox and the host.

Whatever the subnet, the sandbox sends everything to its gateway, which is the host's end of the pair: the host routes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cni.spec.request import Request
from delegates import ipam, teardown

if TYPE_CHECKING:
    from cni.spec.result import Result

# What reads the whole configuration is imported where it is needed: DEL and GC do without, at half the time.

delete = teardown.delete
gc = teardown.gc


def add(request: Request) -> Result:
    """Link the sandbox with the host; a failure leaves nothing behind."""
    from delegates import veth_add

    return veth_add.add(request)


def check(request: Request) -> None:
    """Raise CheckFailed, which lists every difference, unless all is as ADD left it."""
    from delegates import config, verify

    verify.veth(request, config.veth(request), request.require_prev_result())


def status(request: Request) -> None:
    """Raise PluginUnavailable unless an ADD would succeed."""
    from delegates import config, masquerade

    masquerade.require_backend(request, config.veth(request))
    ipam.delegate(request)
