"""The configuration that a runtime has plexus called with, where nobody is calling."""

from __future__ import annotations

from cni.plugin import confdir
from cni.plugin.invoke import META
from cni.spec.document import Document
from cni.spec.errors import CNIError
from cni.spec.netconf import plugin_type


def find_conf(directory: str) -> Document | None:
    """The meta plugin's own, in the first network of `directory` that has it; None where none has. Raises IOFailure."""
    for path in confdir.paths(directory):
        try:
            network = confdir.load_file(path)
        except CNIError:
            continue  # the runtime is told so; here it only cannot be the one
        for plugin in network.plugins:
            if plugin_type(plugin) in META:
                return network.conf_for(plugin)
    return None
