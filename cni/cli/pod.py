"""`plexus attach|check|detach --pod`: play the container runtime for one pod of the manifests."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Mapping
from dataclasses import replace

from cni.cli import report
from cni.cli.runtime import PLUGIN_DIR, Runtime, Settings, absolute, digest, read_settings
from cni.plugin import confdir
from cni.plugin.cache import Cache, Remembered
from cni.plugin.chain import Attachment, Host
from cni.plugin.rollback import Teardown
from cni.spec import args, netconf
from cni.spec.errors import CNIError, UnknownContainer
from cni.spec.netconf import NetConfList

OURS = "plexus-"
"""How the IDs of the containers begin that we play the runtime for."""


class Session:
    """One command's work on one pod."""

    def __init__(self, options: argparse.Namespace, environ: Mapping[str, str]) -> None:
        self.options = options
        self.settings = _settings(environ)
        self.pod: str = options.pod
        host = Host(path=self.settings.path, environ=environ)
        self.runtime = Runtime(host, Cache(options.cache_dir))

    def attachment(self) -> Attachment:
        """The pod's attachment as the options name it."""
        netns = absolute(self.options.netns) if self.options.netns else ""
        container_id = self.options.container_id or OURS + digest(f"{self.pod}@{netns}")
        return Attachment(
            container_id=container_id,
            ifname=self.options.ifname,
            netns=netns,
            args=_args(self.pod, container_id),
            runtime_config=self.settings.capability_args,
        )

    def known(self) -> list[Attachment]:
        """What `attach` made of this pod: the attachment the options name, or all there are when they name none."""
        if self.options.netns or self.options.container_id:
            named = self.attachment()
            found = self._remembered(named)
            return [replace(named, netns=named.netns or found.attachment.netns) if found else named]
        return self._cached() or self._begun()

    def _cached(self) -> list[Attachment]:
        return [known.attachment for known in self.runtime.cache.attachments() if self._is_ours(known.attachment)]

    def _begun(self) -> list[Attachment]:
        """What an `attach` began that was killed before it could cache anything."""
        ledger = report.find_ledger(confdir.load_default(self.settings.conf_dir))
        found = (
            Attachment(
                container_id=record.container_id,
                ifname=record.ifname,
                netns=record.netns,
                args=_args(record.pod, record.container_id),
            )
            for record in (ledger.records() if ledger else ())
        )
        return [attachment for attachment in found if self._is_ours(attachment)]

    def network(self, attachment: Attachment) -> NetConfList:
        """The configuration that the attachment was made with, or else today's default network. Raises CNIError."""
        found = self._remembered(attachment)
        if found is None or not found.config:
            return confdir.load_default(self.settings.conf_dir)
        return netconf.parse(found.config, f'"{found.path}"')

    def made(self, network: NetConfList, attachment: Attachment) -> list[str]:
        """The names of the networks it is attached to, as far as anything says so."""
        with contextlib.suppress(CNIError):  # a record that cannot be read is the plugin's business
            ledger = report.find_ledger(network)
            record = ledger.find(attachment.container_id, attachment.ifname) if ledger else None
            if record is not None:
                return [entry.network for entry in record.entries]
        return [network.name] if self.is_remembered(attachment) else []

    def is_remembered(self, attachment: Attachment) -> bool:
        """Whether its ADD came to its end."""
        return self._remembered(attachment) is not None

    def _remembered(self, attachment: Attachment) -> Remembered | None:
        key = (attachment.container_id, attachment.ifname)
        for known in self.runtime.cache.attachments():
            if (known.attachment.container_id, known.attachment.ifname) == key:
                return known
        return None

    def _is_ours(self, attachment: Attachment) -> bool:
        """Whether `attach` made it for this pod; what a container runtime made for it is not ours to touch."""
        return (
            attachment.container_id.startswith(OURS)
            and attachment.ifname == self.options.ifname
            and attachment.args == _args(self.pod, attachment.container_id)
        )


def attach(options: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Attach the pod to the default network, and so to all of its own; print what was made. Raises CNIError."""
    session = Session(options, environ)
    network = confdir.load_default(session.settings.conf_dir)
    attachment = session.attachment()
    result = session.runtime.add(network, attachment)
    shown = report.as_json if options.output == "json" else report.as_table
    sys.stdout.write(shown(report.rows(network, attachment, result)) + "\n")


def check(options: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Have everything that `attach` made checked by its plugins. Raises CNIError."""
    session = Session(options, environ)
    attachments = [known for known in session.known() if session.is_remembered(known)]
    if not attachments:
        raise UnknownContainer(
            f'could not check pod "{session.pod}"',
            f'nothing in "{session.runtime.cache.directory}" says that plexus attach was run for it',
            id="PLX-NOT-ATTACHED",
        )
    for attachment in attachments:
        session.runtime.check(session.network(attachment), attachment)


def detach(options: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Undo what `attach` made, with the configuration it was made with; print from what. Raises one CNIError.

    Nothing to undo is no error.
    """
    session = Session(options, environ)
    teardown = Teardown()
    detached: list[str] = []
    for attachment in session.known():
        with teardown.step():
            network = session.network(attachment)
            names = session.made(network, attachment)
            session.runtime.delete(network, attachment)
            detached += names
    what = f"detached from {', '.join(detached)}" if detached else "nothing was attached"
    if detached or not teardown.failures:
        sys.stdout.write(f'pod "{session.pod}": {what}\n')
    teardown.finish(f'could not detach pod "{session.pod}"')


def _settings(environ: Mapping[str, str]) -> Settings:
    settings = read_settings(environ)
    return replace(settings, path=settings.path or (PLUGIN_DIR,))


def _args(pod: str, container_id: str) -> str:
    """CNI_ARGS as the kubelet's runtimes write them; without the UID, which manifests need not have."""
    namespace, _, name = pod.partition("/")
    return args.join(
        {
            "IgnoreUnknown": "1",
            "K8S_POD_NAMESPACE": namespace,
            "K8S_POD_NAME": name,
            "K8S_POD_INFRA_CONTAINER_ID": container_id,
        }
    )
