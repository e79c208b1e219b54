"""What an administrator wants of a node: which directories, which primary, and what else the entry says."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

from cni.node import entry, kubeconfig
from cni.node.host import Host
from cni.node.host_token import HostToken
from cni.node.kubeconfig import ServiceAccount
from cni.node.launchers import Launchers
from cni.node.prefix import Prefix
from cni.plugin import confdir
from cni.spec.errors import InvalidConfiguration

SETTLE = 10.0
DIRECTORY = "plexus.d"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is wanted on this node. Paths are the host's, but `settings_file`, which is ours."""

    host: Host
    prefix: Prefix
    conf_dir: str
    settings: entry.Settings
    settings_file: str = ""
    primary: str = ""
    """The name of the primary's file, where it is not to be found."""
    as_multus: bool = False
    account: ServiceAccount | None = None
    token: HostToken | None = None
    """The account's for the host; without it, the host gets the token of the pod that we run in."""
    launchers: Launchers | None = None
    install: Callable[[], Launchers] | None = None
    """Installs the environment and its launchers once more, where somebody has removed them."""
    settle: float = SETTLE

    def with_own_kubeconfig(self) -> Plan:
        """The same, with an entry that names the kubeconfig that we write."""
        return replace(self, settings=replace(self.settings, kubeconfig=self.kubeconfig))

    def first(self) -> str:
        """The name of the file that the runtime takes, or ""."""
        paths = confdir.paths(self.host.directory(self.conf_dir))
        return os.path.basename(paths[0]) if paths else ""

    def check_first(self) -> None:
        """Raise InvalidConfiguration while the runtime takes another file than our entry."""
        if self.first() != entry.FILE:
            raise InvalidConfiguration(
                f'the runtime uses "{self.conf_dir}/{self.first()}", and not "{entry.FILE}"',
                "it takes the first by name: remove or rename that file (--as-multus does so with those of Multus)",
                id="PLX-NODE-NOT-FIRST",
            )

    @property
    def entry(self) -> str:
        """The file of the runtime's entry."""
        return os.path.join(self.conf_dir, entry.FILE)

    @property
    def kubeconfig(self) -> str:
        """The kubeconfig that we write."""
        return os.path.join(self.conf_dir, DIRECTORY, kubeconfig.FILE)
