"""etcd, kube-apiserver, kube-controller-manager and kube-scheduler, as few flags as they take."""

import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cluster_machine import ADDRESS, Service
from credentials import Credentials
from installed import PATH
from throwaway import Host

ETCD = "http://127.0.0.1:2379"
AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts:kube-system"]}, {"level": "None"}],
}
"""Which requests are counted: those of the service account that plexus has."""


@dataclass(frozen=True)
class ControlPlane:
    """The services, on a machine; their files and logs are in a directory."""

    host: Host
    directory: Path
    executables: Path
    credentials: Credentials

    @cached_property
    def etcd(self) -> Service:
        words = ["etcd", "--data-dir=/var/lib/etcd", "--unsafe-no-fsync", "--log-level=error"]
        words += [
            f"--listen-client-urls={ETCD}",
            f"--advertise-client-urls={ETCD}",
            "--listen-peer-urls=http://127.0.0.1:2380",
        ]
        return self._service("etcd", [shutil.which("etcd", path=PATH) or "etcd", *words[1:]])

    @cached_property
    def apiserver(self) -> Service:
        policy = self.directory / "audit-policy.json"
        policy.write_text(json.dumps(AUDIT))
        key, certificate = self.credentials.key, self.credentials.certificate
        return self._kubernetes(
            "kube-apiserver",
            f"--etcd-servers={ETCD}",
            "--bind-address=0.0.0.0",
            f"--advertise-address={ADDRESS}",
            "--secure-port=443",
            f"--tls-cert-file={certificate}",
            f"--tls-private-key-file={key}",
            f"--token-auth-file={self.credentials.token_file}",
            f"--service-account-key-file={certificate}",
            f"--service-account-signing-key-file={key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--authorization-mode=Node,RBAC",
            "--allow-privileged=true",
            "--endpoint-reconciler-type=none",
            "--kubelet-preferred-address-types=InternalIP",
            f"--audit-policy-file={policy}",
            f"--audit-log-path={self.audit_log}",
            "--audit-log-mode=blocking",
        )

    @cached_property
    def controller_manager(self) -> Service:
        return self._kubernetes(
            "kube-controller-manager",
            f"--kubeconfig={self.credentials.kubeconfig('system:kube-controller-manager')}",
            f"--service-account-private-key-file={self.credentials.key}",
            f"--root-ca-file={self.credentials.certificate}",
            "--use-service-account-credentials=true",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
        )

    @cached_property
    def scheduler(self) -> Service:
        kubeconfig = self.credentials.kubeconfig("system:kube-scheduler")
        return self._kubernetes(
            "kube-scheduler", f"--kubeconfig={kubeconfig}", "--leader-elect=false", "--bind-address=127.0.0.1"
        )

    @property
    def services(self) -> list[Service]:
        """All, in the order in which they are started."""
        return [self.etcd, self.apiserver, self.controller_manager, self.scheduler]

    @property
    def audit_log(self) -> Path:
        return self.directory / "audit.log"

    def requests(self) -> list[dict[str, Any]]:
        """What plexus has asked the API server so far, as its audit log has it."""
        lines = self.audit_log.read_text().splitlines() if self.audit_log.exists() else []
        return [json.loads(line) for line in lines]

    def _kubernetes(self, name: str, *flags: str) -> Service:
        return self._service(name, [str(self.executables / name), *flags, "--v=1"])

    def _service(self, name: str, words: list[str]) -> Service:
        return Service(self.host, name, words, self.directory / f"{name}.log", {"HOME": "/root"})
