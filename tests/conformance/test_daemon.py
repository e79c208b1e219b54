"""The node daemon as an installation has it: what it serves, what it declines, and how it begins and ends."""

import contextlib
import fcntl
import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import node_daemon
import pytest
from comparison import columns
from node_daemon import Daemon, until
from plugin_call import Answer, environment

from cni.node import keeper
from cni.node.client import Client
from cni.node.launcher import BUSY, WAIT
from cni.node.waiting import Waiting

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the daemon serves root")


@pytest.fixture
def bin_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "bin"
    directory.mkdir()
    return columns.install(directory)


@pytest.fixture
def daemon(bin_dir: Path) -> Iterator[Daemon]:
    with node_daemon.running(bin_dir) as running:
        yield running


@pytest.fixture
def conf(tmp_path: Path) -> dict[str, Any]:
    ranges = [[{"subnet": "10.1.0.0/16"}]]
    ipam = {"type": "host-local", "dataDir": str(tmp_path / "leases"), "ranges": ranges}
    return {"cniVersion": "1.1.0", "name": "net", "ipam": ipam}


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(300) as threads:
        yield threads


def call(bin_dir: Path, verb: str, conf: Any, container_id: str = "c1", **more: Any) -> Answer:
    done = subprocess.run(
        [str(bin_dir / "host-local")],
        input=json.dumps(conf).encode(),
        env=environment(verb, container_id),
        capture_output=True,
        check=False,
        timeout=120,
        **more,
    )
    return Answer(done.returncode, done.stdout.decode(), done.stderr.decode())


def leases(conf: dict[str, Any]) -> list[str]:
    return sorted(path.name for path in Path(conf["ipam"]["dataDir"]).glob("net/10.*"))


