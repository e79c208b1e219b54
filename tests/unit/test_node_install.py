"""Installing a bundle on a host, and taking it back: the files, without running any of them."""

import functools
import hashlib
import os
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest

from cni.node import bundle, entry, install, launchers, uninstall
from cni.node.agent import Agent
from cni.node.host import Host
from cni.node.plan import Plan
from cni.node.prefix import Prefix
from cni.plugin import ledger
from cni.plugin.ledger import Ledger, Record
from cni.spec.errors import CNIError, InvalidConfiguration

BIN = "/opt/cni/bin"
STATE = "/var/lib/cni/plexus"
THEIRS = b"#!/bin/sh\necho another vendor\n"
ROOM = 250
OLD = 10**18
"""A time of modification, in nanoseconds, that nothing written now has."""


def tree(root: Path) -> dict[str, tuple[Any, ...]]:
    """Everything below `root`: kind and mode, and of files the owner, the content and the time."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        if path.is_symlink():
            found[str(path)] = (status.st_mode, os.readlink(path))
        elif path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path)] = (status.st_mode, status.st_uid, content, status.st_mtime_ns)
        else:
            found[str(path)] = (status.st_mode,)
    return found


def executable(order: str = "<", wide: bool = True) -> bytes:
    """An ELF file with two program headers, the second of which has room for a loader's path."""
    table, size, at = (64, 56, 300) if wide else (52, 32, 300)
    header = bytearray(300)
    header[:6] = b"\x7fELF" + bytes([2 if wide else 1, 1 if order == "<" else 2])
    struct.pack_into(f"{order}{'Q' if wide else 'I'}", header, 32 if wide else 28, table)
    struct.pack_into(f"{order}HH", header, 54 if wide else 42, size, 2)
    fields = (3, 4, at, 0, 0, ROOM) if wide else (3, at, 0, 0, ROOM)
    struct.pack_into(f"{order}{'IIQQQQ' if wide else 'IIIII'}", header, table + size, *fields)
    return bytes(header) + b"/" * (ROOM - 1) + b"\0" + b"the rest"


def make_bundle(root: Path, version: str) -> Path:
    (root / "bin").mkdir(parents=True)
    (root / "lib").mkdir()
    (root / "bin/python3").write_bytes(executable())
    (root / "bin/python3").chmod(0o755)
    (root / "bin/script").write_text("#!/bin/sh\n")
    (root / "lib/a.py").write_text("pass\n")
    (root / "version").write_text(f"{version}\n")
    (root / "packages").write_text("lib/python3/packages\n")
    (root / "loader").write_text("ld-linux.so.2\n")
    return root


@pytest.fixture(autouse=True)
def nothing_is_executed(monkeypatch):
    monkeypatch.setattr(bundle, "prove", lambda _: None)


@pytest.fixture
def prefix(tmp_path: Path) -> Prefix:
    root = tmp_path / "host"
    (root / "opt/cni/bin").mkdir(parents=True)
    (root / "var/lib/cni").mkdir(parents=True)
    return Prefix(Host(str(root)), "/opt/plexus")


def put_theirs(prefix: Prefix, name: str) -> Path:
    path = Path(prefix.host.local(f"{BIN}/{name}"))
    path.write_bytes(THEIRS)
    path.chmod(0o750)
    os.utime(path, ns=(OLD, OLD))
    return path


def ours(prefix: Prefix) -> set[str]:
    return {
        path.name
        for path in Path(prefix.host.directory(BIN)).iterdir()
        if launchers.is_ours(prefix, f"{BIN}/{path.name}")
    }


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("wide", [True, False])
def test_a_copy_of_a_bundle_names_the_loader_at_its_place_and_is_else_the_same(tmp_path, order, wide):
    made = make_bundle(tmp_path / "bundle", "v1")
    (made / "bin/python3").write_bytes(executable(order, wide))
    bundle.copy(str(made), str(tmp_path / "copy"), "/opt/plexus/versions/v1")
    content = (tmp_path / "copy/bin/python3").read_bytes()
    loader = b"/opt/plexus/versions/v1/lib/ld-linux.so.2"
    assert content == executable(order, wide).replace(b"/" * (ROOM - 1), loader.ljust(ROOM - 1, b"\0"))
    assert (tmp_path / "copy/bin/script").read_text() == "#!/bin/sh\n"
    again = tmp_path / "again"
    bundle.copy(str(tmp_path / "copy"), str(again), "/x")  # what has been moved once can be moved again
    assert b"/x/lib/ld-linux.so.2\0" in (again / "bin/python3").read_bytes()


