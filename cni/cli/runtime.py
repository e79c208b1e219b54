"""Play the container runtime for one attachment: the plugins in order, and the cache that remembers what they made."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cni.linux import netns
from cni.plugin import chain, invoke
from cni.plugin.cache import Cache, DamagedCache, Remembered
from cni.plugin.chain import Attachment, Host
from cni.plugin.rollback import Rollback, Teardown
from cni.spec import document
from cni.spec.document import Document
from cni.spec.errors import InvalidConfiguration, InvalidEnvironment
from cni.spec.netconf import NetConfList

if TYPE_CHECKING:
    from cni.spec.result import Result

CONF_DIR = "/etc/cni/net.d"
PLUGIN_DIR = "/opt/cni/bin"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the environment says, in the variables of cnitool."""

    conf_dir: str
    path: tuple[str, ...]
    args: str
    capability_args: Document
    ifname: str
    environ: Mapping[str, str]


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Read NETCONFPATH, CNI_PATH, CNI_ARGS, CAP_ARGS and CNI_IFNAME. Raises InvalidEnvironment, DecodingFailure."""
    args = environ.get("CNI_ARGS", "")
    for pair in args.split(";") if args else ():
        key, equals, value = pair.partition("=")
        if not (key and equals and value) or "=" in value:
            raise InvalidEnvironment(f'invalid CNI_ARGS pair "{pair}"', "it is a list of KEY=VALUE, joined by ;")
    return Settings(
        conf_dir=environ.get("NETCONFPATH") or CONF_DIR,
        path=tuple(part for part in environ.get("CNI_PATH", "").split(os.pathsep) if part),
        args=args,
        capability_args=document.decode(environ.get("CAP_ARGS") or "{}", "CAP_ARGS"),
        ifname=environ.get("CNI_IFNAME", "eth0"),
        environ=environ,
    )


def absolute(path: str) -> str:
    """The path from the root, without `.`, `..` and double slashes."""
    return "/" + os.path.abspath(path).lstrip("/")


def digest(text: str) -> str:
    """Twenty hex digits that stand for `text` in a container ID, cut as cnitool cuts them."""
    return hashlib.sha512(os.fsencode(text)).hexdigest()[:20]


class Runtime:
    """Calls plugins as `host` says, and remembers attachments in `cache` as libcni does."""

    def __init__(self, host: Host, cache: Cache) -> None:
        self.host = replace(host, call=invoke.call_as_runtime)
        self.cache = cache

    def add(self, network: NetConfList, attachment: Attachment) -> Result:
        """ADD, and remember it; a failure leaves nothing behind. Raises CNIError."""
        chain.validate(network, attachment, self.host)
        _refuse_taken(network, attachment)
        with Rollback() as rollback:
            # Before the call: a failed ADD needs its DEL too (section 4).
            rollback.on_failure(chain.delete, network, attachment, self.host, None)
            result = chain.add(network, attachment, self.host)
            rollback.commit()
        with Rollback() as rollback:
            rollback.on_failure(chain.delete, network, attachment, self.host, result)
            self.cache.save(network, attachment, result)
            rollback.commit()
        return result

    def check(self, network: NetConfList, attachment: Attachment) -> None:
        """CHECK against what ADD answered. Raises CNIError."""
        known = self.cache.find(network.name, attachment)
        result = known.get_result() if known else None
        chain.check(network, _completed(attachment, known), self.host, result)

    def delete(self, network: NetConfList, attachment: Attachment) -> None:
        """DEL, and forget; a cache that cannot be understood does not stand in the way. Raises CNIError."""
        try:
            known = self.cache.find(network.name, attachment)
            result = known.get_result() if known else None
        except DamagedCache:
            known = result = None
        chain.delete(network, _completed(attachment, known), self.host, result)
        self.cache.remove(network.name, attachment)

    def gc(self, network: NetConfList) -> None:
        """Delete every remembered attachment of the network, and have its plugins collect whatever else is left.

        Raises one CNIError naming each failure.
        """
        if network.disable_gc:
            return
        teardown = Teardown()
        for known in list(self.cache.attachments(network.name)):
            with teardown.step():
                self.delete(network, known.attachment)
        with teardown.step():
            chain.gc(network, self.host, ())
        teardown.finish(f'could not collect the garbage of network "{network.name}"')


def _completed(attachment: Attachment, known: Remembered | None) -> Attachment:
    """The attachment with what ADD was given where nothing is given now, so that its plugins find what they made."""
    if known is None:
        return attachment
    return replace(
        attachment,
        args=attachment.args or known.attachment.args,
        runtime_config=attachment.runtime_config or known.attachment.runtime_config,
    )


def _refuse_taken(network: NetConfList, attachment: Attachment) -> None:
    """Raise InvalidConfiguration when the sandbox has an interface of that name.

    The ADD would fail, and the DEL that undoes a failed ADD would take that interface away.
    """
    if attachment.ifname == "lo" or netns.is_own(attachment.netns) or not os.path.exists(attachment.netns):
        return  # there always is one; the plugins refuse; the plugins say what is missing
    if attachment.ifname in netns.run_inside(attachment.netns, lambda: [name for _, name in socket.if_nameindex()]):
        raise InvalidConfiguration(
            f'could not add "{attachment.ifname}" for network "{network.name}"',
            f'"{attachment.netns}" has an interface of that name already: delete it first, or choose another name',
            id="PLX-IFNAME-TAKEN",
        )
