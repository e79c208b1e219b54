"""After a reboot the leases of those who died with the machine are free at the first use, and no others."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cni.linux import disk
from cni.spec.errors import TryAgainLater
from cni.spec.request import Request
from ipam import host_local
from ipam import index as index_module
from ipam.directory import DirectoryStore

LONG_AGO = 1_000_000_000


class Machine:
    """A machine that can be started again, and host-local on it."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.leases = directory / "leases" / "net"
        self.monkeypatch = monkeypatch
        self.boots = 0
        self.be(b"m" * 32)
        self.file_system("ext4")
        self.start()

    def be(self, machine: bytes) -> None:
        self.monkeypatch.setattr(index_module, "_machine", lambda: machine)

    def file_system(self, kind: str) -> None:
        self.monkeypatch.setattr(disk, "kind", lambda _: kind)

    def start(self) -> None:
        """Be started: whatever is there was written before."""
        self.boots += 1
        boot = f"{self.boots:036}".encode()
        self.monkeypatch.setattr(index_module, "_boot", lambda: boot)
        for path in self.files():
            os.utime(path, (LONG_AGO, LONG_AGO))

    def files(self) -> list[Path]:
        return [path for path in self.leases.glob("*") if path.name[0].isdigit()] if self.leases.exists() else []

    def request(self, container: str, command: str = "ADD") -> Request:
        ipam = {"type": "host-local", "dataDir": str(self.leases.parent), "subnet": "10.0.0.0/29"}
        conf = {"cniVersion": "1.1.0", "name": "net", "type": "bridge", "ipam": ipam}
        return Request(command=command, container_id=container, ifname="eth0", netns="/n", conf=conf)

    def add(self, container: str) -> str:
        return str(host_local.add(self.request(container)).ips[0].address.ip)

    def delete(self, container: str) -> None:
        host_local.delete(self.request(container, "DEL"))

    def foreign(self, container: str, address: str) -> None:
        """Have the reference plugin lease an address."""
        (self.leases / address).write_bytes(f"{container}\r\neth0".encode())

    def held(self) -> dict[str, str]:
        return {path.name: path.read_bytes().decode().partition("\r\n")[0] for path in self.files()}


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def fill(machine: Machine) -> None:
    for number in range(5):
        machine.add(f"old{number}")
    with pytest.raises(TryAgainLater):
        machine.add("one-more")


def test_a_full_network_whose_owners_died_with_the_machine_serves_the_first_add_after_it(machine):
    fill(machine)
    machine.start()
    address = machine.add("new")
    assert machine.held() == {address: "new"}


def test_any_first_use_frees_them(machine):
    for use in (host_local.delete, host_local.gc, host_local.status):
        fill(machine)
        machine.start()
        request = machine.request("nobody", "GC" if use is host_local.gc else "DEL")
        use(request.with_conf({**request.conf, "cni.dev/valid-attachments": []}))
        assert machine.held() == {}


def test_without_a_reboot_nobody_is_dead(machine):
    fill(machine)
    before = machine.held()
    for path in machine.files():
        os.utime(path, (LONG_AGO, LONG_AGO))
    with pytest.raises(TryAgainLater):
        machine.add("one-more")
    machine.leases.touch()  # the table vouches for nothing any more
    with pytest.raises(TryAgainLater):
        machine.add("one-more")
    assert machine.held() == before


def test_who_came_by_another_plugin_since_the_start_is_kept_though_the_name_is_an_old_one(machine):
    address = machine.add("old")
    machine.start()
    machine.foreign("old", address)
    machine.foreign("foreign", "10.0.0.6")
    new = machine.add("new")
    assert machine.held() == {address: "old", "10.0.0.6": "foreign", new: "new"}


def test_who_is_in_no_table_of_before_is_kept(machine):
    machine.add("old")
    machine.foreign("foreign", "10.0.0.6")
    machine.start()
    machine.add("new")
    assert sorted(machine.held().values()) == ["foreign", "new"]


def test_whom_we_saw_before_is_known_whoever_leased_it(machine):
    machine.add("old")
    machine.foreign("foreign", "10.0.0.6")
    machine.delete("nobody")  # reads all, and so has it in the table
    machine.start()
    machine.add("new")
    assert list(machine.held().values()) == ["new"]


def test_another_owner_of_an_old_address_is_kept(machine):
    address = machine.add("old")
    (machine.leases / address).unlink()
    machine.foreign("other", address)
    machine.start()
    new = machine.add("new")
    assert machine.held() == {address: "other", new: "new"}


@pytest.mark.parametrize("machine_id", [b"n" * 32, b""])
def test_the_table_of_another_machine_or_of_none_proves_nothing(machine, machine_id):
    fill(machine)
    machine.start()
    machine.be(machine_id)
    before = machine.held()
    with pytest.raises(TryAgainLater):
        machine.add("new")
    assert machine.held() == before