def test_a_place_with_too_long_a_path_is_refused(tmp_path):
    made = make_bundle(tmp_path / "bundle", "v1")
    with pytest.raises(InvalidConfiguration, match="too long"):
        bundle.relocate(str(made), "/" + "x" * ROOM)


@pytest.mark.parametrize("path", ["/opt/with space", "/" + "x" * 100])
def test_a_prefix_that_the_kernel_cannot_execute_from_is_refused(tmp_path, prefix, path):
    with pytest.raises(InvalidConfiguration, match="the kernel"):
        install.install(str(make_bundle(tmp_path / "bundle", "v1")), Prefix(prefix.host, path), BIN)


def plexus(prefix: Prefix) -> str:
    """What the launcher `plexus` is."""
    return Path(prefix.host.local(f"{BIN}/plexus")).read_text()


def test_every_launcher_is_placed_where_no_other_vendor_is(tmp_path, prefix):
    install.install(str(make_bundle(tmp_path / "bundle", "v1")), prefix, BIN)
    assert ours(prefix) == {*launchers.OWN, *launchers.SHARED}
    assert {"plexus", "plexus-bridge", "bridge", "host-local"} <= ours(prefix)
    assert {"ptp", "multus"}.isdisjoint(ours(prefix))
    assert Path(prefix.local("current", "bin", "plexus")).read_text() == plexus(prefix)
    text = Path(prefix.host.local(f"{BIN}/bridge")).read_text()
    assert text.startswith("#!/opt/plexus/versions/v1/bin/python3 -IS\n")


def test_installing_again_changes_nothing(tmp_path, prefix):
    made = str(make_bundle(tmp_path / "bundle", "v1"))
    install.install(made, prefix, BIN)
    before = tree(Path(prefix.host.root))
    install.install(made, prefix, BIN)
    assert tree(Path(prefix.host.root)) == before


def test_an_update_moves_every_launcher_and_keeps_the_version_before(tmp_path, prefix):
    put_theirs(prefix, "bridge")
    install.install(str(make_bundle(tmp_path / "v1", "v1")), prefix, BIN, replace=True, as_multus=True)
    for version in ("v2", "v3"):
        install.install(str(make_bundle(tmp_path / version, version)), prefix, BIN)
    assert sorted(os.listdir(prefix.local("versions"))) == ["v2", "v3"]
    assert os.readlink(prefix.local("current")) == "versions/v3"
    assert {"ptp", "multus", "bridge"} <= ours(prefix)  # an update keeps what the options did
    for name in ours(prefix):
        assert "/versions/v3/" in Path(prefix.host.local(f"{BIN}/{name}")).read_text()


def test_another_vendors_file_is_kept_unless_it_is_to_be_replaced(tmp_path, prefix):
    theirs = put_theirs(prefix, "bridge")
    made = str(make_bundle(tmp_path / "bundle", "v1"))
    install.install(made, prefix, BIN)
    assert theirs.read_bytes() == THEIRS
    install.install(made, prefix, BIN, replace=True)
    assert theirs.read_bytes() != THEIRS


def test_a_half_copied_version_is_copied_again(tmp_path, prefix):
    made = str(make_bundle(tmp_path / "bundle", "v1"))
    half = Path(prefix.host.root) / "opt/plexus/versions/v1"
    half.mkdir(parents=True)
    install.install(made, prefix, BIN)
    assert (half / "complete").exists()
    assert (half / "lib/a.py").exists()


