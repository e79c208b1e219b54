"""The bundle on a host that has neither Python, nor a C library, nor nft: installed, run, replaced and taken back."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path
from typing import IO, Any

import pytest
from bundled import ROOT, BareHost

from cni.node import bundle as bundles
from cni.node import launchers
from cni.spec.errors import IOFailure

PRIMARY = {
    "cniVersion": "1.0.0",
    "name": "pod-network",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "br9",
            "isDefaultGateway": True,
            "ipMasq": True,
            "ipam": {"type": "host-local", "subnet": "10.9.0.0/24"},
        }
    ],
}
NAMES = sorted({*launchers.OWN, *launchers.SHARED})
UPDATES = 10
PATIENCE = 120
THEIRS = b"#!/bin/sh\necho another vendor\n"


def tree(root: Path) -> dict[str, tuple[Any, ...]]:
    """Everything below `root`: kind, mode and owner, and of files the content and the time."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        about: tuple[Any, ...] = (status.st_mode, status.st_uid, status.st_gid)
        if path.is_symlink():
            about += (os.readlink(path),)
        elif path.is_file():
            about += (hashlib.sha256(path.read_bytes()).hexdigest(), status.st_mtime_ns)
        found[str(path.relative_to(root))] = about
    return found


def put_primary(bare: BareHost, **keys: Any) -> None:
    (bare.conf_dir / "10-net.conflist").write_text(json.dumps(PRIMARY | keys))


def configuration(bare: BareHost) -> str:
    """What the runtime gives to the plugin of the entry."""
    entry = json.loads(bare.entry.read_text())
    (plugin,) = entry["plugins"]
    return json.dumps(plugin | {"name": entry["name"], "cniVersion": entry["cniVersion"]})


def call(bare: BareHost, command: str, netns: str) -> subprocess.CompletedProcess[str]:
    variables = {"CONTAINERID": "c1", "NETNS": netns, "IFNAME": "eth0", "PATH": "/opt/cni/bin"}
    environ = {f"CNI_{name}": value for name, value in variables.items()}
    return bare.launch("plexus", configuration(bare), CNI_COMMAND=command, **environ)


@pytest.fixture
def installed(bare: BareHost) -> BareHost:
    put_primary(bare)
    bare.run_node("install")
    return bare


def test_a_container_is_attached_and_detached_with_masquerading_on_a_host_that_has_nothing(installed):
    sandbox = installed.host.namespace("sandbox")
    assert [path.name for path in (installed.root / "bin").iterdir()] == ["busybox"]
    assert not (installed.root / "lib").exists()
    added = call(installed, "ADD", sandbox.path)
    assert added.returncode == 0, added.stdout + added.stderr
    (ip,) = json.loads(added.stdout)["ips"]
    assert ip["address"].startswith("10.9.0.")
    assert sandbox.pings("10.9.0.1")
    assert ip["address"].partition("/")[0] in installed.host.firewall()
    deleted = call(installed, "DEL", sandbox.path)
    assert deleted.returncode == 0, deleted.stdout + deleted.stderr
    assert sandbox.links() == ["lo"]
    assert "10.9.0." not in installed.host.firewall()


def test_every_launcher_runs_there(installed):
    for name in NAMES:
        answer = installed.launch(name, CNI_COMMAND="VERSION")
        assert (answer.returncode, answer.stderr) == (0, "")
        assert "1.1.0" in json.loads(answer.stdout)["supportedVersions"]


def test_the_hosts_libraries_are_not_used_even_where_the_runtime_says_so(installed):
    poison = installed.root / "poison"
    poison.mkdir()
    for library in (installed.bundle / "lib").glob("*.so*"):
        (poison / library.name).write_bytes(b"not a library")
    answer = installed.launch("plexus", CNI_COMMAND="VERSION", LD_LIBRARY_PATH="/poison")
    assert (answer.returncode, answer.stderr) == (0, "")


def test_everything_that_is_loaded_comes_from_the_bundle(bundle):
    script = (
        "import ctypes, decimal, kubernetes, pyroute2, pydantic, sqlite3, ssl, sys, yaml;"
        "print(*{line.split()[-1] for line in open('/proc/self/maps') if '.so' in line}, sys.prefix, *sys.path)"
    )
    python = bundle / "bin" / "python3"
    shown = subprocess.run([python, "-I", "-c", script], env={}, capture_output=True, text=True, check=True)
    assert [path for path in shown.stdout.split() if not path.startswith(f"{bundle}")] == []


def test_installing_again_changes_nothing(installed):
    before = tree(installed.root)
    assert installed.run_node("install") == ""
    assert tree(installed.root) == before