def test_a_machine_without_an_identity_proves_nothing(machine):
    machine.be(b"")
    fill(machine)
    machine.start()
    with pytest.raises(TryAgainLater):
        machine.add("new")


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "ceph", "9p", "virtiofs", ""])
def test_where_other_machines_may_have_leases_too_nothing_is_freed(machine, kind):
    machine.file_system(kind)
    fill(machine)
    machine.start()
    before = machine.held()
    with pytest.raises(TryAgainLater):
        machine.add("new")
    assert machine.held() == before


@pytest.mark.parametrize("kind", ["nfs4", "ceph", ""])
def test_a_runtimes_list_of_the_living_says_nothing_of_the_containers_of_other_machines(machine, kind):
    fill(machine)
    request = machine.request("", "GC")
    request = request.with_conf({**request.conf, "cni.dev/valid-attachments": []})
    machine.file_system(kind)
    before = machine.held()
    host_local.gc(request)
    assert machine.held() == before
    machine.file_system("ext4")
    host_local.gc(request)
    assert machine.held() == {}


@pytest.mark.parametrize("damage", [b"", b"x", b"plexus index 2", os.urandom(5000)])
def test_a_table_that_is_damaged_proves_nothing(machine, damage):
    fill(machine)
    machine.start()
    (machine.leases.parent / ".net.index").write_bytes(damage)
    before = machine.held()
    with pytest.raises(TryAgainLater):
        machine.add("new")
    assert machine.held() == before


def test_a_lease_whose_age_cannot_be_told_is_kept(machine, monkeypatch):
    machine.add("old")
    machine.start()
    monkeypatch.setattr(DirectoryStore, "_age", lambda *_: float("inf"))
    machine.add("new")
    assert sorted(machine.held().values()) == ["new", "old"]


def test_they_are_freed_once_and_the_same_names_may_come_again(machine):
    fill(machine)
    machine.start()
    for number in range(5):
        machine.add(f"old{number}")
    with pytest.raises(TryAgainLater):
        machine.add("one-more")
    assert len(machine.held()) == 5
    machine.start()
    machine.add("old3")
    assert list(machine.held().values()) == ["old3"]


STEPS = st.lists(
    st.tuples(st.sampled_from(("add", "delete", "foreign", "gone", "start")), st.integers(1, 6)), max_size=25
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(steps=STEPS)
def test_whatever_happens_nobody_of_this_boot_loses_an_address(tmp_path_factory, steps):
    with pytest.MonkeyPatch.context() as monkeypatch:
        machine = Machine(tmp_path_factory.mktemp("machine"), monkeypatch)
        machine.leases.mkdir(parents=True)
        living: dict[str, str] = {}
        for what, number in steps:
            name, address = f"c{number}", f"10.0.0.{number}"
            if what == "add" and name not in living.values():
                before = machine.held()
                try:
                    given_out = machine.add(name)
                except TryAgainLater:
                    continue  # full, or of that name from before
                assert given_out not in living, before
                living[given_out] = name
            elif what == "delete":
                machine.delete(name)
                living = {key: value for key, value in living.items() if value != name}
            elif what == "foreign" and not (machine.leases / address).exists() and name not in living.values():
                machine.foreign(name, address)
                living[address] = name
            elif what == "gone":
                (machine.leases / address).unlink(missing_ok=True)
                living.pop(address, None)
            elif what == "start":
                machine.start()
                living = {}
            held = machine.held()
            assert {key: held.get(key) for key in living} == living


def test_the_kind_of_a_file_system_is_that_of_the_innermost_mount(tmp_path, monkeypatch):
    lines = [
        "1 0 8:1 / / rw - ext4 /dev/sda rw",
        "2 1 0:9 / /var/lib rw shared:1 - xfs /dev/sdb rw",
        "3 2 0:10 / /var/lib/cni rw - nfs4 server:/x rw",
        "4 2 0:11 / /var/lib/with\\040space rw - tmpfs tmpfs rw",
        "5 2 0:12 / /over rw - ext4 /dev/sdc rw",
        "6 5 0:13 / /over rw - nfs server:/y rw",
        "damaged",
        "",
    ]
    (tmp_path / "mountinfo").write_text("\n".join(lines))
    monkeypatch.setattr(disk, "MOUNTS", str(tmp_path / "mountinfo"))
    found = {path: disk.kind(path) for path in ("/etc", "/var/lib/cni/networks/a", "/var/lib/cnix", "/over/x", "/")}
    assert found == {
        "/etc": "ext4",
        "/var/lib/cni/networks/a": "nfs4",
        "/var/lib/cnix": "xfs",
        "/over/x": "nfs",
        "/": "ext4",
    }
    assert disk.kind("/var/lib/with space/x") == "tmpfs"
    monkeypatch.setattr(disk, "MOUNTS", str(tmp_path / "none"))
    assert disk.kind("/") == ""
