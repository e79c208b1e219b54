"""install.sh on a tree of its own: what it places, what it leaves alone, and that it can take everything back."""

import hashlib
import json
import os
import shutil
import subprocess
import threading
from pathlib import Path

import installation
import node_daemon
import pytest
from installation import ROOT, THEIRS, Machine

from cni.node import launchers

ALWAYS = set(launchers.OWN)
SHARED = set(launchers.SHARED)
REINSTALLATIONS = 30
RUN = Path("/run/plexus")
HIDE = 'for name in {}; do mount --bind /dev/null "$(command -v "$name")"; done; exec "$@"'
"""Has a shell go on without some programs."""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="install.sh needs root")


def tree(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything below `root`: kind and mode, and of files the content, of files and links the time."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        if path.is_symlink():
            found[str(path)] = (status.st_mode, os.readlink(path), status.st_mtime_ns)
        elif path.is_file():
            found[str(path)] = (status.st_mode, hashlib.sha256(path.read_bytes()).hexdigest(), status.st_mtime_ns)
        else:
            found[str(path)] = (status.st_mode,)
    return found


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    return installation.shared_directory(tmp_path_factory, worker_id)


@pytest.fixture(scope="session")
def sources(shared: Path) -> Path:
    return installation.ensure_sources(shared)


@pytest.fixture(scope="session")
def next_sources(tmp_path_factory: pytest.TempPathFactory, sources: Path) -> Path:
    return installation.next_version(sources, tmp_path_factory.mktemp("next") / "sources")


@pytest.fixture(scope="session")
def prefix(shared: Path) -> Path:
    return installation.ensure_prefix(shared)


@pytest.fixture
def machine(tmp_path: Path, prefix: Path, sources: Path) -> Machine:
    return Machine(tmp_path, prefix, sources)


@pytest.fixture
def fresh(tmp_path: Path, sources: Path) -> Machine:
    """A machine that never had plexus, and has no environment built."""
    return Machine(tmp_path, tmp_path / "opt/plexus", sources)


def test_all_launchers_are_placed_where_no_other_vendor_is(machine):
    machine.install()
    assert machine.launchers() == ALWAYS | SHARED


def test_a_second_run_changes_nothing_and_says_so(machine):
    machine.install("--conf-dir", str(machine.conf_dir))
    before = tree(machine.root), tree(machine.prefix / "versions")
    assert "nothing changed" in machine.install("--conf-dir", str(machine.conf_dir))
    assert (tree(machine.root), tree(machine.prefix / "versions")) == before


def test_another_vendors_file_is_kept(machine):
    theirs = machine.put_theirs("bridge")
    assert f"kept {theirs}" in machine.install()
    assert theirs.read_bytes() == THEIRS
    assert machine.launchers() == ALWAYS | SHARED - {"bridge"}


def test_replace_puts_ours_where_theirs_was(machine):
    machine.put_theirs("bridge")
    machine.put_theirs("ptp")
    machine.install("--replace")
    assert machine.launchers() == ALWAYS | SHARED | {"ptp"}
    machine.install()  # an update without the option keeps what the option did
    assert machine.launchers() == ALWAYS | SHARED | {"ptp"}


def test_the_name_of_multus_is_taken_only_when_asked_for_and_given_back(machine):
    theirs = machine.put_theirs("multus")
    before = theirs.read_bytes(), theirs.stat().st_mode, theirs.stat().st_mtime_ns
    machine.install()
    assert theirs.read_bytes() == THEIRS
    machine.install("--as-multus")
    process = machine.launch("multus", CNI_COMMAND="VERSION")
    assert "1.1.0" in json.loads(process.stdout)["supportedVersions"]
    machine.install()  # an update without the option keeps what the option did
    assert "multus" in machine.launchers()
    process = subprocess.run([ROOT / "install.sh", "--help"], capture_output=True, text=True, check=True)
    assert "--as-multus" in process.stdout
    kept = machine.prefix / "replaced" / str(theirs).lstrip("/")
    assert (kept.read_bytes(), kept.stat().st_mode, kept.stat().st_mtime_ns) == before


def test_uninstall_restores_exactly_what_was_there_before(fresh):
    fresh.put_theirs("bridge")
    fresh.put_theirs("multus")
    fresh.put_theirs("loopback")
    (fresh.bin_dir / "ptp").symlink_to("loopback")
    before = tree(fresh.root)
    fresh.install("--replace", "--as-multus", "--conf-dir", str(fresh.conf_dir))
    assert fresh.conf.exists()
    fresh.install()
    fresh.install("--uninstall")
    assert tree(fresh.root) == before
    assert "nothing changed" in fresh.install("--uninstall")


def test_a_failed_installation_leaves_nothing(fresh):
    fresh.environ.update(PIP_NO_INDEX="1", PIP_FIND_LINKS=str(fresh.root), PIP_CONFIG_FILE=os.devnull)
    assert fresh.run().returncode != 0
    assert tree(fresh.root) == {}


def test_a_missing_package_is_named_and_nothing_is_changed_where_there_is_no_apt(fresh):
    process = fresh.run("--demo", before=("unshare", "--mount", "sh", "-c", HIDE.format("apt-get nft"), "sh"))
    assert process.returncode == 1
    assert "missing: nftables" in process.stderr
    assert tree(fresh.root) == {}


def test_the_programs_that_only_the_demo_shows_need_not_be_there(machine):
    process = machine.run(before=("unshare", "--mount", "sh", "-c", HIDE.format("apt-get nft ip ping"), "sh"))
    assert process.returncode == 0, process.stderr
    assert machine.launchers() == ALWAYS | SHARED


def test_a_half_built_version_is_built_again(fresh, prefix):
    version = (prefix / "current").resolve().name
    half_built = fresh.prefix / "versions" / version
    shutil.copytree(prefix / "versions" / version / "bin", half_built / "bin", symlinks=True)
    fresh.install()
    assert (half_built / "complete").exists()
    assert fresh.launch("plexus", CNI_COMMAND="VERSION").returncode == 0


def test_the_configuration_is_written_only_when_asked_for(machine):
    machine.install()
    assert not machine.conf_dir.exists()
    assert "kept" not in machine.install("--conf-dir", str(machine.conf_dir))
    assert machine.conf.read_bytes() == (ROOT / "conf-examples/10-plexus.conflist").read_bytes()
    assert [path.name for path in machine.conf_dir.iterdir()] == [machine.conf.name]


def test_an_edited_configuration_is_kept(machine):
    machine.install("--conf-dir", str(machine.conf_dir))
    machine.conf.write_text("{}")
    assert f"kept {machine.conf}" in machine.install("--conf-dir", str(machine.conf_dir))
    assert machine.conf.read_text() == "{}"


def test_a_configuration_that_comes_first_is_named(machine):
    machine.conf_dir.mkdir(parents=True)
    (machine.conf_dir / "05-other.conf").write_text("{}")
    assert "05-other.conf, which comes before" in machine.install("--conf-dir", str(machine.conf_dir))


@pytest.mark.parametrize("name", sorted(ALWAYS | SHARED))
def test_every_launcher_answers_version(machine, name):
    machine.install()
    process = machine.launch(name, CNI_COMMAND="VERSION")
    assert process.returncode == 0, process.stderr
    assert "1.1.0" in json.loads(process.stdout)["supportedVersions"]
    assert process.stderr == b""


@pytest.mark.parametrize("name", sorted(ALWAYS | SHARED))
def test_a_launcher_without_a_command_says_which_plugin_it_is(machine, name):
    machine.install()
    for environ in ({}, {"CNI_COMMAND": ""}):
        process = machine.launch(name, **environ)
        assert process.returncode == 0
        assert process.stderr.startswith(f"CNI {name.removeprefix('plexus-')} plugin v".encode())


def test_the_environment_and_the_directory_of_the_caller_cannot_reach_a_launcher(machine):
    machine.install()
    for name in ("json.py", "cni.py", "sitecustomize.py"):
        (machine.root / name).write_text("raise SystemExit('poisoned')\n")
    here = str(machine.root)
    for environ in ({"PYTHONPATH": here}, {"PYTHONHOME": here}, {"PYTHONPATH": f"{here}:", "PYTHONSTARTUP": here}):
        process = machine.launch("plexus", CNI_COMMAND="VERSION", **environ)
        assert (process.returncode, process.stderr) == (0, b"")


def test_an_installations_daemon_serves_its_launchers_without_being_told_where(machine):
    machine.install()
    there_before = RUN.exists()
    with node_daemon.running(machine.bin_dir) as daemon:
        process = machine.launch("bridge", CNI_COMMAND="VERSION")
        assert "1.1.0" in json.loads(process.stdout)["supportedVersions"]
        assert daemon.begun("VERSION") >= 1  # launchers of tests beside this one may be served too
        assert daemon.end() == 0
    if not there_before:
        RUN.rmdir()  # it was empty again


def test_launchers_run_while_versions_change_below_them(fresh, next_sources):
    next_version = Machine(fresh.root, fresh.prefix, next_sources)
    fresh.install()
    failures: list[subprocess.CompletedProcess[bytes]] = []
    runs = 0
    finished = threading.Event()

    def launch_without_end() -> None:
        nonlocal runs
        while not finished.wait(0.02):
            process = fresh.launch("plexus-host-local", CNI_COMMAND="VERSION")
            runs += 1
            if process.returncode != 0 or process.stderr:
                failures.append(process)

    thread = threading.Thread(target=launch_without_end)
    thread.start()
    try:
        for number in range(REINSTALLATIONS):
            said = (next_version, fresh)[number % 2].install()
            assert "nothing changed" not in said
    finally:
        finished.set()
        thread.join()
    assert failures == []
    assert runs > REINSTALLATIONS
    assert len(list((fresh.prefix / "versions").iterdir())) == 2


def test_the_demo_holds_and_leaves_nothing(tmp_path, sources):
    environ = dict(os.environ) | {"TMPDIR": str(tmp_path)}
    process = subprocess.run(
        [sources / "install.sh", "--demo"], env=environ, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stdout + process.stderr
    assert process.stdout.endswith("All of it held.\n")
    assert process.stdout.count(" 0% packet loss") == 2
    assert tree(tmp_path) == {}


def test_a_demo_that_fails_says_so(tmp_path):
    (tmp_path / "plexus").symlink_to(shutil.which("false"))
    demo = ROOT / "conf-examples/demo/run.sh"
    process = subprocess.run([demo, tmp_path], capture_output=True, text=True, check=False)
    assert process.returncode != 0
    assert "The demo failed at: Attach the pod" in process.stderr


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--wat"], "unknown argument: --wat"),
        (["plexus"], "unknown argument: plexus"),
        (["--prefix"], "--prefix needs a directory"),
        (["--bin-dir", "--replace"], "--bin-dir needs a directory"),
    ],
)
def test_a_command_line_that_makes_no_sense_gets_the_usage(options, complaint):
    process = subprocess.run([ROOT / "install.sh", *options], capture_output=True, text=True, check=False)
    assert process.returncode == 2
    assert complaint in process.stderr
    assert "Usage:" in process.stderr


@pytest.mark.parametrize("prefix_path", ["a b", "x" * 250])
def test_a_prefix_that_the_kernel_cannot_execute_from_is_refused(tmp_path, sources, prefix_path):
    process = Machine(tmp_path, tmp_path / prefix_path, sources).run()
    assert process.returncode == 1
    assert "the kernel" in process.stderr
    assert tree(tmp_path) == {}


def test_help_is_printed():
    process = subprocess.run([ROOT / "install.sh", "--help"], capture_output=True, text=True, check=False)
    assert process.returncode == 0
    assert process.stdout.startswith("Usage: ./install.sh")
