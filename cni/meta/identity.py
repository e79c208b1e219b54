"""Which pod the runtime talks about: the K8S_* pairs of CNI_ARGS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cni.kube import objects
from cni.spec import args
from cni.spec.errors import InvalidConfiguration, InvalidEnvironment

NAMESPACE = "K8S_POD_NAMESPACE"
NAME = "K8S_POD_NAME"
UID = "K8S_POD_UID"
INFRA = "K8S_POD_INFRA_CONTAINER_ID"
FIRST = ("IgnoreUnknown", NAMESPACE, NAME, INFRA, UID)
OF_ONE_INTERFACE = ("IP", "GATEWAY", "MAC")
"""What a runtime asks of the interface that it names, which is the cluster network's."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """CNI_ARGS as pairs, and the pod in them: all of its fields are "" for a container that is no pod's."""

    pairs: dict[str, str]
    namespace: str = ""
    name: str = ""
    uid: str = ""

    @property
    def is_pod(self) -> bool:
        """Whether the runtime named a pod."""
        return bool(self.namespace and self.name)

    @property
    def full_name(self) -> str:
        """Namespace and name, joined by a slash."""
        return f"{self.namespace}/{self.name}"

    def delegate_args(self, asked: Mapping[str, str], *, default: bool) -> str:
        """CNI_ARGS for a delegate: the runtime's pairs, in a fixed order, and what the pod asks of this attachment.

        Only the cluster network (`default`) gets what the runtime asks of its interface.
        """
        ordered = {"IgnoreUnknown": "true"} | {key: self.pairs[key] for key in FIRST[1:] if key in self.pairs}
        rest = {key: value for key, value in self.pairs.items() if key not in FIRST}
        kept = {key: value for key, value in rest.items() if default or key not in OF_ONE_INTERFACE}
        return args.join({**ordered, **kept, **asked})


def parse(text: str) -> Identity:
    """Read CNI_ARGS. Raises InvalidEnvironment."""
    pairs = args.parse(text)
    args.ignores_unknown(pairs)
    identity = Identity(
        pairs=pairs, namespace=pairs.get(NAMESPACE, ""), name=pairs.get(NAME, ""), uid=pairs.get(UID, "")
    )
    try:
        for key in (NAMESPACE, NAME) if identity.is_pod else ():
            objects.validate_name(pairs[key], key)
    except InvalidConfiguration as error:
        raise InvalidEnvironment(f"CNI_ARGS: {error.msg}", error.reason, id=error.id) from error
    return identity