def test_a_version_that_does_not_run_here_is_not_installed(tmp_path, prefix, monkeypatch):
    def refuse(_: str) -> None:
        raise CNIError("could not run it")

    install.install(str(make_bundle(tmp_path / "v1", "v1")), prefix, BIN)
    before = tree(Path(prefix.host.root))
    monkeypatch.setattr(bundle, "prove", refuse)
    with pytest.raises(CNIError, match="could not run it"):
        install.install(str(make_bundle(tmp_path / "v2", "v2")), prefix, BIN)
    assert tree(Path(prefix.host.root)) == before


def test_a_launcher_that_somebody_removes_is_put_back(tmp_path, prefix):
    placed = install.install(str(make_bundle(tmp_path / "bundle", "v1")), prefix, BIN)
    before = tree(Path(prefix.host.directory(BIN))).keys()
    for name in ("plexus", "bridge"):
        os.unlink(prefix.host.local(f"{BIN}/{name}"))
    put_theirs(prefix, "bridge")
    placed.place_missing()
    assert tree(Path(prefix.host.directory(BIN))).keys() == before
    assert Path(prefix.host.local(f"{BIN}/bridge")).read_bytes() == THEIRS


def test_an_environment_that_somebody_removes_is_installed_again(tmp_path, prefix):
    made = str(make_bundle(tmp_path / "bundle", "v1"))
    again = functools.partial(install.install, made, prefix, BIN)
    placed = again()
    before = tree(Path(prefix.host.root)).keys()
    host = prefix.host
    settings = entry.Settings()
    plan = Plan(host=host, prefix=prefix, conf_dir="/none", settings=settings, launchers=placed, install=again)
    agent = Agent(plan)
    shutil.rmtree(prefix.local())
    agent.step()
    assert tree(Path(prefix.host.root)).keys() == before


def test_when_the_directory_of_plugins_is_another_the_launchers_go_there_too(tmp_path, prefix):
    root = Path(prefix.host.root)
    for name in ("one", "two"):
        (root / "data" / name / "bin").mkdir(parents=True)
    (root / "data/current").symlink_to("/data/one")
    placed = install.install(str(make_bundle(tmp_path / "bundle", "v1")), prefix, "/data/current/bin")
    (root / "data/current").unlink()
    (root / "data/current").symlink_to("/data/two")
    placed.place_missing()
    assert os.listdir(root / "data/one/bin") == os.listdir(root / "data/two/bin")


def install_everything(tmp_path: Path, prefix: Prefix) -> None:
    conf_dir = Path(prefix.host.root) / "etc/cni/net.d"
    for version in ("v1", "v2"):
        install.install(str(make_bundle(tmp_path / version, version)), prefix, BIN, replace=True, as_multus=True)
    (conf_dir / "00-multus.conf").rename(conf_dir / "00-multus.conf.before-plexus")
    prefix.record("aside", "/etc/cni/net.d/00-multus.conf")
    for path, kind in (("00-plexus.conflist", "conf"), ("plexus.d/plexus.kubeconfig", "file")):
        prefix.ensure_directory(os.path.dirname(f"/etc/cni/net.d/{path}"), 0o700)
        prefix.record(kind, f"/etc/cni/net.d/{path}")
        (conf_dir / path).write_text("x")
    written = Path(prefix.local("written", "/etc/cni/net.d/00-plexus.conflist"))
    written.parent.mkdir(parents=True)
    written.write_text("x")


def prepare(prefix: Prefix) -> None:
    conf_dir = Path(prefix.host.root) / "etc/cni/net.d"
    conf_dir.mkdir(parents=True)
    (conf_dir / "10-flannel.conflist").write_text("{}")
    (conf_dir / "00-multus.conf").write_text("{}")
    for name in ("bridge", "multus", "loopback"):
        put_theirs(prefix, name)
    Path(prefix.host.local(f"{BIN}/ptp")).symlink_to("loopback")


