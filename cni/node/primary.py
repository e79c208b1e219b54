"""The primary: the network configuration that the runtime would use for every pod if we were not there."""

from __future__ import annotations

import os
from dataclasses import dataclass

from cni.plugin import confdir, invoke
from cni.spec import document, names, netconf, versions
from cni.spec.errors import CNIError, InvalidConfiguration
from cni.spec.netconf import NetConfList

OURS = frozenset({*invoke.META, "multus-shim"})
"""Types of plugins that delegate to the primary: a configuration that has one of them is none."""


@dataclass(frozen=True)
class Candidate:
    """A file that is not ours, or not yet known to be: `network` if it could be used, else what is wrong with it."""

    name: str
    network: NetConfList | None = None
    problem: CNIError | None = None


def find(directory: str, only: str = "") -> list[Candidate]:
    """The configurations in `directory` that are not ours, in the runtime's order; or just the file `only`.

    Raises IOFailure, InvalidConfiguration.
    """
    if only:
        return [_candidate(os.path.join(directory, only), named=True)]
    found = (_candidate(path) for path in confdir.paths(directory))
    return [candidate for candidate in found if not is_ours(candidate.network)]


def is_ours(network: NetConfList | None) -> bool:
    """Whether the configuration is one of a meta plugin, which its content tells and not its name."""
    return network is not None and any(netconf.plugin_type(plugin) in OURS for plugin in network.plugins)


def _candidate(path: str, *, named: bool = False) -> Candidate:
    name = os.path.basename(path)
    try:
        network = confdir.load_file(path)
        if not is_ours(network):
            _check(network)
        elif named:
            _refuse_recursion(name)
    except CNIError as error:
        return Candidate(name, problem=error)
    return Candidate(name, network)


def _check(network: NetConfList) -> None:
    """Raise what a runtime, or a plugin, would raise at every ADD."""
    names.validate_network_name(network.name)
    for plugin in network.plugins:
        if "/" in (kind := netconf.plugin_type(plugin)):
            raise InvalidConfiguration(f'invalid plugin name: "{kind}"', "`type` is a file name", id="PLX-PLUGIN-TYPE")
    if network.cni_version and network.cni_version not in versions.SUPPORTED:
        reason = f"we speak {versions.SUPPORTED[0]} to {versions.CURRENT}"
        raise InvalidConfiguration(f'cniVersion "{network.cni_version}" is not known', reason, id="PLX-CONF")
    document.decode(network.text, "the configuration")


def _refuse_recursion(name: str) -> None:
    raise InvalidConfiguration(
        f'could not use "{name}" as the primary', "it is a meta plugin's configuration", id="PLX-RECURSION"
    )


class Choice:
    """Chooses the primary, and does not let go of it for a moment's disorder in the directory."""

    def __init__(self, settle: float) -> None:
        self.settle = settle
        """Seconds that a configuration must be missing, or broken, before one that comes after it is taken."""
        self._waiting_since: float | None = None

    def choose(self, found: list[Candidate], current: str, now: float) -> Candidate | None:
        """The candidate to use at the time `now`, where `current` names the one in use; None to leave things be.

        What comes before the current one is taken at once, as the runtime would. While that is there, broken or not,
        nothing after it is.
        """
        order = [candidate.name for candidate in found]
        if current in order:
            self._waiting_since = None
            return _first_usable(found[: order.index(current) + 1])
        first = _first_usable(found)
        if first is None or (not current and first is found[0]):
            self._waiting_since = None
            return first
        if self._waiting_since is None:
            self._waiting_since = now
        return first if now - self._waiting_since >= self.settle else None


def _first_usable(found: list[Candidate]) -> Candidate | None:
    return next((candidate for candidate in found if candidate.network), None)
