"""What we read of Kubernetes: pods and NetworkAttachmentDefinitions, whatever their source."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cni.spec.errors import InvalidConfiguration

RESOURCE_NAME = "k8s.v1.cni.cncf.io/resourceName"
"""The annotation of a definition whose attachments each take a device of that resource."""
GRANT = "plexus/allowed-namespaces"
"""The annotation of a definition that names, comma-separated, whose pods may use it despite namespace isolation."""
NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
"""A DNS-1123 subdomain, as the API server restricts the names of pods, namespaces and definitions."""
LONGEST_NAME = 253
Devices = Mapping[str, Sequence[str]]
"""Device IDs, sorted, by the name of their resource."""


@dataclass(frozen=True, kw_only=True)
class ExtendedClaim:
    """The ResourceClaim that the scheduler made for the extended resources in a pod's limits."""

    name: str
    requests: tuple[tuple[str, str], ...] = ()
    """(request of the claim, resource) pairs."""


@dataclass(frozen=True, kw_only=True)
class Pod:
    """A pod, as far as its networks are concerned."""

    namespace: str
    name: str
    uid: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)
    node: str = ""
    claims: tuple[str, ...] = ()
    """Names of its ResourceClaims."""

    extended_claim: ExtendedClaim | None = None

    @property
    def full_name(self) -> str:
        """Namespace and name, joined by a slash."""
        return f"{self.namespace}/{self.name}"

    @property
    def is_static(self) -> bool:
        """Whether the kubelet made it from a file or URL: its UID in the API is then another than the runtime's."""
        return self.annotations.get("kubernetes.io/config.source", "api") != "api"


@dataclass(frozen=True, kw_only=True)
class NetworkAttachmentDefinition:
    """A network that pods can ask for; an empty `config` means a file of that name on the node."""

    namespace: str
    name: str
    config: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def full_name(self) -> str:
        """Namespace and name, joined by a slash."""
        return f"{self.namespace}/{self.name}"

    @property
    def resource(self) -> str:
        """The resource that its attachments take devices of, or ""."""
        return self.annotations.get(RESOURCE_NAME, "").strip()

    @property
    def granted_namespaces(self) -> tuple[str, ...]:
        """Namespaces, or patterns of them, whose pods may use it wherever they are."""
        return tuple(filter(None, map(str.strip, self.annotations.get(GRANT, "").split(","))))


def is_name(text: str) -> bool:
    """Whether Kubernetes takes `text` as a name; such a name is also safe as a file's."""
    return len(text) <= LONGEST_NAME and NAME.fullmatch(text) is not None


def validate_name(text: str, what: str) -> None:
    """Raise InvalidConfiguration unless `text` is a Kubernetes name; `what` says whose."""
    if not is_name(text):
        shown = text if len(text) <= LONGEST_NAME else text[:LONGEST_NAME] + "…"
        raise InvalidConfiguration(
            f"{what} {shown!r} is not a Kubernetes name",
            "lower-case letters, digits, `-` and `.`, at most 253 characters",
            id="PLX-NAME",
        )