def test_uninstalling_restores_exactly_what_was_there_before(tmp_path, prefix):
    prepare(prefix)
    before = tree(Path(prefix.host.root))
    install_everything(tmp_path, prefix)
    assert tree(Path(prefix.host.root)) != before
    assert uninstall.uninstall(prefix, STATE)
    assert tree(Path(prefix.host.root)) == before
    assert not uninstall.uninstall(prefix, STATE)
    assert tree(Path(prefix.host.root)) == before


def test_the_entry_is_the_first_that_uninstalling_takes_away(tmp_path, prefix, monkeypatch):
    prepare(prefix)
    install_everything(tmp_path, prefix)

    def stop(_: Prefix) -> None:
        raise CNIError("interrupted")

    monkeypatch.setattr(launchers, "remove", stop)
    with pytest.raises(CNIError, match="interrupted"):
        uninstall.uninstall(prefix, STATE)
    conf_dir = Path(prefix.host.root) / "etc/cni/net.d"
    assert min(os.listdir(conf_dir)) == "00-multus.conf"
    assert "plexus" in ours(prefix)


def test_an_entry_that_was_edited_is_renamed_and_what_another_vendor_installed_since_stays(tmp_path, prefix):
    prepare(prefix)
    install_everything(tmp_path, prefix)
    conf = Path(prefix.host.root) / "etc/cni/net.d/00-plexus.conflist"
    conf.write_text("edited")
    put_theirs(prefix, "host-local")
    uninstall.uninstall(prefix, STATE)
    assert not conf.exists()
    assert conf.with_name("00-plexus.conflist.uninstalled").read_text() == "edited"
    assert Path(prefix.host.local(f"{BIN}/host-local")).read_bytes() == THEIRS


def attach(prefix: Prefix, container: str, boot_id: str) -> None:
    records = Ledger(os.path.join(prefix.host.directory(STATE), "containers"))
    record = Record(
        container_id=container, ifname="eth0", netns="", pod_namespace="default", pod_name="vm", boot_id=boot_id
    )
    records.write(record)


def test_uninstalling_is_refused_while_containers_are_attached_unless_it_is_forced(tmp_path, prefix):
    install.install(str(make_bundle(tmp_path / "bundle", "v1")), prefix, BIN)
    attach(prefix, "c1", ledger.boot_id())
    before = tree(Path(prefix.host.root))
    with pytest.raises(InvalidConfiguration, match="containers are attached") as refusal:
        uninstall.uninstall(prefix, STATE)
    assert "default/vm" in refusal.value.details
    assert tree(Path(prefix.host.root)) == before
    assert uninstall.uninstall(prefix, STATE, force=True)
    assert ours(prefix) == set()
    assert Path(prefix.host.directory(STATE), "containers", "c1@eth0.json").exists()  # what is left says what was made


def test_containers_of_an_earlier_boot_are_no_more(tmp_path, prefix):
    install.install(str(make_bundle(tmp_path / "bundle", "v1")), prefix, BIN)
    attach(prefix, "c1", "another boot")
    assert uninstall.uninstall(prefix, STATE)


def test_two_kinds_of_one_path_are_two_records_and_the_newest_comes_first(prefix):
    with prefix.locked():
        for kind, path in (("launcher", "/a"), ("launcher", "/b"), ("directory", "/a"), ("launcher", "/a")):
            prefix.record(kind, path)
    assert prefix.recorded("launcher") == ["/b", "/a"]
    assert prefix.recorded("directory")[0] == "/a"


def test_a_launcher_of_another_installation_asks_another_daemon(tmp_path, prefix):
    install.install(str(make_bundle(tmp_path / "bundle", "v1")), prefix, BIN)
    assert Path(prefix.local("current", "bin", "plexus")).read_text() == plexus(prefix)
    text = Path(prefix.host.local(f"{BIN}/bridge")).read_text()
    assert 'sys.path.insert(0, "/opt/plexus/versions/v1/lib/python3/packages")' in text
    assert 'main("bridge", "/run/plexus/plexus.sock")' in text
    assert launchers.socket("/opt/other") != launchers.socket("/opt/plexus")
