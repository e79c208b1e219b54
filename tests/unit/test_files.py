"""Files that hold state: content and existence appear together."""

import errno
import fcntl
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cni.plugin import files
from cni.spec.errors import IOFailure

Writer = Callable[[str, bytes], object]


def by_name(path: str, content: bytes) -> bool:
    """Create on a file system that has no files without a name."""
    return files._create_by_name(path, content, 0o600)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("create", [files.create, by_name])
class TestCreate:
    def test_a_new_file_has_its_content_and_is_its_owners(self, create: Writer, tmp_path: Path):
        path = tmp_path / "new"
        assert create(str(path), b"content") is True
        assert (path.read_bytes(), mode(path)) == (b"content", 0o600)

    def test_one_that_is_there_is_left_as_it_is(self, create: Writer, tmp_path: Path):
        path = tmp_path / "old"
        path.write_bytes(b"old")
        path.chmod(0o640)
        assert create(str(path), b"new") is False
        assert (path.read_bytes(), mode(path)) == (b"old", 0o640)

    def test_a_link_that_leads_nowhere_is_there_too(self, create: Writer, tmp_path: Path):
        path = tmp_path / "link"
        path.symlink_to(tmp_path / "nowhere")
        assert create(str(path), b"new") is False
        assert not (tmp_path / "nowhere").exists()

    def test_nothing_else_is_left_behind(self, create: Writer, tmp_path: Path):
        for _ in range(2):
            create(str(tmp_path / "file"), b"x")
        assert os.listdir(tmp_path) == ["file"]


