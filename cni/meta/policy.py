"""What the definitions of each namespace may say, where the node's configuration has a `policy`.

The rule of a definition's namespace counts, wherever the pod is that uses it: its author is who could do harm.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Any

import pydantic

from cni.meta.untrusted import HostPath, matches
from cni.spec import model, netconf
from cni.spec.document import Document, kind
from cni.spec.errors import InvalidConfiguration
from cni.spec.model import InvalidAddress, Many, Model, parse_address, parse_cidr

LAST_VLAN = 4094
VLANS = re.compile(r"(\d{1,4})(?:-(\d{1,4}))?")
DELEGATING = ("ipam", "delegate", "delegates", "plugins")
"""Keys below which a plugin finds others that it executes."""
ON_BRIDGES = ("bridge", "ovs", "sriov")
"""Types whose attachments are in the untagged network unless they name a VLAN."""
ON_MASTERS = ("macvlan", "ipvlan")
"""Types that take the default route's interface unless they name one."""
VLAN_KEYS = ("vlan", "vlanid", "vlan_id")
TRUNK_KEYS = ("vlantrunk", "trunk")
ADDRESS_KEYS = frozenset(
    ("subnet", "gateway", "range", "rangestart", "rangeend", "range_start", "range_end", "address", "addresses", "ips")
)
"""Keys whose texts are addresses that somebody gets, folded."""
ADDRESSED = ("ipam", "runtimeconfig", "args")
"""Where such keys are looked for."""
FREE_KEYS = frozenset(("type", "name", "cniversion", "capabilities", "ipam.type"))
"""Keys that `keys` need not list."""


def _network(value: Any) -> IPv4Network | IPv6Network:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    if not isinstance(value, str):
        raise ValueError(f"must be a string, not {kind(value)}")
    try:
        return ip_network(value)
    except ValueError as error:
        raise ValueError(f"{error}: a network is wanted, for example 10.1.0.0/16") from error


def _vlans(value: Any) -> range:
    if isinstance(value, range):
        return value
    found = VLANS.fullmatch(str(value)) if isinstance(value, int | str) and not isinstance(value, bool) else None
    if found is None:
        raise ValueError(f'{value!r} must be a VLAN or a range of them, for example 100 or "100-199"')
    first, last = int(found[1]), int(found[2] or found[1])
    if not first <= last <= LAST_VLAN:
        raise ValueError(f"{value!r} must be between 0 (untagged) and {LAST_VLAN}, the lower number first")
    return range(first, last + 1)


Network = Annotated[IPv4Network | IPv6Network, pydantic.PlainValidator(_network)]
VLANs = Annotated[range, pydantic.PlainValidator(_vlans)]


