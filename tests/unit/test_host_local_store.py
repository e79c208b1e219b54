"""Stores of leases: one contract for all of them, and what is special about the directory."""

import fcntl
import os
import threading
from pathlib import Path

import pytest

from cni.spec.errors import IOFailure, TryAgainLater
from cni.spec.model import parse_address
from ipam import directory as directory_module
from ipam.directory import DirectoryStore
from ipam.store import MemoryStore, Owner, Store

ONE = Owner("c1", "eth0")
TWO = Owner("c2", "net1")
V4 = parse_address("10.1.2.3")
V6 = parse_address("2001:db8:1::2")


@pytest.fixture(params=["directory", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore() if request.param == "memory" else DirectoryStore(str(tmp_path / "net"))


@pytest.fixture
def directory(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(str(tmp_path / "net"))


class TestContract:
    def test_a_lease_has_its_owner(self, store: Store):
        with store.locked():
            assert store.reserve(V4, ONE)
            assert store.reserve(V6, TWO)
            assert (store.owner(V4), store.owner(V6)) == (ONE, TWO)
            assert sorted(map(str, store.addresses())) == ["10.1.2.3", "2001:db8:1::2"]
        assert store.exists()

    def test_a_taken_address_stays_its_owners(self, store: Store):
        with store.locked():
            store.reserve(V4, ONE)
            assert not store.reserve(V4, TWO)
            assert not store.reserve(V4, ONE)
            assert store.owner(V4) == ONE

    def test_what_was_given_back_can_be_had_again(self, store: Store):
        with store.locked():
            store.reserve(V4, ONE)
            store.release(V4)
            assert store.addresses() == []
            assert store.owner(V4) is None
            assert store.reserve(V4, TWO)

    def test_giving_back_what_nobody_has_is_no_error(self, store: Store):
        with store.locked():
            store.release(V4)

    def test_the_last_of_each_set_is_remembered(self, store: Store):
        with store.locked():
            assert store.last_reserved(0) is None
            store.note_last_reserved(0, V4)
            store.note_last_reserved(1, V6)
            store.note_last_reserved(0, V4 + 1)
            assert (store.last_reserved(0), store.last_reserved(1)) == (V4 + 1, V6)
            assert store.addresses() == [], "a note is not a lease"

    def test_what_was_kept_outlives_the_lock(self, store: Store):
        with store.locked():
            store.reserve(V4, ONE)
        with store.locked():
            assert store.owner(V4) == ONE

    def test_an_address_without_an_owner_is_free(self, store: Store, tmp_path: Path):
        if isinstance(store, MemoryStore):
            store.leases[V4] = None
        else:
            put(tmp_path, "10.1.2.3", b"")
        with store.locked():
            assert store.owner(V4) is None
            assert store.addresses() == [V4], "so that GC can sweep it up"
            assert store.remains() == [V4]
            assert store.reserve(V4, ONE)
            assert store.owner(V4) == ONE
            assert store.remains() == []

    def test_the_leases_of_an_owner_are_those_that_say_just_that(self, store: Store):
        with store.locked():
            for address, owner in ((V4, ONE), (V6, ONE), (V4 + 1, Owner("c1")), (V4 + 2, Owner("c1", "net1"))):
                store.reserve(address, owner)
            assert sorted(map(str, store.held_by(ONE))) == ["10.1.2.3", "2001:db8:1::2"]
            assert store.held_by(Owner("c1")) == [V4 + 1]
            assert store.held_by(TWO) == []
            store.release(V6)
            assert store.held_by(ONE) == [V4]

    def test_addresses_without_a_lease_are_told_in_the_order_they_were_asked_for(self, store: Store):
        with store.locked():
            store.reserve(V4, ONE)
            assert list(store.untaken([V4 + 2, V4, V6, V4 + 1])) == [V4 + 2, V6, V4 + 1]
            assert list(store.untaken([])) == []

    def test_whether_an_address_is_taken_is_told_when_it_is_asked_for(self, store: Store):
        with store.locked():
            free = store.untaken([V4, V4 + 1])
            assert next(free) == V4
            store.reserve(V4 + 1, ONE)
            assert list(free) == []


def put(folder: Path, name: str, content: bytes) -> Path:
    path = folder / "net" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


def test_the_files_are_those_of_the_reference(directory: DirectoryStore, tmp_path: Path):
    with directory.locked():
        directory.reserve(V4, ONE)
        directory.reserve(V6, TWO)
        directory.note_last_reserved(1, V6)
    content = {path.name: path.read_bytes() for path in (tmp_path / "net").iterdir()}
    assert content == {
        "10.1.2.3": b"c1\r\neth0",
        "2001:db8:1::2": b"c2\r\nnet1",
        "last_reserved_ip.1": b"2001:db8:1::2",
        "lock": b"",
    }


def test_the_modes_are_those_of_the_reference(directory: DirectoryStore, tmp_path: Path):
    with directory.locked():
        directory.reserve(V4, ONE)
        directory.note_last_reserved(0, V4)
    paths = [tmp_path / "net", *sorted((tmp_path / "net").iterdir())]
    assert [oct(path.stat().st_mode & 0o7777) for path in paths] == ["0o755", "0o600", "0o600", "0o750"]


@pytest.mark.parametrize(
    ("content", "owner"),
    [
        (b"c1\r\neth0", ONE),
        (b"c1\r\neth0\n", ONE),
        (b" c1\r\neth0 ", ONE),
        (b"c1", Owner("c1")),
        (b"c1\neth0", Owner("c1\neth0")),
        (b"\xff\xfe", Owner("\ufffd\ufffd")),
    ],
)
def test_a_file_is_read_as_the_reference_reads_it(content: bytes, owner: Owner, directory, tmp_path: Path):
    put(tmp_path, "10.1.2.3", content)
    assert directory.owner(V4) == owner
    assert not directory.reserve(V4, TWO)


def test_files_that_are_no_addresses_are_none_of_its_business(directory: DirectoryStore, tmp_path: Path):
    for name in ("lock", "last_reserved_ip.0", "10.1.2", "10.1.2.3.bak", "2001:DB8::1", ".10.1.2.3.17.tmp", "notes"):
        put(tmp_path, name, b"c1\r\neth0")
    assert directory.addresses() == []


def test_a_note_that_makes_no_sense_is_as_good_as_none(directory: DirectoryStore, tmp_path: Path):
    for content in (b"", b"rubbish", b"\xff", b"10.1.2.300"):
        put(tmp_path, "last_reserved_ip.0", content)
        assert directory.last_reserved(0) is None


def test_an_address_whose_file_is_a_directory_cannot_be_had(directory: DirectoryStore, tmp_path: Path):
    (tmp_path / "net" / "10.1.2.3").mkdir(parents=True)
    assert list(directory.untaken([V4])) == []
    assert not directory.reserve(V4, ONE)


def test_there_is_no_store_before_the_first_lock(directory: DirectoryStore, tmp_path: Path):
    assert not directory.exists()
    assert list(tmp_path.iterdir()) == []


def test_the_lock_is_free_again_after_a_failure(directory: DirectoryStore):
    with pytest.raises(ZeroDivisionError), directory.locked():
        _ = 1 / 0
    with directory.locked():
        pass


def test_the_lock_is_flock_on_the_file_the_reference_locks(directory: DirectoryStore, tmp_path: Path):
    with directory.locked(), (tmp_path / "net/lock").open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with (tmp_path / "net/lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_lock_that_somebody_never_gives_back_is_named(directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(directory_module, "LOCK_TIMEOUT", 0.05)
    lock = put(tmp_path, "lock", b"")
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(TryAgainLater) as caught, directory.locked():
            pass
    assert caught.value.id == "PLX-IPAM-LOCKED"
    assert str(lock) in caught.value.msg


def test_a_store_that_cannot_be_made_says_which(tmp_path: Path):
    (tmp_path / "file").touch()
    location = tmp_path / "file" / "net"
    with pytest.raises(IOFailure) as caught, DirectoryStore(str(location)).locked():
        pass
    assert str(location) in caught.value.msg
    assert caught.value.reason == os.strerror(20)


def test_threads_of_one_process_wait_for_each_other_without_asking_again(
    directory: DirectoryStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(directory_module, "POLL", 3600)
    inside: list[int] = []

    def enter() -> None:
        with DirectoryStore(directory.location).locked():
            inside.append(1)

    with directory.locked():
        threads = [threading.Thread(target=enter) for _ in range(8)]
        for thread in threads:
            thread.start()
        assert not inside
    for thread in threads:
        thread.join(30)
    assert len(inside) == 8
