"""The bundle: plexus with an interpreter and a C library of its own, for hosts that have neither.

An executable names the loader of its C library by an absolute path, so a bundle has one place where it can run. The
image is built with room for any path; whoever copies a bundle writes the new place into the copy.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys

from cni.linux import disk
from cni.plugin import files
from cni.spec.errors import InvalidConfiguration, IOFailure

INTERPRETER = 3
"""PT_INTERP: the part of an executable with the path of its loader."""
MAGIC = b"\x7fELF"
MODULES = (
    "cni.node.daemon",
    "filelock",
    "google.protobuf.descriptor_pb2",
    "h2.connection",
    "kubernetes.client",
    "prometheus_client",
    "pydantic",
    "pyroute2",
    "ssl",
    "yaml",
)
"""What must be there, and work, on the host: plexus, and every library that it needs at some time."""


def find() -> str:
    """The bundle that this process runs from, or "" where its interpreter belongs to the system."""
    return sys.prefix if os.path.isfile(os.path.join(sys.prefix, "loader")) else ""


def version(bundle: str) -> str:
    """The version that the bundle's content has."""
    return _told(bundle, "version")


def packages(bundle: str) -> str:
    """Where its packages are, below it."""
    return _told(bundle, "packages")


def install(source: str, target: str, place: str, command: bytes) -> None:
    """Make `target` a copy of the bundle `source` that runs at `place`, which is how the host calls it.

    `command` is its `bin/plexus`. It is there with all its content, and runs, or not at all. Raises IOFailure.
    """
    temporary = f"{target}.tmp"
    _remove(temporary)
    try:
        files.change(f'copy plexus to "{target}"', copy, source, temporary, place)
        files.replace(os.path.join(temporary, "bin", "plexus"), command, 0o755)
        prove(temporary)
        _remove(target)
        files.change(f'rename "{temporary}"', _complete, temporary, target)
    except BaseException:
        _remove(temporary)
        raise


def is_complete(target: str) -> bool:
    """Whether an installation has come to its end."""
    return os.path.isfile(os.path.join(target, "complete"))


def relocate(bundle: str, place: str) -> None:
    """Have the executables of `bundle` look for their loader at `place`."""
    loader = f"{place}/lib/{_told(bundle, 'loader')}"
    directory = os.path.join(bundle, "bin")
    for name in sorted(os.listdir(directory)):
        _set_loader(os.path.join(directory, name), os.fsencode(loader))


def prove(bundle: str) -> None:
    """Raise IOFailure unless the bundle's interpreter runs, from where we see it, and finds its modules."""
    loader = os.path.join(bundle, "lib", _told(bundle, "loader"))
    python = os.path.join(bundle, "bin", "python3")
    command = [
        loader,
        "--library-path",
        os.path.join(bundle, "lib"),
        python,
        "-I",
        "-c",
        f"import {', '.join(MODULES)}",
    ]
    what = f'run "{python}"'
    done = files.change(what, subprocess.run, command, env={}, capture_output=True, check=False)
    if done.returncode != 0:
        reason = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {done.returncode}"]
        raise IOFailure(f"could not {what}", f"{reason[-1]}; is its file system mounted noexec?", id="PLX-IO")


def copy(source: str, target: str, place: str) -> None:
    """Copy the bundle for `place`. Raises OSError."""
    shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("complete"))
    relocate(target, place)


def _told(bundle: str, name: str) -> str:
    """What the bundle's file `name` says of it."""
    return (files.read(os.path.join(bundle, name)) or b"").decode().strip()


def _complete(temporary: str, target: str) -> None:
    # Launchers will rely on every one of these thousands of files: they must outlive a power failure.
    disk.sync(temporary)
    with open(os.path.join(temporary, "complete"), "xb") as marker:
        os.fsync(marker.fileno())
    os.rename(temporary, target)


def _remove(directory: str) -> None:
    shutil.rmtree(directory, ignore_errors=True)


def _set_loader(path: str, loader: bytes) -> None:
    """Write `loader` over the path that the executable has; what is no executable stays as it is."""
    with open(path, "r+b") as file:
        found = _find_loader(file.read(4096))
        if found is None:
            return
        offset, size = found
        if len(loader) >= size:
            raise InvalidConfiguration(
                f'could not install "{path}"',
                f'"{loader.decode(errors="replace")}" is too long a path',
                id="PLX-NODE-PATHS",
            )
        file.seek(offset)
        file.write(loader.ljust(size, b"\0"))


def _find_loader(header: bytes) -> tuple[int, int] | None:
    """Where in an ELF file the path of its loader is, and how long it may be."""
    if not header.startswith(MAGIC):
        return None
    wide = header[4] == 2
    order = "<" if header[5] == 1 else ">"
    (table,) = struct.unpack_from(f"{order}{'Q' if wide else 'I'}", header, 32 if wide else 28)
    entry_size, count = struct.unpack_from(f"{order}HH", header, 54 if wide else 42)
    for index in range(count):
        at = table + index * entry_size
        fields = struct.unpack_from(f"{order}{'IIQQQQ' if wide else 'IIIII'}", header, at)
        if fields[0] == INTERPRETER:
            return (fields[2], fields[5]) if wide else (fields[1], fields[4])
    return None
