"""What keeps the host's daemon, without a host: which version it takes, and what it takes for alive."""

import os
import socket
import threading
from pathlib import Path

import pytest

from cni.cli import command
from cni.node import keeper, systemd
from cni.node.host import Host
from cni.node.prefix import Prefix


@pytest.fixture
def prefix(tmp_path: Path) -> Prefix:
    (tmp_path / "opt/plexus/versions/v1/bin").mkdir(parents=True)
    return Prefix(Host(str(tmp_path)), "/opt/plexus")


def test_a_version_is_installed_when_it_is_the_current_one_and_has_its_command(prefix: Prefix):
    assert keeper.find_version(prefix) == ""
    os.symlink("versions/v1", prefix.local("current"))
    assert keeper.find_version(prefix) == ""
    Path(prefix.local("versions", "v1", "bin", "plexus")).touch()
    assert keeper.find_version(prefix) == "v1"


def test_every_sign_of_life_counts_and_silence_is_noticed(tmp_path: Path):
    now = [0.0]
    pulse = keeper.Pulse(str(tmp_path), lambda: now[0])
    try:
        now[0] = keeper.SILENCE
        assert not pulse.is_silent()
        systemd.notify({"NOTIFY_SOCKET": pulse.path}, "WATCHDOG=1")
        now[0] = 2 * keeper.SILENCE
        assert not pulse.is_silent()
        now[0] = 3 * keeper.SILENCE + 1
        assert pulse.is_silent()
    finally:
        pulse.close()


def test_the_daemon_is_asked_for_signs_of_life_that_come_in_time():
    assert systemd.watchdog_seconds(keeper.ENVIRON) == keeper.SILENCE


@pytest.mark.parametrize(("says", "alive"), [(b".", True), (b"!", True), (b"?", False), (b"", False)])
def test_a_daemon_answers_when_it_says_so(tmp_path: Path, says: bytes, alive: bool):
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(path)
        listening.listen()

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(says)

        thread = threading.Thread(target=answer)
        thread.start()
        assert keeper.answers(path) == alive
        thread.join()
    assert not keeper.answers(path)  # nobody listens any more
    assert not keeper.answers(str(tmp_path / "nothing"))


def test_nobody_is_kept_when_the_end_has_come(prefix: Prefix):
    stop = threading.Event()
    stop.set()
    keeper.keep(prefix, [], stop)


def test_options_of_the_daemon_are_passed_on():
    words = ["node", "daemon", "--daemon-option=--slots=8", "--daemon-option=--metrics=unix:/run/m"]
    assert command.parse(words).daemon_options == ["--slots=8", "--metrics=unix:/run/m"]
