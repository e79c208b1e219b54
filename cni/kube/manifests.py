"""The source for a machine without Kubernetes: a directory of manifests, and a directory for network-status."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cni.kube.objects import Devices, NetworkAttachmentDefinition, Pod
from cni.plugin import files
from cni.spec.errors import CNIError, DecodingFailure, InvalidConfiguration, IOFailure, PluginUnavailable, TryAgainLater

if TYPE_CHECKING:
    import yaml

SUFFIXES = (".yaml", ".yml", ".json")
KINDS = ("Pod", "NetworkAttachmentDefinition")
Key = tuple[str, str, str]
"""Kind, namespace, name."""
Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class Manifest:
    """One file: the objects in it, or why it cannot be read."""

    path: str
    objects: Mapping[Key, Mapping[str, Any]]
    failure: CNIError | None = None


class Manifests:
    """Pods and NetworkAttachmentDefinitions from `*.yaml`, `*.yml` and `*.json` files; read again when they change."""

    questions_at_once = 1

    def __init__(self, directory: str, status_directory: str) -> None:
        self.directory = directory
        self.status_directory = status_directory
        self._read: dict[str, tuple[Stamp, Manifest]] = {}

    def get_pod(self, namespace: str, name: str, uid: str = "") -> Pod:  # noqa: ARG002 - nothing is remembered
        """Return the pod. Raises TryAgainLater when no manifest defines it, DecodingFailure when one is broken."""
        data = self._find("Pod", namespace, name)
        if data is None:
            raise TryAgainLater(
                f'could not find pod "{namespace}/{name}"',
                f'no manifest in "{self.directory}" defines it; which networks it wants is unknown',
                id="PLX-POD-UNKNOWN",
            )
        metadata = data["metadata"]
        return Pod(
            namespace=namespace,
            name=name,
            uid=str(metadata.get("uid") or ""),
            annotations=_annotations(metadata, f'pod "{namespace}/{name}"'),
        )

    def find_network(self, namespace: str, name: str) -> NetworkAttachmentDefinition | None:
        """Return the definition, or None. Raises DecodingFailure when it may be in a manifest that is broken."""
        data = self._find("NetworkAttachmentDefinition", namespace, name)
        if data is None:
            return None
        what = f'NetworkAttachmentDefinition "{namespace}/{name}"'
        spec = data.get("spec") or {}
        config = spec.get("config") if isinstance(spec, Mapping) else spec
        if config is not None and not isinstance(config, str):
            raise InvalidConfiguration(
                f"could not read {what}", "`spec.config` must be a string that holds JSON", id="PLX-NAD-CONFIG"
            )
        annotations = _annotations(data["metadata"], what)
        return NetworkAttachmentDefinition(namespace=namespace, name=name, config=config or "", annotations=annotations)

    def claimed_devices(self, pod: Pod, resources: Collection[str]) -> Devices:  # noqa: ARG002 - as all sources
        """None: there are no ResourceClaims in manifests."""
        return {}

    def is_claimable(self, pod: Pod, resource: str) -> bool:  # noqa: ARG002 - as all sources
        """Never: there are no ResourceSlices in manifests either."""
        return False

    def check_ready(self) -> None:
        """Raise PluginUnavailable unless the directory, and every manifest in it, can be read."""
        try:
            failures = [manifest.failure for manifest in self._manifests() if manifest.failure]
        except TryAgainLater as error:
            failures = [error]
        if failures:
            raise PluginUnavailable(failures[0].msg, failures[0].reason, id=failures[0].id)

    def publish(self, pod: Pod, status: str) -> None:
        """Write `<status directory>/<namespace>/<pod>.json`. Raises IOFailure."""
        path = self._status_path(pod.namespace, pod.name)
        files.ensure_directory(os.path.dirname(path), 0o755)
        files.replace(path, status.encode(), 0o644)

    def announce(self, pod: Pod, reason: str, message: str, *, warning: bool = False) -> None:
        """Tell nobody: manifests have no events."""

    def withdraw(self, namespace: str, name: str, is_ours: Callable[[str], bool] | None = None) -> None:
        """Remove the pod's file, unless another sandbox of the pod has written its own by now. Raises IOFailure."""
        path = self._status_path(namespace, name)
        with contextlib.suppress(IOFailure):  # what stays is found by who cleans up
            files.sweep(os.path.dirname(path), of=os.path.basename(path))
        try:
            present = files.read_own(path)
        except files.Unusable:
            files.clear(path)
            return
        if present is not None and (is_ours is None or is_ours(present.decode(errors="replace"))):
            files.remove(path)

    def _status_path(self, namespace: str, name: str) -> str:
        return os.path.join(self.status_directory, namespace, f"{name}.json")

    def _find(self, kind: str, namespace: str, name: str) -> Mapping[str, Any] | None:
        key = (kind, namespace, name)
        manifests = list(self._manifests())
        holding = [manifest for manifest in manifests if key in manifest.objects]
        if len(holding) > 1:
            places = " and ".join(f'"{manifest.path}"' for manifest in holding)
            raise InvalidConfiguration(
                f'could not tell which {kind} "{namespace}/{name}" is meant',
                f"{places} define it: remove one",
                id="PLX-MANIFEST-TWICE",
            )
        if holding:
            return holding[0].objects[key]
        for manifest in manifests:
            if manifest.failure:  # what we look for may be in there
                raise manifest.failure
        return None

    def _manifests(self) -> Iterator[Manifest]:
        try:
            names = sorted(os.listdir(self.directory))
        except OSError as error:
            raise TryAgainLater(
                f'could not read the manifests in "{self.directory}"',
                f"{os.strerror(error.errno or 0)}; set `manifests` to the directory that holds them",
                id="PLX-MANIFESTS",
            ) from error
        for name in names:
            if name.endswith(SUFFIXES) and not name.startswith("."):
                yield self._manifest(os.path.join(self.directory, name))

    def _manifest(self, path: str) -> Manifest:
        try:
            stat = os.stat(path)
            stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            known = self._read.get(path)
            if known is None or known[0] != stamp:
                known = self._read[path] = (stamp, _load(path))
            return known[1]
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            return Manifest(path, {}, TryAgainLater(f'could not read "{path}"', reason, id="PLX-MANIFESTS"))


