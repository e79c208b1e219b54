"""What `bridge` and `veth` read from their network configurations."""

from __future__ import annotations

import contextlib

import pydantic

from cni.spec import args, model, names, netconf, versions
from cni.spec.document import lookup
from cni.spec.errors import CNIError, InvalidConfiguration
from cni.spec.model import Many, Model
from cni.spec.request import Request
from cni.spec.result import DNS
from delegates import mac

MAX_VID = 4094
MIN_MTU, MAX_MTU = 68, 65535
"""What the kernel's drivers for bridge and veth take."""
NFTABLES, IPTABLES, AUTO = "nftables", "iptables", "auto"


class VlanTrunk(Model):
    """VLANs of a trunk: one `id`, all from `min_id` to `max_id`, or both."""

    id: int | None = None
    min_id: int | None = pydantic.Field(default=None, alias="minID")
    max_id: int | None = pydantic.Field(default=None, alias="maxID")

    @pydantic.model_validator(mode="after")
    def _check(self) -> VlanTrunk:
        for name, vid in (("minID", self.min_id), ("maxID", self.max_id), ("id", self.id)):
            if vid is not None and not 1 <= vid <= MAX_VID:
                raise ValueError(f"incorrect trunk {name} parameter: {vid} is not between 1 and {MAX_VID}")
        if (self.min_id is None) != (self.max_id is None):
            missing = "minID" if self.min_id is None else "maxID"
            raise ValueError(f"minID and maxID should be configured simultaneously, {missing} is missing")
        if self.min_id is not None and self.max_id is not None and self.min_id > self.max_id:
            raise ValueError(f"minID is greater than maxID in trunk parameter: {self.min_id} > {self.max_id}")
        return self

    @property
    def vids(self) -> set[int]:
        """Every VLAN of it."""
        single = set() if self.id is None else {self.id}
        return single | (set(range(self.min_id, self.max_id + 1)) if self.min_id and self.max_id else set())


class CniArgs(Model):
    """The part of `args` that is ours."""

    mac: str = ""


class Args(Model):
    """Values from whoever configured the network."""

    cni: CniArgs = CniArgs()


class RuntimeConfig(Model):
    """Values from the runtime, for the capabilities claimed."""

    mac: str = ""


class AttachmentConf(Model):
    """What both delegates read."""

    ip_masq: bool = False
    ip_masq_backend: str = ""
    """What makes the rules; "" for nftables."""

    mtu: int = 0
    """Bytes; 0 for the bridge's, or the kernel's default."""

    dns: DNS | None = None
    args: Args = Args()
    runtime_config: RuntimeConfig = RuntimeConfig()

    @pydantic.field_validator("mtu")
    @classmethod
    def _check_mtu(cls, value: int) -> int:
        if value and not MIN_MTU <= value <= MAX_MTU:
            raise ValueError(f"{value} is not between {MIN_MTU} and {MAX_MTU}, nor 0 for the kernel's default")
        return value

    @property
    def overrides_dns(self) -> bool:
        """Whether `dns` says anything: an empty list does."""
        return self.dns is not None and bool(self.dns.model_fields_set)


class VethConf(AttachmentConf):
    """What `veth` reads (the reference plugins call it ptp)."""


class BridgeConf(AttachmentConf):
    """What `bridge` reads."""

    bridge: str = "cni0"
    create_bridge: bool = True
    """Whether the bridge is made where it is missing."""

    remove_bridge: bool = False
    """Whether a bridge that we made goes with its last port."""

    is_gateway: bool = False
    is_default_gateway: bool = False
    force_address: bool = False
    hairpin_mode: bool = False
    promisc_mode: bool = False
    vlan: int = 0
    """The VLAN that the attachment is an untagged member of; 0 for none."""

    vlan_trunk: Many[VlanTrunk] | None = None
    preserve_default_vlan: bool = False
    macspoofchk: bool = pydantic.Field(default=False, alias="macspoofchk")
    enabledad: bool = pydantic.Field(default=False, alias="enabledad")
    disable_container_interface: bool = False
    port_isolation: bool = False

    @pydantic.field_validator("bridge")
    @classmethod
    def _check_bridge(cls, value: str) -> str:
        try:
            names.validate_ifname(value)
        except CNIError as error:
            raise ValueError(f'"{value}" cannot be the name of a bridge: {error.msg}') from error
        return value

    @pydantic.field_validator("vlan")
    @classmethod
    def _check_vlan(cls, value: int) -> int:
        if not 0 <= value <= MAX_VID:
            raise ValueError(f"invalid VLAN ID {value} (must be between 0 and {MAX_VID})")
        return value

    @property
    def gateway(self) -> bool:
        """Whether the bridge has the subnet's gateway address."""
        return self.is_gateway or self.is_default_gateway

    @property
    def gateway_name(self) -> str:
        """The link of the host that has the gateway address."""
        return f"{self.bridge}.{self.vlan}" if self.vlan else self.bridge

    @property
    def vlan_filtering(self) -> bool:
        """Whether the bridge must keep VLANs apart; an empty trunk says so too."""
        return self.vlan != 0 or self.vlan_trunk is not None

    @property
    def trunk(self) -> tuple[int, ...]:
        """The VLANs that the attachment is a tagged member of, each once, by number."""
        return tuple(sorted(set().union(*(entry.vids for entry in self.vlan_trunk or ()))))


