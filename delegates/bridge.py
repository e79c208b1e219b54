"""The `bridge` delegate: plug a sandbox into a bridge of the host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cni.spec.document import lookup
from cni.spec.request import Request
from delegates import host_bridge, ipam, teardown

if TYPE_CHECKING:
    from cni.spec.result import Result

# What reads the whole configuration is imported where it is needed: DEL and GC do without, at half the time.


def add(request: Request) -> Result:
    """Plug the sandbox into the bridge; a failure leaves nothing behind but the bridge."""
    from delegates import bridge_add

    return bridge_add.add(request)


def delete(request: Request) -> None:
    """Undo the attachment, whatever is left of it. Raises one CNIError that names each failure."""
    teardown.delete(request, unwanted_bridge=_unwanted_bridge(request))


def gc(request: Request) -> None:
    """Undo what is left of attachments that are not valid. Raises one CNIError that names each failure."""
    teardown.gc(request, unwanted_bridge=_unwanted_bridge(request))


def check(request: Request) -> None:
    """Raise CheckFailed, which lists every difference, unless all is as ADD left it."""
    from delegates import bridge_add, config, verify

    conf = config.bridge(request)
    verify.bridge(request, conf, request.require_prev_result(), bridge_add.memberships(conf))


def status(request: Request) -> None:
    """Raise PluginUnavailable unless an ADD would succeed."""
    from delegates import config, masquerade

    conf = config.bridge(request)
    host_bridge.require(conf)
    masquerade.require_backend(request, conf)
    if conf.macspoofchk:
        masquerade.require_nftables(request)
    ipam.delegate(request)


def _unwanted_bridge(request: Request) -> str:
    """The bridge that is to go with its last port; "" for none, which is usual."""
    if not lookup(request.conf, "removeBridge"):
        return ""
    from delegates import config

    return config.unwanted_bridge(request)