class TestReplace:
    @pytest.mark.parametrize("durable", [True, False])
    def test_the_old_content_gives_way_to_the_new(self, durable: bool, tmp_path: Path):
        path = tmp_path / "file"
        for content in (b"a long first content", b"second", b""):
            files.replace(str(path), content, durable=durable)
            assert path.read_bytes() == content
        assert os.listdir(tmp_path) == ["file"]

    def test_the_mode_is_the_one_asked_for_whatever_was_there(self, tmp_path: Path):
        path = tmp_path / "file"
        path.write_bytes(b"")
        path.chmod(0o644)
        files.replace(str(path), b"x")
        assert mode(path) == 0o600
        files.replace(str(path), b"x", 0o640)
        assert mode(path) == 0o640

    def test_whoever_has_the_old_one_open_reads_it_to_the_end(self, tmp_path: Path):
        path = tmp_path / "file"
        path.write_bytes(b"old")
        with path.open("rb") as file:
            files.replace(str(path), b"new")
            assert file.read() == b"old"

    def test_what_a_killed_writer_left_goes_with_the_next_one(self, tmp_path: Path):
        (tmp_path / ".file.tmp").write_bytes(b"half a con")
        (tmp_path / ".file.tmp").chmod(0o400)
        files.replace(str(tmp_path / "file"), b"content", 0o640)
        assert os.listdir(tmp_path) == ["file"]
        assert mode(tmp_path / "file") == 0o640

    def test_what_a_writer_is_about_to_write_is_left_alone(self, tmp_path: Path):
        with (tmp_path / ".file.tmp").open("wb") as theirs:
            fcntl.flock(theirs, fcntl.LOCK_EX)
            theirs.write(b"half a con")
            files.replace(str(tmp_path / "file"), b"content")
            assert sorted(os.listdir(tmp_path)) == [".file.tmp", "file"]
            files.remove(str(tmp_path / "file"))
            assert os.listdir(tmp_path) == [".file.tmp"]

    def test_where_nobody_can_lock_a_file_writers_leave_each_others_alone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        (tmp_path / ".file.tmp").write_bytes(b"half a con")
        monkeypatch.setattr(fcntl, "flock", without_locks)
        files.replace(str(tmp_path / "file"), b"content")
        assert (tmp_path / "file").read_bytes() == b"content"
        assert (tmp_path / ".file.tmp").read_bytes() == b"half a con"

    def test_what_stands_in_its_place_and_is_no_file_does_not_matter(self, tmp_path: Path):
        (tmp_path / ".file.tmp").mkdir()
        files.replace(str(tmp_path / "file"), b"content")
        assert files.remove(str(tmp_path / "file"))
        assert os.listdir(tmp_path) == [".file.tmp"]

    def test_writers_at_the_same_time_each_write_all_of_it_and_leave_nothing(self, tmp_path: Path):
        path = str(tmp_path / "file")
        contents = [bytes([number]) * 100_000 for number in range(8)]
        seen = set()

        def write(content: bytes) -> None:
            for _ in range(20):
                files.replace(path, content, durable=False)
                seen.add(files.read(path))

        threads = [threading.Thread(target=write, args=(content,)) for content in contents]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen <= set(contents)
        assert os.listdir(tmp_path) == ["file"]

    def test_a_failure_leaves_the_old_and_nothing_else(self, tmp_path: Path):
        path = tmp_path / "directory"
        path.mkdir()
        with pytest.raises(IOFailure):
            files.replace(str(path), b"x")
        assert os.listdir(tmp_path) == ["directory"]

    @pytest.mark.parametrize("failing", ["write", "fsync", "rename"])
    def test_a_full_disk_leaves_the_old_and_nothing_else(
        self, failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        path = tmp_path / "file"
        path.write_bytes(b"old")
        monkeypatch.setattr(os, failing, out_of_space)
        with pytest.raises(IOFailure) as caught:
            files.replace(str(path), b"new")
        assert (caught.value.msg, caught.value.reason) == (
            f'could not write "{path}"',
            files.reason(OSError(errno.ENOSPC, "")),
        )
        assert os.listdir(tmp_path) == ["file"]
        assert path.read_bytes() == b"old"


def without_locks(*_: Any) -> None:
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


def out_of_space(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("write", [files.create, by_name, files.replace])
def test_a_file_system_that_takes_a_byte_at_a_time_gets_them_all(
    write: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: whole(descriptor, bytes(content)[:1]))
    write(str(tmp_path / "file"), b"content")
    assert (tmp_path / "file").read_bytes() == b"content"


def test_a_full_disk_creates_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "write", out_of_space)
    with pytest.raises(IOFailure):
        files.create(str(tmp_path / "file"), b"x")
    assert os.listdir(tmp_path) == []


def test_with_a_file_goes_what_a_killed_writer_left_of_it(tmp_path: Path):
    for there in (True, False):
        (tmp_path / ".file.tmp").write_bytes(b"half a con")
        if there:
            (tmp_path / "file").write_bytes(b"")
        assert files.remove(str(tmp_path / "file")) is there
        assert os.listdir(tmp_path) == []


def test_what_killed_writers_left_is_swept_and_what_a_living_one_writes_is_not(tmp_path: Path):
    for name in (".dead.tmp", ".alive.tmp", "file.tmp", ".file"):
        (tmp_path / name).write_bytes(b"half a con")
    with (tmp_path / ".alive.tmp").open() as alive:
        fcntl.flock(alive, fcntl.LOCK_EX)
        files.sweep(str(tmp_path))
        assert sorted(os.listdir(tmp_path)) == [".alive.tmp", ".file", "file.tmp"]
    files.sweep(str(tmp_path / "none"))
    (tmp_path / ".alive.1.2.tmp").write_text("half")
    (tmp_path / ".other.tmp").write_text("half")
    for _ in range(2):
        files.sweep(str(tmp_path), of="alive")
        assert sorted(os.listdir(tmp_path)) == [".file", ".other.tmp", "file.tmp"]
    files.sweep(str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == [".file", "file.tmp"]


def test_what_is_not_there_reads_as_none_and_removes_as_false(tmp_path: Path):
    path = str(tmp_path / "file")
    assert files.read(path) is None
    assert files.remove(path) is False
    files.create(path, b"x")
    assert files.read(path) == b"x"
    assert files.remove(path) is True
    assert files.read(path) is None


def test_directories_are_made_with_their_parents_and_may_be_there(tmp_path: Path):
    path = tmp_path / "a" / "b"
    files.ensure_directory(str(path), 0o700)
    files.ensure_directory(str(path), 0o755)
    assert mode(path) == 0o700


@pytest.mark.parametrize(
    ("call", "verb"),
    [
        (files.read, "read"),
        (lambda path: files.create(f"{path}/x", b""), "write"),
        (lambda path: files.replace(f"{path}/x", b""), "write"),
        (lambda path: files.ensure_directory(f"{path}/x/y"), "create the directory"),
        (files.remove, "remove"),
    ],
)
def test_a_failure_says_what_could_not_be_done_to_which_file_and_why(
    call: Callable[[str], object], verb: str, tmp_path: Path
):
    path = tmp_path / "thing"
    if verb in ("read", "remove"):
        path.mkdir()
    else:
        path.touch()
    with pytest.raises(IOFailure) as caught:
        call(str(path))
    assert caught.value.msg.startswith(f'could not {verb} "{path}')
    not_a_file = "it is a directory, a FIFO or a device, not a file"
    told = (f"{os.strerror(errno.EISDIR)}: it is not ours: remove it", os.strerror(errno.ENOTDIR), not_a_file)
    assert caught.value.reason in told
    assert caught.value.id == "PLX-IO"
    assert isinstance(caught.value, files.Unusable) or isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/dev/zero", path), os.mkdir])
def test_what_is_no_file_is_not_read_and_not_waited_for(make: Callable[[Path], object], tmp_path: Path):
    make(tmp_path / "thing")
    for read in (files.read, files.read_own):
        with pytest.raises(files.Unusable, match="could not read"):
            read(str(tmp_path / "thing"))


def test_a_file_without_end_is_not_read(tmp_path: Path):
    (tmp_path / "small").write_bytes(b"x" * 100)
    assert files.read(str(tmp_path / "small"), largest=100) == b"x" * 100
    with pytest.raises(files.Unusable, match="larger than 99 bytes"):
        files.read(str(tmp_path / "small"), largest=99)
    (tmp_path / "huge").touch()
    os.truncate(tmp_path / "huge", 1 << 40)
    with pytest.raises(files.Unusable, match="larger than"):
        files.read(str(tmp_path / "huge"))


def test_a_link_is_followed_only_in_files_of_others(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    assert files.read(str(tmp_path / "link")) == b"content"
    with pytest.raises(files.Unusable, match="it is a link"):
        files.read_own(str(tmp_path / "link"))


def test_what_is_cleared_is_gone_and_a_directory_is_set_aside_with_what_it_holds(tmp_path: Path):
    path = tmp_path / "thing.json"
    for number in range(2):
        path.mkdir()
        (path / "precious").write_text(str(number))
        assert files.clear(str(path))
    path.symlink_to("nowhere")
    assert files.clear(str(path))
    assert not files.clear(str(path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["thing.2.damaged", "thing.damaged"]
    assert (tmp_path / "thing.2.damaged" / "precious").read_text() == "1"


@pytest.mark.parametrize("path", ["/proc/nowhere", "/proc/nowhere/deeper"])
def test_a_directory_where_none_can_be_made_is_an_error(path: str):
    with pytest.raises(IOFailure, match=path):
        files.ensure_directory(path)