def bridge(request: Request) -> BridgeConf:
    """Read and check the configuration of a bridge. Raises InvalidConfiguration."""
    conf = model.parse(BridgeConf, request.conf, _what(request))
    layer3 = bool(netconf.ipam_type(request.conf))
    if layer3 and conf.disable_container_interface:
        raise InvalidConfiguration(
            "cannot use IPAM when DisableContainerInterface flag is set",
            "remove `ipam` or `disableContainerInterface`",
            id="PLX-CONF",
        )
    if conf.hairpin_mode and conf.promisc_mode:
        raise InvalidConfiguration(
            "cannot set hairpin mode and promiscuous mode at the same time",
            "remove `hairpinMode` or `promiscMode`",
            id="PLX-CONF",
        )
    if layer3 and conf.gateway:
        _check_gateway_name(conf)
    _check_masquerade(conf, request)
    return conf


def unwanted_bridge(request: Request) -> str:
    """The bridge that is to go with its last port; "" for none, also where the configuration has become unreadable."""
    with contextlib.suppress(InvalidConfiguration):
        keys = {key: lookup(request.conf, key) for key in ("bridge", "removeBridge")}
        conf = model.parse(BridgeConf, keys, _what(request))
        return conf.bridge if conf.remove_bridge else ""
    return ""


def veth(request: Request) -> VethConf:
    """Read and check the configuration of a veth. Raises InvalidConfiguration."""
    conf = model.parse(VethConf, request.conf, _what(request))
    if not netconf.ipam_type(request.conf):
        raise InvalidConfiguration(
            "no plugin name provided", "a veth needs addresses: name a plugin in `ipam.type`", id="PLX-CONF"
        )
    _check_masquerade(conf, request)
    return conf


def require_expressible(request: Request) -> None:
    """Raise InvalidConfiguration when the configuration's version could not tell of an interface without addresses."""
    if not netconf.ipam_type(request.conf) and not versions.at_least(request.cni_version, "0.3.0"):
        raise InvalidConfiguration(
            "cannot convert: no valid IP addresses",
            f'a result of CNI {request.cni_version or versions.UNSTATED} needs one: write `"cniVersion": "0.3.1"`'
            " or newer, or an `ipam`",
            id="PLX-VERSION-NO-IPS",
        )


def requested_mac(conf: AttachmentConf, request: Request, *, strict_args: bool) -> str:
    """The MAC that somebody asked for, or "". With `strict_args`, CNI_ARGS must hold nothing unknown.

    Raises InvalidConfiguration, InvalidEnvironment.
    """
    given = args.known(request.args, ("MAC",)) if strict_args else args.parse(request.args)
    sources = (
        ("runtimeConfig.mac", conf.runtime_config.mac),
        ("args.cni.mac", conf.args.cni.mac),
        ("MAC in CNI_ARGS", given.get("MAC", "")),
    )
    return next((mac.parse(value, source) for source, value in sources if value), "")


def _check_masquerade(conf: AttachmentConf, request: Request) -> None:
    if not conf.ip_masq or not netconf.ipam_type(request.conf):
        return
    backend = conf.ip_masq_backend
    if backend not in ("", NFTABLES, IPTABLES, AUTO):
        raise InvalidConfiguration(
            f'unknown ipmasq backend "{backend}"',
            f'`ipMasqBackend` may be "{NFTABLES}", "{IPTABLES}" or "{AUTO}"',
            id="PLX-MASQ-BACKEND",
        )


def _check_gateway_name(conf: BridgeConf) -> None:
    try:
        names.validate_ifname(conf.gateway_name)
    except CNIError as error:
        raise InvalidConfiguration(
            f'could not name the gateway interface "{conf.gateway_name}"',
            f"{error.msg}: shorten the bridge's name",
            id="PLX-CONF",
        ) from error


def _what(request: Request) -> str:
    return f'the configuration of network "{request.network}"'
