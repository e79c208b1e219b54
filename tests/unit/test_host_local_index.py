"""The index of a directory of leases: what it says is what the leases say, or it says nothing."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cni.plugin import files
from cni.spec.model import IPAddress, parse_address
from ipam import directory as directory_module
from ipam import index as index_module
from ipam.directory import DirectoryStore
from ipam.index import ROOM, Index
from ipam.store import Owner

ONE, TWO, THREE = (Owner(f"c{number}", "eth0") for number in (1, 2, 3))
ADDRESS = parse_address("10.0.0.2")
OTHER = parse_address("10.0.0.3")
V6 = parse_address("2001:db8::2")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "net"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / ".net.index"


@pytest.fixture
def indexed(folder: Path) -> Path:
    """A directory of two leases, with an index that vouches for itself."""
    reserve(folder, ADDRESS, ONE)
    reserve(folder, OTHER, TWO)
    assert held_by(folder, ONE) == [ADDRESS]
    assert vouches(folder)
    return folder


def reserve(folder: Path, address: IPAddress, owner: Owner) -> None:
    store = DirectoryStore(str(folder))
    with store.locked():
        assert store.reserve(address, owner)


def release(folder: Path, address: IPAddress) -> None:
    store = DirectoryStore(str(folder))
    with store.locked():
        store.release(address)


def held_by(folder: Path, owner: Owner) -> list[IPAddress]:
    store = DirectoryStore(str(folder))
    with store.locked():
        return store.held_by(owner)


def remains(folder: Path) -> list[IPAddress]:
    store = DirectoryStore(str(folder))
    with store.locked():
        return store.remains()


def vouches(folder: Path) -> bool:
    index = Index(str(folder))
    with index.opened():
        return index.vouches


class TestItKnows:
    def test_what_was_leased_given_back_and_leased_again(self, indexed: Path):
        release(indexed, ADDRESS)
        assert (vouches(indexed), held_by(indexed, ONE)) == (True, [])
        reserve(indexed, ADDRESS, THREE)
        assert (vouches(indexed), held_by(indexed, THREE)) == (True, [ADDRESS])
        assert held_by(indexed, TWO) == [OTHER]

    def test_all_addresses_of_an_owner_in_both_families(self, indexed: Path):
        reserve(indexed, V6, ONE)
        assert sorted(map(str, held_by(indexed, ONE))) == ["10.0.0.2", "2001:db8::2"]

    def test_what_a_crash_left_empty(self, folder: Path):
        folder.mkdir()
        (folder / "10.0.0.3").touch()
        assert remains(folder) == [OTHER]
        assert vouches(folder)
        reserve(folder, OTHER, TWO)
        assert (vouches(folder), remains(folder), held_by(folder, TWO)) == (True, [], [OTHER])

    def test_an_owner_whose_checksum_is_anothers_too(self, indexed: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(index_module.binascii, "crc32", lambda _: 7)
        (indexed / "10.0.0.4").write_bytes(b"c3\r\neth0")  # so that it is built anew
        for owner, address in ((ONE, "10.0.0.2"), (TWO, "10.0.0.3"), (THREE, "10.0.0.4")):
            assert held_by(indexed, owner) == [parse_address(address)]
        release(indexed, OTHER)
        assert (vouches(indexed), held_by(indexed, TWO), held_by(indexed, ONE)) == (True, [], [ADDRESS])

    def test_more_leases_than_it_was_made_for(self, indexed: Path):
        many = {ADDRESS + number: Owner(f"many{number}", "eth0") for number in range(2, 1200)}
        store = DirectoryStore(str(indexed))
        with store.locked():
            assert all(store.reserve(address, owner) for address, owner in many.items())
        assert not vouches(indexed), "one of its buckets was full"
        with store.locked():
            assert all(store.held_by(owner) == [address] for address, owner in many.items())
        assert vouches(indexed)

    def test_the_leases_that_stay_as_many_come_and_go(self, indexed: Path, table: Path):
        reserve(indexed, V6, ONE)
        size = table.stat().st_size
        store = DirectoryStore(str(indexed))
        for _ in range(2 * ROOM):
            with store.locked():
                assert store.reserve(V6 + 1, THREE)
                store.release(V6 + 1)
        assert (vouches(indexed), held_by(indexed, ONE)) == (True, [ADDRESS, V6])
        assert table.stat().st_size == size


def make_a_lease(folder: Path) -> None:
    (folder / "10.0.0.9").write_bytes(b"c3\r\neth0")


def remove_a_lease(folder: Path) -> None:
    (folder / "10.0.0.3").unlink()


def give_a_lease_to_somebody_else(folder: Path) -> None:
    (folder / "10.0.0.3").unlink()
    (folder / "10.0.0.3").write_bytes(b"c3\r\neth0")


def rename_a_lease(folder: Path) -> None:
    (folder / "10.0.0.3").rename(folder / "10.0.0.8")


def replace_the_directory(folder: Path) -> None:
    """As a backup does that is restored, times and all."""
    shutil.copytree(folder, folder.with_name("copy"))
    (folder.with_name("copy") / "10.0.0.9").write_bytes(b"c3\r\neth0")
    shutil.copystat(folder, folder.with_name("copy"))
    shutil.rmtree(folder)
    folder.with_name("copy").rename(folder)


def make_a_lease_and_hide_it(folder: Path) -> None:
    """As a clock does that is set back to just the moment of the seal."""
    before = folder.stat()
    make_a_lease(folder)
    os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES = [
    make_a_lease,
    remove_a_lease,
    give_a_lease_to_somebody_else,
    rename_a_lease,
    replace_the_directory,
    make_a_lease_and_hide_it,
]


@pytest.mark.parametrize("change", CHANGES)
def test_it_vouches_for_nothing_after_somebody_else_was_there(change: Callable[[Path], None], indexed: Path):
    change(indexed)
    assert not vouches(indexed)
    leases = {path.name: path.read_bytes() for path in indexed.iterdir() if path.name[0].isdigit()}
    for owner in (ONE, TWO, THREE):
        expected = [name for name, content in leases.items() if content == b"%s\r\neth0" % owner.container_id.encode()]
        assert sorted(map(str, held_by(indexed, owner))) == sorted(expected)
    assert vouches(indexed), "it was built anew"


@pytest.mark.parametrize("content", [b"", b"?" * 50, b"?" * 5000, None])
def test_it_vouches_for_nothing_when_the_table_is_not_one(content: bytes | None, indexed: Path, table: Path):
    table.unlink() if content is None else table.write_bytes(content)
    assert not vouches(indexed)
    assert held_by(indexed, TWO) == [OTHER]
    assert vouches(indexed)


def test_it_vouches_for_nothing_where_the_table_is_cut_off(indexed: Path, table: Path):
    os.truncate(table, 200)
    assert held_by(indexed, TWO) == [OTHER]
    assert held_by(indexed, ONE) == [ADDRESS]


def test_it_vouches_for_nothing_after_a_reboot(indexed: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(index_module, "_boot", lambda: b"another")
    assert not vouches(indexed)
    assert held_by(indexed, TWO) == [OTHER]
    assert vouches(indexed)


def test_a_lease_that_was_written_over_is_its_owners_still(indexed: Path):
    (indexed / "10.0.0.3").write_bytes(b"c3\r\neth0")  # in place, which no plugin does: the table says more
    assert held_by(indexed, TWO) == [OTHER]
    assert held_by(indexed, THREE) == []
    release(indexed, OTHER)
    assert not vouches(indexed)
    assert held_by(indexed, ONE) == [ADDRESS]


def test_a_table_that_cannot_be_made_costs_nothing_but_time(folder: Path, table: Path):
    table.mkdir()
    reserve(folder, ADDRESS, ONE)
    assert held_by(folder, ONE) == [ADDRESS]
    release(folder, ADDRESS)
    assert (held_by(folder, ONE), vouches(folder)) == ([], False)


def test_so_many_of_one_owner_that_no_table_holds_them_cost_nothing_but_time(folder: Path):
    addresses = [parse_address(f"10.0.0.{number}") for number in range(ROOM + 1)]
    for address in addresses:
        reserve(folder, address, ONE)
    assert sorted(held_by(folder, ONE)) == addresses
    for address in addresses[1:]:
        release(folder, address)
    assert held_by(folder, ONE) == addresses[:1]
    assert vouches(folder)


def test_another_table_of_the_same_directory_notices_what_this_one_did(indexed: Path, tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    alias = tmp_path / "elsewhere" / "net"
    alias.symlink_to(indexed)
    assert held_by(alias, ONE) == [ADDRESS]
    reserve(alias, V6, THREE)
    assert held_by(indexed, THREE) == [V6]
    release(indexed, V6)
    assert held_by(alias, THREE) == []


def test_a_directory_that_nothing_was_changed_in_is_left_as_it_is(indexed: Path):
    before = indexed.stat()
    assert held_by(indexed, THREE) == []
    after = indexed.stat()
    assert (after.st_mtime_ns, after.st_ctime_ns) == (before.st_mtime_ns, before.st_ctime_ns)


def test_the_table_is_outside_of_the_directory_and_only_root_may_read_it(indexed: Path, table: Path):
    assert sorted(os.listdir(indexed)) == ["10.0.0.2", "10.0.0.3", "lock"]
    assert oct(table.stat().st_mode & 0o7777) == "0o600"


class Counted:
    """How often files were read and directories listed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        for owner, name in ((files, "read"), (os, "listdir"), (os, "scandir"), (os, "stat")):
            monkeypatch.setattr(owner, name, self._counting(getattr(owner, name)))

    def _counting(self, call: Callable) -> Callable:
        def counting(*args, **kwargs):
            self.count += 1
            return call(*args, **kwargs)

        return counting


def test_a_lease_costs_the_same_however_many_there_are(folder: Path, monkeypatch: pytest.MonkeyPatch):
    reserve(folder, V6, THREE)
    assert held_by(folder, THREE) == [V6]

    def cost() -> int:
        with monkeypatch.context() as patched:
            counted = Counted(patched)
            reserve(folder, V6 + 1, ONE)
            assert held_by(folder, ONE) == [V6 + 1]
            release(folder, V6 + 1)
            assert held_by(folder, ONE) == []
            return counted.count

    alone = cost()
    for number in range(500):
        reserve(folder, ADDRESS + number, Owner(f"many{number}", "eth0"))
    assert cost() == alone


def test_addresses_beyond_a_long_run_of_taken_ones_cost_one_listing(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(directory_module, "PROBES", 10)
    for number in range(100):
        reserve(folder, ADDRESS + number, Owner(f"many{number}", "eth0"))
    store = DirectoryStore(str(folder))
    with store.locked(), monkeypatch.context() as patched:
        counted = Counted(patched)
        assert next(store.untaken(ADDRESS + number for number in range(200))) == ADDRESS + 100
        assert counted.count == 10 + 1
