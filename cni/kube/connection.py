"""One connection to the API server: credentials, TLS, and what an answer means. Only here is `kubernetes` imported."""

from __future__ import annotations

import json
import os
from typing import Any

from cni.spec.errors import InvalidConfiguration

MERGE_PATCH = "application/merge-patch+json"
PASSING = (408, 410, 425, 429, 500, 502, 503, 504)
"""Statuses that may be others in a moment: the server is starting, overloaded, or electing a leader."""


class Refused(Exception):
    """The server answered, and not with what was asked for."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"the API server answered {status}: {reason}")
        self.status = status


class Passing(Exception):
    """No answer, or one that may be another in a moment."""


class Unauthorized(Passing):
    """The credentials are not accepted (any more)."""


class Connection:
    """Requests to the API server that `kubeconfig` names, or to that of the cluster we run in when it is ""."""

    def __init__(self, kubeconfig: str = "") -> None:
        self.kubeconfig = kubeconfig
        self._client: Any = None
        self._read_at: float | None = None

    def request(self, method: str, path: str, *, body: Any = None, patch: bool = False, timeout: float) -> Any:
        """Send one request, wait `timeout` seconds at most, and return the JSON of the answer.

        Raises Refused, Passing, Unauthorized; InvalidConfiguration when the credentials cannot be read.
        """
        import urllib3

        client = self._fresh_client()
        headers = {"Accept": "application/json", "Content-Type": MERGE_PATCH if patch else "application/json"}
        headers |= _authorization(client.configuration)
        url = client.configuration.host + path
        try:
            answer = client.rest_client.request(method, url, headers=headers, body=body, _request_timeout=timeout)
            text = answer.read()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Passing(_reason(error)) from error
        if not 200 <= answer.status < 300:
            raise _understood(answer.status, _message(text, answer.reason))
        return _decoded(text)

    def refresh(self) -> None:
        """Read the credentials anew at the next request: a token is replaced before it expires."""
        self._client = None

    def _fresh_client(self) -> Any:
        changed_at = _changed_at(self.kubeconfig)
        if self._client is None or changed_at != self._read_at:
            self._client = _client(self.kubeconfig)
            self._read_at = changed_at
        return self._client


def _client(kubeconfig: str) -> Any:
    import yaml
    from kubernetes import client, config
    from kubernetes.config.config_exception import ConfigException

    configuration = client.Configuration()
    configuration.retries = False  # whoever asks knows how long it may take
    try:
        if kubeconfig:
            config.load_kube_config(kubeconfig, client_configuration=configuration, persist_config=False)
        else:
            config.load_incluster_config(client_configuration=configuration)
    except (ConfigException, yaml.YAMLError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        # The text may quote the file, and the file holds a token.
        raise InvalidConfiguration(
            f'could not read the kubeconfig "{kubeconfig}"' if kubeconfig else "could not read the service account",
            f"{type(error).__name__}: is it there, and complete?",
            id="PLX-KUBECONFIG",
        ) from None
    return client.ApiClient(configuration)


def _authorization(configuration: Any) -> dict[str, str]:
    settings = configuration.auth_settings().values()
    return {setting["key"]: setting["value"] for setting in settings if setting["in"] == "header" and setting["value"]}


def _understood(status: int, reason: str) -> Exception:
    if status == 401:
        return Unauthorized("the API server does not accept our credentials (401)")
    if status in PASSING:
        return Passing(f"the API server answered {status}: {reason}")
    return Refused(status, reason)


def _message(text: bytes, reason: str) -> str:
    """What the server says, where it says it in its own way."""
    try:
        return str(json.loads(text)["message"])
    except (TypeError, ValueError, KeyError):
        return reason


def _decoded(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:  # cut short, or somebody else's answer
        raise Passing(f"the answer is no JSON: {text[:60]!r}") from error


def _reason(error: Exception) -> str:
    cause = getattr(error, "reason", None) or error
    return f"{type(cause).__name__}: {str(cause).splitlines()[0] if str(cause) else 'no answer'}"


def _changed_at(path: str) -> float | None:
    try:
        return os.stat(path).st_mtime if path else None
    except OSError:
        return None