class Rule(Model):
    """What the definitions of some namespaces may say; a key that is left out limits nothing."""

    namespaces: Annotated[Many[str], pydantic.Field(min_length=1)]
    """Names; `*` stands for any characters, here and in all that follows."""

    plugins: Many[str] | None = None
    """Types, those of IPAM plugins and other delegates too."""

    bridges: Many[str] | None = None
    masters: Many[str] | None = None
    """Interfaces of the host that `master` names; "" for that of the default route, where it names none."""

    vlans: Many[VLANs] | None = None
    """0 for the untagged network."""

    subnets: Many[Network] | None = None
    keys: Many[Annotated[str, pydantic.AfterValidator(str.casefold)]] | None = None
    """Of a plugin's configuration, as JSON paths; each with all that is below."""

    files: Many[str] | None = None
    """Networks of `confDir` that a definition without a configuration may stand for."""

    host_paths: Many[HostPath] = ()
    """Paths of the host that they may name, besides those that all may."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        """A rule with a misspelt key would limit less than its author means."""
        known = {(field.alias or name).lower(): field.alias for name, field in cls.model_fields.items()}
        for key in data if isinstance(data, Mapping) else ():
            if key.lower() not in known and key not in cls.model_fields:
                raise ValueError(f"has no key `{key}`: it may have {', '.join(map(str, known.values()))}")
        return data

    def problems(self, plugin: Document) -> Iterator[tuple[str, str]]:
        """For everything in a plugin's configuration that the rule does not allow: its own key, and what it forbids."""
        found = {
            "plugins": (self.plugins, _types(plugin)),
            "bridges": (self.bridges, _bridges(plugin)),
            "masters": (self.masters, _masters(plugin)),
        }
        for key, (patterns, names) in found.items():
            for name in names if patterns is not None else ():
                if not matches(name, patterns or ()):
                    yield key, f'{key.removesuffix("s")} "{name}"'
        yield from (("vlans", problem) for problem in self._vlan_problems(plugin))
        yield from self.address_problems(plugin)
        yield from self.key_problems(plugin)

    def address_problems(self, data: Document) -> Iterator[tuple[str, str]]:
        """The same for addresses alone."""
        for text in _addresses(data) if self.subnets is not None else ():
            if not any(_is_within(text, subnet) for subnet in self.subnets or ()):
                yield "subnets", f'addresses of "{text}"'

    def key_problems(self, data: Document) -> Iterator[tuple[str, str]]:
        """The same for keys alone."""
        for path in _unlisted(data, self.keys) if self.keys is not None else ():
            yield "keys", f"the key `{path}`"

    def allowed(self, key: str) -> str:
        """What the rule allows under a key, for people."""
        values = getattr(self, key) or ()
        return ", ".join(map(_told, values)) or "none"

    def _vlan_problems(self, plugin: Document) -> Iterator[str]:
        if self.vlans is not None:
            for vlan in sorted(_vlans_of(plugin).difference(*self.vlans), key=str):
                yield "the untagged network" if vlan == 0 else f"VLAN {vlan}"


class Policy(Model):
    """The rules of a node. The first that has a namespace is the namespace's; without one, nothing is allowed there."""

    rules: Many[Rule] = pydantic.Field(alias="policy")

    def check(self, namespace: str, plugins: Iterable[Document], what: str) -> None:
        """Raise InvalidConfiguration for the first thing in a definition's plugins that its namespace may not say."""
        index, rule = self._rule_of(namespace, what)
        for plugin in plugins:
            for key, problem in rule.problems(plugin):
                raise _refused(
                    index, rule, key, f'a definition of namespace "{namespace}" may not have {problem}', what
                )

    def check_request(self, namespace: str, ips: Sequence[str], cni_args: Document, what: str) -> None:
        """The same for what a pod asks of a network whose definition is in `namespace`."""
        index, rule = self._rule_of(namespace, what)
        addresses = rule.address_problems({"args": {"ips": list(ips), "cni": cni_args}})
        keys = rule.key_problems({"args": {"cni": cni_args}} if cni_args else {})
        for key, problem in (*addresses, *keys):
            raise _refused(index, rule, key, f"a pod may not ask it for {problem}", what)

    def check_file(self, namespace: str, network: str, what: str) -> None:
        """The same for a definition that stands for a network of the node's `confDir`."""
        index, rule = self._rule_of(namespace, what)
        if rule.files is not None and not matches(network, rule.files):
            problem = f'a definition of namespace "{namespace}" may not stand for the node\'s network "{network}"'
            raise _refused(index, rule, "files", problem, what)

    def paths_for(self, namespace: str, what: str) -> tuple[str, ...]:
        """Paths of the host that the namespace's definitions may name. Raises InvalidConfiguration."""
        return self._rule_of(namespace, what)[1].host_paths

    def _rule_of(self, namespace: str, what: str) -> tuple[int, Rule]:
        for index, rule in enumerate(self.rules):
            if matches(namespace, rule.namespaces):
                return index, rule
        raise InvalidConfiguration(
            f'could not use {what}: no definition of namespace "{namespace}" may be used',
            "`policy` of the node's configuration has no rule for that namespace: have one added, or use a network of"
            " another namespace",
            id="PLX-POLICY",
        )


def parse(rules: Sequence[Document]) -> Policy:
    """Read the node's policy. Raises InvalidConfiguration, naming the value that is wrong."""
    return model.parse(Policy, {"policy": list(rules)}, "the node's configuration")