def _load(path: str) -> Manifest:
    import yaml  # DEL only takes a network-status back, and reads no manifest

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        content = files.read(path)
        if content is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        documents = list(yaml.load_all(content, loader))
    except IOFailure as error:
        return Manifest(path, {}, TryAgainLater(error.msg, error.reason, id="PLX-MANIFESTS"))
    except yaml.YAMLError as error:
        failure = DecodingFailure(f'could not read the manifest "{path}"', _where(error), id="PLX-MANIFEST-YAML")
        return Manifest(path, {}, failure)
    except (ValueError, RecursionError) as error:  # a date that is none, a nesting without end
        return Manifest(path, {}, DecodingFailure(f'could not read the manifest "{path}"', str(error)))
    return Manifest(path, dict(_objects(documents)))


def _objects(documents: list[Any]) -> Iterator[tuple[Key, Mapping[str, Any]]]:
    for data in documents:
        if not isinstance(data, Mapping):
            continue
        if isinstance(data.get("items"), list):
            yield from _objects(data["items"])
        metadata = data.get("metadata")
        if data.get("kind") in KINDS and isinstance(metadata, Mapping):
            yield (str(data["kind"]), str(metadata.get("namespace") or "default"), str(metadata.get("name"))), data


def _annotations(metadata: Mapping[str, Any], what: str) -> dict[str, str]:
    annotations = metadata.get("annotations") or {}
    if not isinstance(annotations, Mapping):
        raise InvalidConfiguration(f"could not read {what}", "`metadata.annotations` must be an object")
    for key, value in annotations.items():
        if not isinstance(value, str):
            raise InvalidConfiguration(
                f"could not read {what}", f"the annotation `{key}` must be a string: quote it", id="PLX-ANNOTATION"
            )
    return dict(annotations)


def _where(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    context = getattr(error, "context", None)
    begun = getattr(error, "context_mark", None)
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    since = f", {context} that begins on line {begun.line + 1}" if context and begun else ""
    return f"{place}{problem}{since}"
