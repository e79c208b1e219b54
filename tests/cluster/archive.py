"""Images, as the archives that containerd imports: of busybox for the tests' containers, which can also pause."""

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path
from typing import Any

NAME = "localhost/busybox:tests"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""What images call them."""
DIRECTORIES = ("bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "var")
APPLETS = ("sh", "cat", "ip", "nc", "ping", "sleep", "udhcpc", "wget")


def write_busybox(path: Path, busybox: Path) -> None:
    """Write the image of the tests' containers."""
    write(path, NAME, _layer(busybox), {"Cmd": ["/bin/sleep", "2147483647"], "Env": ["PATH=/bin"]})


def write(path: Path, name: str, layer: bytes, settings: dict[str, Any]) -> None:
    """Write an archive in the format of `docker save`, with one image of one layer."""
    config = json.dumps(
        {
            "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": settings,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
    ).encode()
    manifest = json.dumps([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(path, "w") as archive:
        for member, content in {"layer.tar": layer, "config.json": config, "manifest.json": manifest}.items():
            _add(archive, member, content)


def layer_of(directory: Path, name: str) -> bytes:
    """A layer that has the directory by that name, owned by root."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.add(directory, name, filter=_roots)
    return stream.getvalue()


def _roots(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid, entry.gid, entry.uname, entry.gname = 0, 0, "", ""
    return entry


def _layer(busybox: Path) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in DIRECTORIES:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        _add(archive, "bin/busybox", busybox.read_bytes(), mode=0o755)
        for name in APPLETS:
            entry = tarfile.TarInfo(f"bin/{name}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(entry)
    return stream.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))