def _refused(index: int, rule: Rule, key: str, problem: str, what: str) -> InvalidConfiguration:
    return InvalidConfiguration(
        f"could not use {what}: {problem}",
        f"`policy[{index}].{key}` of the node's configuration, for namespaces {', '.join(rule.namespaces)}, allows"
        f" {rule.allowed(key)}: use one of these, or have it changed there",
        id="PLX-POLICY",
    )


def _told(value: Any) -> str:
    if isinstance(value, range):
        return str(value[0]) if len(value) == 1 else f"{value[0]}-{value[-1]}"
    return str(value) or '""'


def _every(data: Document, *keys: str) -> Iterator[Any]:
    """The values of the keys in any case: of several that differ in case, others may take another than we do."""
    return (value for key, value in data.items() if key.casefold() in keys and value is not None)


def _types(plugin: Document) -> Iterator[str]:
    yield from (str(value) for value in _every(plugin, "type") if value != "")
    for value in _every(plugin, *DELEGATING):
        for delegate in value if isinstance(value, list) else [value]:
            if isinstance(delegate, dict):
                yield from _types(delegate)


def _bridges(plugin: Document) -> Iterator[str]:
    named = [str(value) for value in _every(plugin, "bridge")]
    yield from named or (["cni0"] if netconf.plugin_type(plugin) == "bridge" else [])


def _masters(plugin: Document) -> Iterator[str]:
    named = [str(value) for value in _every(plugin, "master")]
    yield from named or ([""] if netconf.plugin_type(plugin) in ON_MASTERS else [])


def _vlans_of(plugin: Document) -> set[Any]:
    """Every VLAN that the attachment is in; what is no number as it is written."""
    found = {_number(value) for value in _every(plugin, *VLAN_KEYS)}
    trunks = [entry for value in _every(plugin, *TRUNK_KEYS) for entry in (value if isinstance(value, list) else [0])]
    untagged = not found and not trunks and netconf.plugin_type(plugin) in ON_BRIDGES
    if untagged or any(_every(plugin, "preservedefaultvlan")):
        found.add(0)
    return found.union(*map(_vlans_of_trunk, trunks))


def _vlans_of_trunk(entry: Any) -> set[Any]:
    if not isinstance(entry, dict):
        return {_number(entry)}
    ids = {_number(value) for value in _every(entry, "id")}
    bounds = {_number(value) for value in _every(entry, "minid", "maxid")}
    if not bounds or not all(isinstance(bound, int) for bound in bounds):
        return ids | bounds
    first, last = (min(max(bound, 0), LAST_VLAN + 1) for bound in (min(bounds), max(bounds)))
    return ids | set(range(first, last + 1))


def _number(value: Any) -> Any:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= len(str(LAST_VLAN)):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else repr(value)


def _addresses(plugin: Document) -> Iterator[str]:
    for value in _every(plugin, *ADDRESSED):
        yield from _addresses_in(value, named=False)


def _addresses_in(value: Any, *, named: bool) -> Iterator[str]:
    if isinstance(value, str) and named and value:
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _addresses_in(item, named=named)
    elif isinstance(value, dict):
        for key, below in value.items():
            yield from _addresses_in(below, named=key.casefold() in ADDRESS_KEYS)


def _is_within(text: str, subnet: IPv4Network | IPv6Network) -> bool:
    """Whether all of an address, a network, or whereabouts' `first-last/length`, is in the subnet."""
    first, dash, rest = text.partition("-")
    last, slash, length = rest.partition("/")
    if dash:
        bounds = [first.strip(), last.strip() + slash + length]
        return all(_is_within(bound, subnet) for bound in bounds)
    try:
        network = parse_cidr(text).network if "/" in text else ip_network(parse_address(text))
    except InvalidAddress:
        return False
    return network.version == subnet.version and network.subnet_of(subnet)  # type: ignore[arg-type]


def _unlisted(data: Document, listed: Sequence[str], place: str = "") -> Iterator[str]:
    """The paths of keys that no pattern lists, nor one of the objects that they are in."""
    for key, value in data.items():
        path = f"{place}{key.casefold()}"
        if path in FREE_KEYS or matches(path, listed):
            continue
        if isinstance(value, dict) and value:
            yield from _unlisted(value, listed, f"{path}.")
        else:
            yield path
