"""Masquerading: what an attachment sends beyond its subnet gets an address of the machine.

Rules are made with nftables or with iptables, as the configuration says, and removed wherever they are: it may have
changed since, and a reference plugin may have made them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import ModuleType

from cni.linux import iptables, nft
from cni.linux.nft import Rule
from cni.plugin.rollback import Teardown
from cni.spec.errors import PluginUnavailable
from cni.spec.model import IPAddress, IPInterface
from cni.spec.request import Request
from delegates import masquerade_iptables, masquerade_nft
from delegates.config import AUTO, IPTABLES, NFTABLES, AttachmentConf

IMPLEMENTATIONS: Mapping[str, ModuleType] = {NFTABLES: masquerade_nft, IPTABLES: masquerade_iptables}


def apply(request: Request, conf: AttachmentConf, addresses: Iterable[IPInterface]) -> None:
    """Masquerade what comes from these addresses. Raises NftFailure, IptablesFailure."""
    IMPLEMENTATIONS[_backend(conf)].apply(request, list(addresses))


def remove(request: Request, addresses: Collection[IPAddress] = ()) -> None:
    """Stop masquerading the attachment, whichever program began it. Raises one CNIError that names each failure.

    Without `addresses` those are looked for that it has.
    """
    teardown = Teardown()
    with teardown.step():
        masquerade_nft.remove(request)
    with teardown.step():
        masquerade_iptables.remove(request, addresses)
    teardown.finish(f'could not stop masquerading "{request.ifname}" of network "{request.network}"')


def sources(rules: Iterable[Rule], request: Request) -> list[str]:
    """The attachment's addresses that are masqueraded, by rules of nftables among `rules`, or by iptables."""
    return masquerade_nft.sources(rules, request) + masquerade_iptables.sources(request)


def require_backend(request: Request, conf: AttachmentConf) -> None:
    """Raise PluginUnavailable when masquerading is wanted and cannot be done here."""
    if not conf.ip_masq:
        return
    backend = _backend(conf)
    if backend == NFTABLES:
        require_nftables(request)
    elif not iptables.is_installed():
        raise PluginUnavailable(
            f'network "{request.network}" needs iptables, which is not installed', "install iptables"
        )


def require_nftables(request: Request) -> None:
    """Raise PluginUnavailable when the kernel has no nftables."""
    if not nft.works():
        reason = f'network "{request.network}" needs nftables, which the kernel does not have'
        raise PluginUnavailable(reason, "load its module nf_tables, or use another kernel")


def _backend(conf: AttachmentConf) -> str:
    """What the configuration says; for `auto` what works here, nftables first."""
    if conf.ip_masq_backend != AUTO:
        return conf.ip_masq_backend or NFTABLES
    return IPTABLES if iptables.is_installed() and not nft.works() else NFTABLES