@contextlib.contextmanager
def held_up(conf: dict[str, Any]) -> Iterator[None]:
    """Keep host-local waiting for its lock."""
    path = Path(conf["ipam"]["dataDir"], "net", "lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def connections(daemon: Daemon) -> int:
    """How many launchers the daemon talks to."""
    inodes = set()
    for link in Path(f"/proc/{daemon.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            inodes.add(os.readlink(link))
    table = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    return sum(
        1 for row in table if row[-1] == str(daemon.socket) and row[5] == "03" and f"socket:[{row[6]}]" in inodes
    )


def test_the_daemon_serves_and_the_launcher_loads_nothing(daemon, conf):
    script = (daemon.bin_dir / "host-local").read_text().splitlines()
    done = subprocess.run(
        [sys.executable, "-IS", "-X", "importtime", str(daemon.bin_dir / "host-local")],
        input=json.dumps(conf),
        env=environment("ADD"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "cni.node.launcher" in done.stderr
    assert "cni.plugin" not in done.stderr
    assert script
    assert json.loads(done.stdout)["ips"][0]["address"] == "10.1.0.2/16"
    assert leases(conf) == ["10.1.0.2"]


def test_errors_are_the_plugins_own(daemon, conf):
    call(daemon.bin_dir, "ADD", conf)
    answer = call(daemon.bin_dir, "ADD", conf)
    assert (answer.rc, answer.result["code"]) == (1, 11)
    assert "PLX-IPAM-DUPLICATE" in answer.result["details"]


def test_each_request_is_served_in_its_own_directory_with_its_own_umask(daemon, conf, tmp_path, pool):
    conf["ipam"]["dataDir"] = "leases"
    places = [tmp_path / str(number) for number in range(20)]
    calls = []
    for number, place in enumerate(places):
        place.mkdir()
        calls.append(pool.submit(call, daemon.bin_dir, "ADD", conf, cwd=place, umask=0o027 if number % 2 else 0o077))
    assert [done.result().rc for done in calls] == [0] * len(places)
    for number, place in enumerate(places):
        assert (place / "leases/net/10.1.0.2").is_file()
        assert (place / "leases").stat().st_mode & 0o777 == (0o750 if number % 2 else 0o700)


def test_a_launcher_in_another_network_namespace_works_alone(daemon, conf):
    command = ["unshare", "--net", str(daemon.bin_dir / "host-local")]
    done = subprocess.run(
        command, input=json.dumps(conf), env=environment("ADD"), text=True, check=False, capture_output=True
    )
    assert done.returncode == 0
    assert leases(conf) == ["10.1.0.2"]
    assert "it is in other namespaces" in daemon.said()


def test_a_launcher_of_another_version_works_alone(daemon, conf, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for name in ("cni", "ipam", "delegates"):
        (other / name).symlink_to(Path(__file__).parents[2] / name)
    interpreter, rest = (daemon.bin_dir / "host-local").read_text().split("\n", 1)
    path = daemon.bin_dir / "older"
    path.write_text(interpreter + "\n" + rest.replace(str(Path(__file__).parents[2]), str(other)))
    path.chmod(0o755)
    done = subprocess.run(
        [str(path)], input=json.dumps(conf), env=environment("ADD"), text=True, check=False, capture_output=True
    )
    assert done.returncode == 0
    assert leases(conf) == ["10.1.0.2"]
    assert "its code is" in daemon.said()


def test_whoever_only_asks_whether_the_daemon_lives_is_no_launcher(daemon):
    assert all(keeper.answers(str(daemon.socket)) for _ in range(20))
    until(lambda: connections(daemon) == 0)
    assert "left a launcher to itself" not in daemon.said()


@pytest.mark.parametrize("seed", range(3))
def test_nonsense_on_the_socket_does_the_daemon_no_harm(seed, daemon, conf):
    chance = random.Random(seed)
    for _ in range(100):
        with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
            connection.connect(str(daemon.socket))
            begin = chance.choice([b"", b"plexus/1", b"plexus/1\0\0\0\x20", b"plexus/1\xff\xff\xff\xff", b"plexus/2"])
            message = begin + chance.randbytes(chance.randrange(100))
            if chance.random() < 0.5:
                connection.send(message)
            else:
                socket.send_fds(connection, [message], [0] * chance.randrange(1, 4))
    assert call(daemon.bin_dir, "ADD", conf).rc == 0
    until(lambda: connections(daemon) == 0)
    assert "could not serve a launcher" not in daemon.said()
    assert len(os.listdir(f"/proc/{daemon.pid}/fd")) < 40


def test_nobody_but_root_can_connect_and_nobody_else_is_listened_to(daemon):
    script = (
        "import os, socket, sys; os.setgid(65534); os.setuid(65534); connection = socket.socket(socket.AF_UNIX)\n"
        "connection.connect(sys.argv[1]); connection.settimeout(60); print(connection.recv(10))"
    )
    command = [sys.executable, "-I", "-c", script, str(daemon.socket)]
    path = daemon.socket
    for parent in [*path.parents][:-1]:
        parent.chmod(parent.stat().st_mode | 0o111)
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "PermissionError" in refused.stderr
    path.chmod(0o666)
    sent_away = subprocess.run(command, capture_output=True, text=True, check=False)
    assert sent_away.stdout == "b''\n", sent_away.stderr
    assert "not root's" in daemon.said()


def test_only_so_many_are_served_at_a_time_and_so_many_wait(bin_dir, conf, pool):
    with node_daemon.running(bin_dir, "--slots", "2", "--queue", "3") as daemon:
        with held_up(conf):
            served = [pool.submit(call, bin_dir, "ADD", conf, f"c{number}") for number in range(2)]
            until(lambda: daemon.begun("ADD") == 2)
            waiting = [pool.submit(call, bin_dir, "ADD", conf, f"w{number}") for number in range(3)]
            until(lambda: connections(daemon) == 5)
            refused = call(bin_dir, "ADD", conf, "too-many")
            assert daemon.begun("ADD") == 2
        assert {done.result().rc for done in served + waiting} == {0}
    assert "PLX-DAEMON-BUSY" in refused.result["details"]
    assert refused.result["code"] == 11
    assert len(leases(conf)) == 5


def test_a_daemon_that_is_told_to_end_serves_first_who_is_there(bin_dir, conf, pool):
    with node_daemon.running(bin_dir, "--slots", "2") as daemon:
        with held_up(conf):
            calls = [pool.submit(call, bin_dir, "ADD", conf, f"c{number}") for number in range(10)]
            until(lambda: connections(daemon) == 10)
            daemon.send(signal.SIGTERM)
            until(lambda: not daemon.socket.exists())
            assert not any(done.done() for done in calls)
        assert [done.result().rc for done in calls] == [0] * 10
        assert daemon.process.wait(node_daemon.PATIENCE) == 0
    assert len(leases(conf)) == 10
    assert "undo" not in daemon_said(calls)


def daemon_said(calls: list[Future[Answer]]) -> str:
    return "".join(done.result().stderr for done in calls)


def test_after_it_has_ended_nothing_of_it_is_in_the_way(bin_dir, conf):
    with node_daemon.running(bin_dir) as daemon:
        assert daemon.end() == 0
    assert not list(bin_dir.glob("plexus.sock*"))
    assert call(bin_dir, "ADD", conf).rc == 0


def test_a_daemon_takes_the_place_of_one_that_was_killed(bin_dir, conf):
    with node_daemon.running(bin_dir) as daemon:
        daemon.kill()
    assert (bin_dir / "plexus.sock").exists()
    with node_daemon.running(bin_dir) as daemon:
        assert call(bin_dir, "ADD", conf).rc == 0
        assert daemon.begun("ADD") == 1
        assert (bin_dir / "plexus.sock").stat().st_mode & 0o777 == 0o600


def test_there_is_one_daemon_for_a_socket(daemon):
    second = subprocess.run(
        [str(daemon.bin_dir / "plexus"), "daemon"], capture_output=True, text=True, check=False, timeout=60
    )
    assert second.returncode == 1
    assert "PLX-DAEMON-RUNNING" in second.stderr
    assert daemon.socket.exists()


def test_systemd_can_open_the_socket_and_keeps_it(bin_dir, conf, tmp_path):
    path = bin_dir / "plexus.sock"
    script = 'export LISTEN_PID=$$ LISTEN_FDS=1; exec "$0" daemon 3<&"$1"'
    log = tmp_path / "log"
    with socket.socket(socket.AF_UNIX) as listener, log.open("w") as stderr:
        listener.bind(str(path))
        listener.listen()
        process = subprocess.Popen(
            ["bash", "-c", script, str(bin_dir / "plexus"), str(listener.fileno())],
            pass_fds=(listener.fileno(),),
            stderr=stderr,
        )
        with process:
            # Nobody has said that it is ready: the launcher waits for its turn, or works alone.
            assert call(bin_dir, "ADD", conf).rc == 0
            until(lambda: "ready" in log.read_text())
            assert call(bin_dir, "DEL", conf).rc == 0
            process.terminate()
        assert process.returncode == 0
    assert path.exists()
    assert leases(conf) == []


def test_a_stopped_daemon_is_not_waited_for(daemon, conf):
    daemon.send(signal.SIGSTOP)
    assert call(daemon.bin_dir, "ADD", conf).rc == 0
    assert leases(conf) == ["10.1.0.2"]
    daemon.send(signal.SIGCONT)
    assert call(daemon.bin_dir, "DEL", conf).rc == 0
    assert leases(conf) == []


def test_what_waits_in_a_daemon_that_stops_is_done_alone(bin_dir, conf, pool):
    with node_daemon.running(bin_dir, "--slots", "1") as daemon:
        with held_up(conf):
            first = pool.submit(call, bin_dir, "DEL", conf, "first")
            until(lambda: daemon.begun("DEL") == 1)
            waiting = [pool.submit(call, bin_dir, "ADD", conf, f"c{number}") for number in range(3)]
            until(lambda: connections(daemon) == 4)
            daemon.send(signal.SIGSTOP)
        assert [done.result().rc for done in [first, *waiting]] == [0] * 4
        assert len(leases(conf)) == 3
        daemon.send(signal.SIGCONT)
        assert call(bin_dir, "DEL", conf, "c0").rc == 0
        assert len(leases(conf)) == 2


def test_an_add_in_a_daemon_that_stops_is_undone_by_the_del_that_follows(bin_dir, conf, pool):
    with node_daemon.running(bin_dir) as daemon:
        with held_up(conf):
            adding = pool.submit(call, bin_dir, "ADD", conf)
            until(lambda: daemon.begun("ADD") == 1)
            daemon.send(signal.SIGSTOP)
            answer = adding.result()
            assert "PLX-DAEMON-HUNG" in answer.result["details"]
        assert call(bin_dir, "DEL", conf).rc == 0
        daemon.send(signal.SIGCONT)
        until(lambda: connections(daemon) == 0)
        assert daemon.end() == 0
    assert leases(conf) == []


def test_an_add_whose_launcher_the_runtime_has_killed_leaves_nothing(daemon, conf):
    with held_up(conf):
        launcher = subprocess.Popen(
            [str(daemon.bin_dir / "host-local")], stdin=subprocess.PIPE, env=environment("ADD"), text=True
        )
        with launcher:
            assert launcher.stdin
            launcher.stdin.write(json.dumps(conf))
            launcher.stdin.close()
            until(lambda: daemon.begun("ADD") == 1)
            launcher.kill()
    until(lambda: connections(daemon) == 0)
    assert leases(conf) == []
    assert "undo an ADD whose launcher is gone: c1 eth0" in daemon.said()


def test_a_del_waits_for_the_add_that_it_is_to_undo(daemon, conf, pool):
    with held_up(conf):
        adding = pool.submit(call, daemon.bin_dir, "ADD", conf)
        until(lambda: daemon.begun("ADD") == 1)
        deleting = pool.submit(call, daemon.bin_dir, "DEL", conf)
        other = pool.submit(call, daemon.bin_dir, "DEL", conf, "c2")
        until(lambda: connections(daemon) == 3)
        until(lambda: daemon.begun("DEL") == 1)
    assert [adding.result().rc, deleting.result().rc, other.result().rc] == [0, 0, 0]
    assert leases(conf) == []


def test_a_killed_daemons_requests_are_all_finished_by_their_launchers(bin_dir, conf, pool):
    with node_daemon.running(bin_dir, "--slots", "4") as daemon:
        with held_up(conf):
            calls = [pool.submit(call, bin_dir, "ADD", conf, f"c{number}") for number in range(12)]
            until(lambda: connections(daemon) == 12)
            daemon.kill()
        assert [done.result().rc for done in calls] == [0] * 12
    assert len(leases(conf)) == 12


def test_a_line_that_does_not_move_is_told_to_come_later():
    """As long as it does move nobody is sent away, however long they have waited."""
    waiting = Waiting(10)
    with contextlib.ExitStack() as stack:
        launchers = [admitted(waiting, stack) for _ in range(3)]
        assert waiting.is_stuck(-1)
        assert waiting.next()
        assert waiting.is_stuck(-1)
        assert not waiting.is_stuck(3600)
        assert waiting.refuse_line() == 2
        waiting.reassure()
        assert [launcher.recv(10) for launcher in launchers] == [WAIT + WAIT, WAIT + BUSY, WAIT + BUSY]
        assert waiting.is_stuck(-1), "nobody has been taken since"
        admitted(waiting, stack)
        assert waiting.next()
        assert not waiting.is_stuck(-1)


def admitted(waiting: Waiting, stack: contextlib.ExitStack) -> socket.socket:
    """A launcher's end of what it talks by, in line."""
    ours, theirs = (stack.enter_context(end) for end in socket.socketpair())
    assert waiting.admit(Client(theirs))
    return ours
