"""Which pod the runtime talks about: the K8S_* pairs of CNI_ARGS."""

from __future__ import annotations

from dataclasses import dataclass

from cni.kube import objects
from cni.spec import args
from cni.spec.errors import InvalidConfiguration, InvalidEnvironment

NAMESPACE = "K8S_POD_NAMESPACE"
NAME = "K8S_POD_NAME"
UID = "K8S_POD_UID"
INFRA = "K8S_POD_INFRA_CONTAINER_ID"
FIRST = ("IgnoreUnknown", NAMESPACE, NAME, INFRA, UID)


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

    def delegate_args(self, **more: str) -> str:
        """CNI_ARGS for a delegate: the runtime's pairs, in a fixed order, and `more`."""
        ordered = {"IgnoreUnknown": "true"} | {key: self.pairs[key] for key in FIRST[1:] if key in self.pairs}
        rest = {key: value for key, value in self.pairs.items() if key not in FIRST}
        return args.join(ordered | rest | more)


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