def test_status_says_what_is_installed_and_fails_until_the_runtime_uses_it(bare):
    bare.run_node("install")
    assert subprocess.run(bare.node("status"), env={}, capture_output=True, check=False).returncode == 1
    put_primary(bare)
    bare.run_node("install")
    said = bare.run_node("status")
    assert "00-plexus.conflist, with 10-net.conflist in it" in said
    assert bare.launch("plexus", "", "node", "status").stdout == said  # and so it does on the host itself
    (bare.bin_dir / "plexus-bridge").unlink()
    done = subprocess.run(bare.node("status"), env={}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "PLX-NODE-PATHS" in done.stderr


def next_version(bundle: Path, directory: Path) -> Path:
    """A bundle of another content."""
    shutil.copytree(bundle, directory, symlinks=True, copy_function=os.link)
    (directory / "version").unlink()
    (directory / "version").write_text("0123456789abcdef\n")
    module = next(directory.glob("lib/python3*/*-packages/cni/__init__.py"))
    text = module.read_text()
    module.unlink()
    module.write_text(f"{text}# the next version\n")
    return directory


@pytest.mark.parametrize("missing", ["h2", "google/protobuf", "prometheus_client"])
def test_a_bundle_that_lacks_a_library_is_not_installed(bundle, bare, tmp_path, missing):
    put_primary(bare)
    partial = relocated(next_version(bundle, tmp_path / "partial"))
    shutil.rmtree(next(partial.glob("lib/python3*/*-packages")) / missing)
    with pytest.raises(IOFailure, match=f"No module named '{missing.replace('/', '.')}"):
        bundles.install(str(partial), str(bare.root / "opt/plexus/versions/v2"), "/opt/plexus/versions/v2", b"")
    assert not (bare.root / "opt/plexus/versions/v2").exists()


def test_launchers_run_while_versions_change_below_them(installed, tmp_path):
    other = next_version(installed.bundle, tmp_path / "next")
    failures: list[subprocess.CompletedProcess[str]] = []
    runs = 0
    finished = threading.Event()

    def launch_without_end() -> None:
        nonlocal runs
        while not finished.is_set():
            done = installed.launch("plexus-host-local", CNI_COMMAND="VERSION")
            runs += 1
            if done.returncode != 0 or done.stderr:
                failures.append(done)

    threads = [threading.Thread(target=launch_without_end) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for number in range(UPDATES):
            # The interpreter that installs is the one that can run where it lies; what it installs is its own prefix.
            installed.run_node("install", "--replace", bundle=relocated(other) if number % 2 == 0 else None)
    finally:
        finished.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert runs > UPDATES
    assert len(os.listdir(installed.root / "opt/plexus/versions")) == 2


def relocated(bundle: Path) -> Path:
    """The bundle, able to run where it lies now."""
    path = bundle / "bin" / "python3"
    content = path.read_bytes()
    path.unlink()  # it is a link to the other's
    path.write_bytes(content)
    path.chmod(0o755)
    bundles.relocate(str(bundle), str(bundle))
    return bundle


def test_the_agent_configures_and_leaves_everything_in_place_at_sigterm(bare):
    with subprocess.Popen(bare.node("run"), env={}, stderr=subprocess.PIPE, text=True) as agent:
        rescue = threading.Timer(PATIENCE, agent.kill)  # so that a defect does not stop the test run
        rescue.start()
        try:
            assert agent.stderr
            wait_for(agent.stderr, "PLX-NODE-PRIMARY")  # there is none yet
            put_primary(bare)
            wait_for(agent.stderr, "wrote")
            before = tree(bare.root)
            agent.send_signal(signal.SIGTERM)
            said = agent.stderr.read()
            assert agent.wait() == 0
        finally:
            rescue.cancel()
            agent.kill()
    assert said.endswith("plexus: stopped; the runtime's configuration, plugins and kubeconfig stay\n")
    assert tree(bare.root) == before


def wait_for(stderr: IO[str], text: str) -> None:
    """Read what the agent says until it says this."""
    for line in stderr:
        if text in line:
            return
    pytest.fail(f"it ended without saying {text!r}")


def before_and_installed(bare: BareHost) -> dict[str, tuple[Any, ...]]:
    put_primary(bare)
    (bare.conf_dir / "00-multus.conf").write_text('{"cniVersion": "1.0.0", "name": "m", "type": "multus"}')
    for name in ("bridge", "multus", "loopback"):
        path = bare.bin_dir / name
        path.write_bytes(THEIRS)
        path.chmod(0o750)
        os.chown(path, 1001, 116)
    (bare.bin_dir / "ptp").symlink_to("loopback")
    before = tree(bare.root)
    bare.run_node("install", "--replace", "--as-multus")
    assert bare.launch("multus", CNI_COMMAND="VERSION").returncode == 0
    assert sorted(path.name for path in bare.conf_dir.iterdir()) == [
        "00-multus.conf.before-plexus",
        "00-plexus.conflist",
        "10-net.conflist",
    ]
    return before


def test_uninstalling_restores_what_was_there_before_and_is_refused_while_a_container_is_attached(bare):
    before = before_and_installed(bare)
    sandbox = bare.host.namespace("sandbox")
    assert call(bare, "ADD", sandbox.path).returncode == 0
    refused = subprocess.run(bare.node("uninstall"), env={}, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "PLX-NODE-ATTACHED" in refused.stderr
    assert call(bare, "DEL", sandbox.path).returncode == 0
    shutil.rmtree(bare.root / "var/lib/cni/networks")  # host-local's, as the reference leaves them
    bare.run_node("uninstall")
    (bare.root / "var/lib/cni").rmdir()
    assert tree(bare.root) == before


def test_install_sh_takes_back_what_the_agent_installed(bare):
    before = before_and_installed(bare)
    inside = 'mount --rbind "$0/opt" /opt && mount --rbind "$0/etc" /etc && exec "$1" --uninstall'
    command = ["unshare", "--mount", "sh", "-c", inside, str(bare.root), str(ROOT / "install.sh")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert tree(bare.root) == before
