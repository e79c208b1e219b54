"""`plexus node`, from an environment that has no interpreter to bring: it configures, and says what it found."""

import json
import logging
import signal
from pathlib import Path
from threading import Thread

import pytest

from cni.cli import command
from cni.cli import node as node_command

FLANNEL = {"cniVersion": "1.0.0", "name": "cbr0", "plugins": [{"type": "flannel"}]}
PATIENCE = 10
K3S = "/var/lib/rancher/k3s"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("opt/cni/bin", "etc/cni/net.d"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "etc/cni/net.d/10-flannel.conflist").write_text(json.dumps(FLANNEL))
    return tmp_path


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    for name in ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)
    caplog.set_level(logging.INFO)
    return caplog


def node(root: Path, *words: str) -> int:
    return command.main(["node", *words, "--host-root", str(root)])


def entry(root: Path, conf_dir: str = "/etc/cni/net.d") -> dict[str, object]:
    (plugin,) = json.loads((root / conf_dir.lstrip("/") / "00-plexus.conflist").read_text())["plugins"]
    return dict(plugin)


def test_installing_configures_the_runtime_and_leaves_launchers_to_whoever_has_an_interpreter(root, log, capsys):
    assert node(root, "install", "--kubeconfig", "/etc/plexus/kubeconfig") == 0
    assert "launchers are left to install.sh" in log.text
    assert entry(root) == {
        "type": "plexus",
        "primary": "/etc/cni/net.d/10-flannel.conflist",
        "binDir": "/opt/cni/bin",
        "kubeconfig": "/etc/plexus/kubeconfig",
        "delegates": [FLANNEL],
    }
    assert node(root, "status") == 0
    assert "with 10-flannel.conflist in it" in capsys.readouterr().out


def test_installing_before_there_is_a_primary_says_so_and_the_status_is_a_failure(root, log, capsys):
    (root / "etc/cni/net.d/10-flannel.conflist").unlink()
    assert node(root, "install") == 0
    assert "PLX-NODE-PRIMARY" in log.text
    assert node(root, "status") == 1
    assert "PLX-NODE-PRIMARY" in capsys.readouterr().err


def test_uninstalling_leaves_the_host_as_it_was(root, log):
    before = sorted(path.relative_to(root) for path in root.rglob("*"))
    node(root, "install")
    assert node(root, "uninstall") == 0
    assert sorted(path.relative_to(root) for path in root.rglob("*")) == before
    assert node(root, "uninstall") == 0
    assert "nothing changed" in log.text


def test_a_distribution_whose_directories_are_not_mounted_is_told(root, capsys):
    (root / "var").mkdir()
    assert node(root, "install", "--distribution", "k3s") == 0  # there is something to make them in
    (root / "srv").mkdir()
    bare = root / "srv"
    (bare / "opt").mkdir()
    assert node(bare, "install", "--distribution", "k3s") == 1
    said = capsys.readouterr().err
    assert f"{K3S}/agent/etc/cni/net.d" in said
    assert "PLX-NODE-PATHS" in said


def test_the_directories_of_the_distribution_are_found(root):
    conf_dir = root / K3S.lstrip("/") / "agent/etc/cni/net.d"
    conf_dir.mkdir(parents=True)
    (conf_dir / "10-flannel.conflist").write_text(json.dumps(FLANNEL))
    assert node(root, "install") == 0
    assert entry(root, f"{K3S}/agent/etc/cni/net.d")["binDir"] == f"{K3S}/data/cni"


def test_directories_that_are_named_win_with_a_warning(root, log):
    (root / K3S.lstrip("/")).mkdir(parents=True)
    assert node(root, "install", "--conf-dir", "/etc/cni/net.d", "--bin-dir", "/opt/cni/bin") == 0
    assert entry(root)["binDir"] == "/opt/cni/bin"
    assert "looks like k3s" in log.text


def test_the_settings_of_the_administrator_are_in_the_entry(root, tmp_path):
    settings = tmp_path / "settings.json"
    settings.write_text('{"namespaceIsolation": true}')
    node(root, "install", "--settings", str(settings), "--network-name", "pods")
    assert entry(root)["namespaceIsolation"] is True
    assert json.loads((root / "etc/cni/net.d/00-plexus.conflist").read_text())["name"] == "pods"


@pytest.mark.parametrize("words", [[], ["wat"], ["install", "--distribution", "openwrt"], ["install", "--wat"]])
def test_a_command_line_that_makes_no_sense_is_misuse(root, words):
    assert node(root, *words) == 2


def test_a_signal_is_heard_in_any_moment_of_waiting_for_it():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    try:
        stop = node_command._stopped_by_signals()
        heard = Thread(target=signal.getsignal(signal.SIGTERM), args=(signal.SIGTERM, None), daemon=True)
        with stop._cond:  # type: ignore[attr-defined] # which Event.wait holds when it begins and ends
            heard.start()
            heard.join(PATIENCE)
            assert not heard.is_alive()
        assert stop.wait(PATIENCE)
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])
