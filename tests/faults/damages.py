"""What can become of a file: each is called with its path, at which it is, and a directory that nobody may write to."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

PRECIOUS = b"nobody may write here\n"


def empty(path: Path, _: Path) -> None:
    path.write_bytes(b"")


def cut(share: float) -> Callable[[Path, Path], None]:
    return lambda path, _: os.truncate(path, int(path.stat().st_size * share))


def garbage(path: Path, _: Path) -> None:
    path.write_bytes(bytes(range(256)) * 3)


def another_shape(path: Path, _: Path) -> None:
    path.write_text('[{"format": "x", "kind": [], "entries": {}, "": null}]')


def another_object(path: Path, _: Path) -> None:
    path.write_text('{"kind": "Pod", "metadata": [], "entries": [[]], "result": 7, "plugins": {}, "format": 1}')


def of_another_container(path: Path, _: Path) -> None:
    """What the survivor has there; where files are shared, what another network has."""
    names = (path.name.replace("victim", "survivor"), "10.1.0.2", ".second.index", path.name.replace("second", "third"))
    others = [path.with_name(name) for name in names if name != path.name and path.with_name(name).is_file()]
    path.write_bytes(others[0].read_bytes() if others else b"another's\r\neth0")


def huge(path: Path, _: Path) -> None:
    os.truncate(path, 64 << 20)


def huge_and_empty(path: Path, _: Path) -> None:
    path.write_bytes(b"")
    os.truncate(path, 64 << 20)


def nobody_may(path: Path, _: Path) -> None:
    path.chmod(0)
    os.chown(path, 12345, 12345)


def deleted(path: Path, _: Path) -> None:
    path.unlink()


def a_directory(path: Path, _: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "inside").write_bytes(PRECIOUS)


def a_link(path: Path, outside: Path) -> None:
    path.unlink()
    path.symlink_to(outside / "precious")


def a_link_to_nothing(path: Path, outside: Path) -> None:
    path.unlink()
    path.symlink_to(outside / "nothing")


def a_link_in_a_circle(path: Path, _: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def a_fifo(path: Path, _: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def a_device(path: Path, _: Path) -> None:
    path.unlink()
    os.mknod(path, 0o20666, os.makedev(1, 5))  # /dev/zero, which has no end


def a_socket(path: Path, _: Path) -> None:
    path.unlink()
    os.mknod(path, 0o140600)


def immutable(path: Path, _: Path) -> None:
    if subprocess.run(["chattr", "+i", str(path)], check=False, capture_output=True).returncode:
        pytest.skip("this kernel has no immutable files here")


DAMAGES = {
    "empty": empty,
    "cut at its end": cut(0.95),
    "cut in the middle": cut(0.5),
    "cut at its beginning": cut(0.05),
    "garbage": garbage,
    "of another shape": another_shape,
    "another object": another_object,
    "another container's": of_another_container,
    "huge": huge,
    "huge and empty": huge_and_empty,
    "nobody's": nobody_may,
    "deleted": deleted,
    "a directory": a_directory,
    "a link": a_link,
    "a link to nothing": a_link_to_nothing,
    "a link in a circle": a_link_in_a_circle,
    "a FIFO": a_fifo,
    "a device": a_device,
    "a socket": a_socket,
    "immutable": immutable,
}
SIMILAR = (
    "cut at its end",
    "cut at its beginning",
    "another object",
    "huge and empty",
    "nobody's",
    "a link to nothing",
    "a link in a circle",
    "a device",
    "a socket",
)
"""What is much like another of them, and is done with `--nightly` only."""
