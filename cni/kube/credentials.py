"""How to reach an API server, and as whom.

The usual kubeconfig, with the authority's certificates and a token, is read here. All others, and the service account,
are read by the `kubernetes` library, which takes longer to import than a pod's networks take to be asked for.
"""

from __future__ import annotations

import json
import os
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cni.plugin import files
from cni.spec.errors import InvalidConfiguration, IOFailure

AT_ONCE = 4
"""Questions that a call asks at the same time."""
OPEN = 16
"""Connections that are kept open, once they were needed: a process may serve as many calls."""
PLAIN = {"cluster": {"server", "certificate-authority", "certificate-authority-data"}, "user": {"token"}}
"""What we read ourselves; whatever is there besides changes what is meant."""


@dataclass(frozen=True, kw_only=True)
class Client:
    """An API server, with the connections to it that are kept open."""

    server: str
    pool: Any
    """A urllib3.PoolManager, without retries."""

    authorization: Callable[[], Mapping[str, str]]
    """The headers that say who asks; a library may renew them."""


def load(kubeconfig: str) -> Client:
    """The client of a kubeconfig, or of the pod that we run in where it is "". Raises InvalidConfiguration."""
    return _plain(kubeconfig) or _by_library(kubeconfig)


def wrong(kubeconfig: str, reason: str) -> InvalidConfiguration:
    """The error of credentials that cannot be used; the reason quotes none of them."""
    what = f'the kubeconfig "{kubeconfig}"' if kubeconfig else "the service account"
    return InvalidConfiguration(f"could not read {what}", reason, id="PLX-KUBECONFIG")


def _plain(path: str) -> Client | None:
    """The client of a kubeconfig that says no more than PLAIN; None for any other, and for one that is wrong."""
    if not path or any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    try:
        cluster, user = _current(_parse((files.read(path) or b"").decode()))
        if cluster.keys() - PLAIN["cluster"] or user.keys() - PLAIN["user"]:
            return None
        server = cluster["server"].rstrip("/")
        pool = _pool(_trusting(cluster, os.path.dirname(path)) if server.startswith("https://") else None)
        token = f"Bearer {user['token']}"
        return Client(server=server, pool=pool, authorization=lambda: {"authorization": token})
    except Exception:  # noqa: BLE001 - the library says what is wrong with a file that is wrong in a hundred ways
        return None


def _parse(text: str) -> Any:
    if text.startswith("{"):  # JSON is YAML too, and half as long to read
        return json.loads(text)
    import yaml

    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe


def _current(data: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Cluster and user of the current context. Raises KeyError, ValueError, TypeError or so where there is none."""
    context = _named(data["contexts"], data["current-context"])["context"]
    cluster = _named(data["clusters"], context["cluster"])["cluster"]
    return cluster, _named(data["users"], context["user"])["user"]


def _named(items: Any, name: Any) -> Any:
    (found,) = (item for item in items if item["name"] == name)
    return found


def _trusting(cluster: Mapping[str, str], directory: str) -> Any:
    """A TLS context for all connections: reading the certificates takes as long as to connect."""
    import ssl

    if "certificate-authority-data" in cluster:
        return ssl.create_default_context(cadata=b64decode(cluster["certificate-authority-data"]).decode())
    return ssl.create_default_context(cafile=os.path.join(directory, cluster["certificate-authority"]))


def _pool(context: Any) -> Any:
    import urllib3

    return urllib3.PoolManager(num_pools=1, maxsize=OPEN, retries=False, ssl_context=context)


def _by_library(kubeconfig: str) -> Client:
    import yaml
    from kubernetes import client, config
    from kubernetes.config.config_exception import ConfigException

    configuration = client.Configuration()
    configuration.retries = False  # whoever asks knows how long it may take
    configuration.connection_pool_maxsize = OPEN
    try:
        if kubeconfig:
            files.read(kubeconfig)  # the library itself would wait for who writes to a FIFO
            config.load_kube_config(kubeconfig, client_configuration=configuration, persist_config=False)
        else:
            config.load_incluster_config(client_configuration=configuration)
    except IOFailure as error:
        raise wrong(kubeconfig, error.reason) from None
    except (ConfigException, yaml.YAMLError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        # The text may quote the file, and the file holds a token.
        raise wrong(kubeconfig, f"{type(error).__name__}: is it there, and complete?") from None
    pool = client.ApiClient(configuration).rest_client.pool_manager
    return Client(server=configuration.host, pool=pool, authorization=lambda: _authorization(configuration))


def _authorization(configuration: Any) -> dict[str, str]:
    settings = configuration.auth_settings().values()
    return {setting["key"]: setting["value"] for setting in settings if setting["in"] == "header" and setting["value"]}
