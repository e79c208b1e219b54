"""What a pod asks of a network is served, or the attachment fails (NPWG standard, section 4.1.2.1)."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from cni.linux import addresses, netns
from cni.linux.links import Links
from cni.plugin import invoke
from cni.plugin.ledger import Entry
from cni.spec import document, netconf
from cni.spec.document import Document
from cni.spec.errors import UnsupportedField
from cni.spec.netconf import NetConf, NetConfList

if TYPE_CHECKING:
    from cni.spec.result import Result

BY_ARGS = ("mac", "ips")
"""Asked for through CNI_ARGS too: many plugins read MAC and IP there, and claim nothing."""


def require(network: str, conf: NetConfList, asked: Document, external: Collection[str]) -> None:
    """Raise UnsupportedField for a request of which it is known that no plugin of the network serves it."""
    for key, value in asked.items():
        if key in conf.capabilities or any(_reads_in_args(plugin, key, external) for plugin in conf.plugins):
            continue
        remedy = f'none of its plugins claims it: add "capabilities": {{"{key}": true}} to the one that serves it'
        if key == "ips" and not any(netconf.ipam_type(plugin) for plugin in conf.plugins):
            remedy = "it gives no addresses: add an `ipam`"
        raise UnsupportedField(
            f'could not ask network "{network}" for "{key}": {document.dump(value)}', remedy, id="PLX-CAPABILITY"
        )


def verify(entry: Entry, sandbox: str, result: Result) -> None:
    """Raise UnsupportedField unless the attachment has the MAC and the addresses that were asked for.

    What can be seen neither in the sandbox nor in the result, such as the MAC of a device that a guest drives, passes.
    """
    if not any(entry.runtime_config.get(key) for key in BY_ARGS):
        return
    seen_mac, seen_ips = netns.run_inside(sandbox, partial(_read, entry.ifname))
    mac = seen_mac or _told_mac(result, entry.ifname)
    ips = {str(ip.address.ip) for ip in result.ips} | seen_ips
    problems = [*_wrong_mac(entry.runtime_config, mac), *_wrong_ips(entry.runtime_config, ips)]
    if problems:
        raise UnsupportedField(
            "could not give the attachment what is asked of it",
            f"{'; '.join(problems)}: let a plugin of the network serve it, or do not ask",
            id="PLX-NOT-SERVED",
        )


def _reads_in_args(plugin: NetConf, key: str, external: Collection[str]) -> bool:
    """Whether the plugin may read the request in CNI_ARGS; what is executed may, until it has shown what it does."""
    if key not in BY_ARGS:
        return False
    kind = netconf.plugin_type(plugin)
    if not invoke.is_built_in(kind, external):
        return True
    return kind == "bridge" if key == "mac" else bool(netconf.ipam_type(plugin))


def _read(ifname: str) -> tuple[str, set[str]]:
    """MAC and addresses of an interface of this namespace; nothing where there is none of the name."""
    with Links() as links:
        link = links.find(ifname)
        if link is None:
            return "", set()
        return link.mac, {str(found.address.ip) for found in addresses.every(links, link)}


def _told_mac(result: Result, ifname: str) -> str:
    return next((link.mac for link in result.interfaces if link.sandbox and link.name == ifname), "")


def _wrong_mac(asked: Document, found: str) -> Iterator[str]:
    wanted = asked.get("mac")
    if wanted and found and str(wanted).replace("-", ":").lower() != found.lower():
        yield f"the MAC {wanted} was asked for, and it has {found}"


def _wrong_ips(asked: Document, found: Collection[str]) -> Iterator[str]:
    wanted = asked.get("ips")
    missing = [text for text in wanted if _bare(text) not in found] if isinstance(wanted, list) else []
    if missing:
        yield f"{', '.join(map(str, missing))} was asked for, and it has {', '.join(sorted(found)) or 'no address'}"


def _bare(text: Any) -> str:
    """The address without its prefix length, in the form that all others have."""
    try:
        return str(ipaddress.ip_interface(str(text)).ip)
    except ValueError:
        return str(text)
