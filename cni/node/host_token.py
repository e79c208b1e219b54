"""The token that plugins on the host use: one of our service account's that outlives the pod in which we ask for it.

The token that the kubelet gives a pod ends with the pod: by each update of the node agent, and by its end, the API
server would refuse every ADD of the node.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cni.kube.connection import Connection, Passing, Refused
from cni.spec.errors import InvalidConfiguration

log = logging.getLogger(__name__)

LIFETIME = 7 * 24 * 3600
"""Seconds: how long pods can be attached when the agent cannot run any more."""
RENEWAL = 3600.0
"""Seconds after which a token is replaced."""
RETRY = 30.0
"""Seconds between two questions that found no answer."""
TIMEOUT = 5.0
NO_SUCH_BINDING = (400, 422)
"""How a server before Kubernetes 1.31 answers when it is asked for a token that ends with the node."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Whose token it is, and on which node it is kept."""

    namespace: str
    account: str
    node: str

    @classmethod
    def find(cls, environ: Mapping[str, str]) -> Holder | None:
        """What the DaemonSet tells its pods of themselves, or None outside of it."""
        keys = {"namespace": "PLEXUS_NAMESPACE", "account": "PLEXUS_SERVICE_ACCOUNT", "node": "PLEXUS_NODE_NAME"}
        told = {field: environ.get(key, "") for field, key in keys.items()}
        return cls(**told) if all(told.values()) else None


class HostToken:
    """Asks for tokens, and replaces each long before it ends (TokenRequest of authentication.k8s.io/v1)."""

    def __init__(self, connection: Connection, holder: Holder, clock: Callable[[], float]) -> None:
        self._connection = connection
        self._holder = holder
        self._clock = clock
        self._ask_at = 0.0
        self._token: str | None = None
        self._told = ""

    def get(self) -> str | None:
        """The newest one; None while the API server has not answered, "" where it gives us none."""
        now = self._clock()
        if now >= self._ask_at:
            self._ask_at = now + (RENEWAL if self._renew() else RETRY)
        return self._token

    def _renew(self) -> bool:
        """Ask for another one; whether there was an answer."""
        try:
            self._token = self._request()
            problem = ""
        except Refused as error:
            self._token = ""
            problem = f"{error}; the pod's own token is used, which ends with the pod: see the Role of plexus"
        except (Passing, InvalidConfiguration) as error:
            problem = str(error)
        if problem and problem != self._told:
            log.warning("could not get a token for the plugins on the host: %s", problem)
        self._told = problem
        return not problem

    def _request(self) -> str:
        node = {"apiVersion": "v1", "kind": "Node", "name": self._holder.node}
        try:
            return self._post({"expirationSeconds": LIFETIME, "boundObjectRef": node})
        except Refused as error:
            if error.status not in NO_SUCH_BINDING:
                raise
        return self._post({"expirationSeconds": LIFETIME})

    def _post(self, spec: dict[str, Any]) -> str:
        path = f"/api/v1/namespaces/{self._holder.namespace}/serviceaccounts/{self._holder.account}/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        answer = self._connection.request("POST", path, body=body, timeout=TIMEOUT)
        try:
            return str(answer["status"]["token"])
        except (KeyError, TypeError):
            raise Passing("the API server's answer has no token") from None
