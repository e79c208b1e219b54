"""What the parts of a cluster know each other by: one certificate authority, a token for each, kubeconfigs."""

import json
import secrets
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from cluster_machine import SERVICE

ADMINISTRATOR = "administrator"
USERS = {
    ADMINISTRATOR: "system:masters",
    "system:node:localhost": "system:nodes",
    "system:kube-controller-manager": "",
    "system:kube-scheduler": "",
}
"""Users, and the group of each."""
SERVER = "https://127.0.0.1"
REQUEST = [
    "openssl",
    "req",
    "-x509",
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:prime256v1",
    "-nodes",
    "-days",
    "2",
]


@dataclass(frozen=True)
class Credentials:
    """Files in a directory that only root reads."""

    directory: Path
    tokens: dict[str, str] = field(default_factory=lambda: {user: secrets.token_hex(16) for user in USERS})

    @property
    def certificate(self) -> Path:
        """Of the API server, and of the authority that vouches for it: itself."""
        return self.directory / "server.crt"

    @property
    def key(self) -> Path:
        """The API server's; it signs the tokens of service accounts too."""
        return self.directory / "server.key"

    @property
    def token_file(self) -> Path:
        """The API server's list of users."""
        return self.directory / "tokens.csv"

    def create(self) -> None:
        """Make them all."""
        self.directory.mkdir(mode=0o700)
        names = f"subjectAltName=IP:127.0.0.1,IP:{SERVICE},DNS:localhost"
        files = ["-keyout", str(self.key), "-out", str(self.certificate)]
        subprocess.run(
            [*REQUEST, *files, "-subj", "/CN=plexus-tests", "-addext", names], check=True, capture_output=True
        )
        lines = [f'{token},{user},{user},"{USERS[user]}"' for user, token in self.tokens.items()]
        self.token_file.write_text("\n".join(lines) + "\n")

    def kubeconfig(self, user: str) -> Path:
        """The file with which a user reaches the API server."""
        return self.write_kubeconfig(user.rpartition(":")[2], self.tokens[user])

    def write_kubeconfig(self, name: str, token: str) -> Path:
        """Write such a file for the holder of a token."""
        path = self.directory / f"{name}.kubeconfig"
        cluster = {"server": SERVER, "certificate-authority": str(self.certificate)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tests", "cluster": cluster}],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": name}}],
            "current-context": "tests",
        }
        path.write_text(json.dumps(config))
        path.chmod(0o600)
        return path
