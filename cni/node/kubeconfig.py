"""The kubeconfig that plugins on the host use: made of the service account of the pod that we run in."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

from cni.plugin import files
from cni.spec.errors import InvalidConfiguration

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
FILE = "plexus.kubeconfig"
CA_FILE = "ca.crt"


@dataclass(frozen=True, kw_only=True)
class ServiceAccount:
    """Where the kubelet keeps the pod's credentials, which it replaces now and then, and the API server's address."""

    directory: str
    server: str

    def kubeconfig(self, ca_path: str, token: str) -> bytes:
        """What a client on the host needs, where the authority's certificates are at the host's `ca_path`."""
        cluster = {"server": self.server, "certificate-authority": ca_path}
        text = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "local", "cluster": cluster}],
            "users": [{"name": "plexus", "user": {"token": token}}],
            "contexts": [{"name": "plexus", "context": {"cluster": "local", "user": "plexus"}}],
            "current-context": "plexus",
        }
        return (json.dumps(text, indent=2) + "\n").encode()  # JSON is YAML too

    def own_token(self) -> str:
        """The token of the pod that we run in. Raises IOFailure, InvalidConfiguration."""
        return self.read("token").decode(errors="replace").strip()

    def read(self, name: str) -> bytes:
        """One of its files. Raises IOFailure; InvalidConfiguration when it is missing or empty."""
        path = os.path.join(self.directory, name)
        content = files.read(path)
        if not (content or b"").strip():
            reason = f'"{path}" is missing or empty: is the service account mounted (automountServiceAccountToken)?'
            raise InvalidConfiguration("could not read the service account", reason, id="PLX-KUBECONFIG")
        return content or b""


def find(directory: str, server: str, environ: Mapping[str, str]) -> ServiceAccount | None:
    """The service account of the pod that we run in, or None where we run in no pod."""
    host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not server and host:
        server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return ServiceAccount(directory=directory, server=server) if server else None


def refresh(account: ServiceAccount, token: str, path: str, local: str) -> bool:
    """Write the kubeconfig that the host calls `path`, and we `local`, if it is not right; whether it was written.

    Without a token, it gets the pod's own. Its directory exists. Raises IOFailure, InvalidConfiguration.
    """
    directory = os.path.dirname(local)
    _replace(os.path.join(directory, CA_FILE), account.read(CA_FILE))
    return _replace(
        local, account.kubeconfig(os.path.join(os.path.dirname(path), CA_FILE), token or account.own_token())
    )


def _replace(path: str, content: bytes) -> bool:
    if files.read(path) == content:
        return False
    files.replace(path, content, 0o600)
    return True
