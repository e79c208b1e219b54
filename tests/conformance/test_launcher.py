"""What a launcher does with good and bad daemons: there is one answer, and nothing is done twice."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from comparison import columns
from plugin_call import Answer, environment, in_process

from cni.node.client import Client, Errand
from cni.node.launcher import ANSWER, BUSY, MAGIC, WAIT

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a launcher asks root's daemons only")

Act = Callable[[Client, Errand], object]
"""What a daemon does with a request."""


@pytest.fixture
def bin_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "bin"
    directory.mkdir()
    return columns.install(directory)


@pytest.fixture
def conf(tmp_path: Path) -> dict[str, Any]:
    ranges = [[{"subnet": "10.1.2.0/24"}]]
    ipam = {"type": "host-local", "dataDir": str(tmp_path / "leases"), "ranges": ranges}
    return {"cniVersion": "1.0.0", "name": "net", "ipam": ipam}


@contextlib.contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        yield listener


@contextlib.contextmanager
def daemon(bin_dir: Path, act: Act) -> Iterator[list[Errand]]:
    """Answer as `act` does; the requests so far are in the list."""
    asked: list[Errand] = []

    def serve(connection: socket.socket) -> None:
        client = Client(connection)
        try:
            client.reassure()
            asked.append(client.receive())
            act(client, asked[-1])
        finally:
            client.close()

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],)).start()

    with listening(bin_dir / "plexus.sock") as listener:
        thread = threading.Thread(target=accept)
        thread.start()
        yield asked
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def call(bin_dir: Path, verb: str, conf: dict[str, Any], plugin: str = "host-local", **more: str) -> Answer:
    done = subprocess.run(
        [str(bin_dir / plugin)],
        input=json.dumps(conf).encode(),
        env=environment(verb) | more,
        capture_output=True,
        check=False,
        timeout=60,
    )
    return Answer(done.returncode, done.stdout.decode(), done.stderr.decode())


def leases(conf: dict[str, Any]) -> list[str]:
    return sorted(path.name for path in Path(conf["ipam"]["dataDir"]).glob("net/10.*"))


def begin(client: Client, _: Errand) -> None:
    assert client.begin()


def wait_for_its_end(client: Client, _: Errand) -> None:
    while not client.is_gone():
        time.sleep(0.01)


def both(*acts: Act) -> Act:
    def act(client: Client, errand: Errand) -> None:
        for one in acts:
            one(client, errand)

    return act


def say(words: bytes) -> Act:
    return lambda client, _: client.connection.sendall(words)


def give(status: int, stdout: bytes, stderr: bytes) -> Act:
    return lambda client, _: client.answer(status, stdout, stderr)


@pytest.mark.parametrize(("status", "stdout"), [(0, b'{"a": 1}\n'), (1, b'{"code": 7}'), (0, b""), (255, b"\0\xff")])
def test_what_the_daemon_answers_is_printed_and_exited_with(status, stdout, bin_dir, conf):
    with daemon(bin_dir, both(begin, give(status, stdout, b"a warning\n"))):
        process = subprocess.run(
            [str(bin_dir / "bridge")], input=b"{}", env=environment("ADD"), capture_output=True, check=False, timeout=60
        )
    assert (process.returncode, process.stdout, process.stderr) == (status, stdout, b"a warning\n")


def test_the_daemon_is_told_all_that_the_process_was_given(bin_dir, tmp_path, conf):
    # Without a locale Python adds one.
    given = {**environment("GC"), os.fsdecode(b"ODD\xff"): os.fsdecode(b"a=b\xfe"), "EMPTY": "", "LC_ALL": "C.UTF-8"}
    with daemon(bin_dir, both(begin, give(0, b"", b""))) as asked:
        process = subprocess.run(
            [str(bin_dir / "host-local")],
            input=b"\0\xff" + bytes(3_000_000),
            env=given,
            cwd=tmp_path,
            umask=0o027,
            capture_output=True,
            check=False,
            timeout=60,
        )
    assert process.returncode == 0
    (errand,) = asked
    assert errand.stdin == b"\0\xff" + bytes(3_000_000)
    assert errand.environ == given
    assert (errand.name, errand.directory, errand.umask) == ("host-local", str(tmp_path), 0o027)


def test_an_answer_that_is_longer_than_a_buffer_arrives_whole(bin_dir, conf):
    long = os.urandom(2_000_000)
    with daemon(bin_dir, both(begin, give(0, long, long))):
        process = subprocess.run(
            [str(bin_dir / "bridge")], input=b"{}", env=environment("ADD"), capture_output=True, check=False, timeout=60
        )
    assert process.stdout == long
    assert process.stderr == long


@pytest.mark.parametrize(
    "act",
    {
        "talks nonsense": say(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        "talks without end": lambda client, _: [client.connection.sendall(b"x" * 65536) for _ in range(1000)],
        "says half of an answer, which it has not begun": say(ANSWER + b"\0\0\0"),
        "is silent": wait_for_its_end,
    }.items(),
    ids=lambda item: item[0],
)
def test_a_launcher_works_alone_when_the_daemon_does_not_do_its_part(act, bin_dir, conf):
    with daemon(bin_dir, _quiet(act[1])):
        answer = call(bin_dir, "ADD", conf)
    assert answer.rc == 0, answer.stdout
    assert leases(conf) == ["10.1.2.2"]


@pytest.mark.parametrize("verb", ["ADD", "DEL", "CHECK", "STATUS", "GC", "VERSION"])
def test_a_launcher_works_alone_when_the_daemon_hangs_up(verb, bin_dir, conf):
    conf |= {"cniVersion": "1.1.0"}
    if verb == "CHECK":
        in_process("host-local", environment("ADD"), json.dumps(conf).encode())
    with daemon(bin_dir, lambda _client, _errand: None):
        answer = call(bin_dir, verb, conf)
    assert answer.rc == 0, answer.stdout
    assert leases(conf) == (["10.1.2.2"] if verb in ("ADD", "CHECK") else [])


def _quiet(act: Act) -> Act:
    def quiet(client: Client, errand: Errand) -> None:
        with contextlib.suppress(OSError):
            act(client, errand)

    return quiet


@pytest.mark.parametrize("there", ["nothing", "a file", "a socket that nobody listens at", "a directory"])
def test_a_launcher_works_alone_when_there_is_no_daemon(there, bin_dir, conf):
    path = bin_dir / "plexus.sock"
    if there == "a file":
        path.write_text("")
    elif there == "a directory":
        path.mkdir()
    elif there == "a socket that nobody listens at":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    assert call(bin_dir, "ADD", conf).rc == 0
    assert leases(conf) == ["10.1.2.2"]


def test_a_launcher_that_went_on_alone_has_taken_the_right_to_serve_from_the_daemon(bin_dir, conf):
    begun = []

    def oversleep(client: Client, errand: Errand) -> None:
        wait_for_its_end(client, errand)
        begun.append(client.begin())

    with daemon(bin_dir, oversleep):
        assert call(bin_dir, "ADD", conf).rc == 0
    assert begun == [False]


def test_a_daemon_of_another_user_is_not_asked(bin_dir, conf):
    path = bin_dir / "plexus.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        script = "import os, socket, sys; os.setuid(65534); socket.socket(fileno=int(sys.argv[1])).listen(); print(1)"
        descriptor = listener.fileno()
        subprocess.run([sys.executable, "-c", script, str(descriptor)], pass_fds=(descriptor,), check=True, timeout=60)
        assert call(bin_dir, "ADD", conf).rc == 0
        listener.setblocking(False)
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(65536) == b""
    assert leases(conf) == ["10.1.2.2"]


def test_an_add_that_died_with_the_daemon_is_undone_and_done_once(bin_dir, conf):
    def die_after_the_work(client: Client, errand: Errand) -> None:
        begin(client, errand)
        assert in_process(errand.name, errand.environ, errand.stdin).rc == 0

    with daemon(bin_dir, die_after_the_work):
        answer = call(bin_dir, "ADD", conf)
    assert answer.result["ips"][0]["address"] == "10.1.2.3/24"
    assert leases(conf) == ["10.1.2.3"]


def test_an_add_whose_remains_cannot_be_deleted_fails_with_the_reason(bin_dir, conf):
    conf["ipam"]["dataDir"] = str(bin_dir / "host-local")  # a file
    with daemon(bin_dir, begin):
        answer = call(bin_dir, "ADD", conf)
    assert answer.rc == 1
    assert answer.result["code"] == 5


@pytest.mark.parametrize("verb", ["DEL", "STATUS", "GC", "VERSION"])
def test_other_verbs_that_died_with_the_daemon_are_simply_done_again(verb, bin_dir, conf):
    conf |= {"cniVersion": "1.1.0"}
    in_process("host-local", environment("ADD"), json.dumps(conf).encode())
    with daemon(bin_dir, begin) as asked:
        answer = call(bin_dir, verb, conf)
    assert answer.rc == 0
    assert len(asked) == 1
    assert leases(conf) == ([] if verb in ("DEL", "GC") else ["10.1.2.2"])


def test_an_add_in_a_daemon_that_hangs_is_left_to_the_next_del(bin_dir, conf):
    with daemon(bin_dir, both(begin, wait_for_its_end)):
        answer = call(bin_dir, "ADD", conf)
    assert answer.rc == 1
    assert answer.result["code"] == 11
    assert "PLX-DAEMON-HUNG" in answer.result["details"]


def test_a_del_in_a_daemon_that_hangs_is_done_alone(bin_dir, conf):
    in_process("host-local", environment("ADD"), json.dumps(conf).encode())
    with daemon(bin_dir, both(begin, wait_for_its_end)):
        assert call(bin_dir, "DEL", conf).rc == 0
    assert leases(conf) == []


def test_a_daemon_that_has_too_much_to_do_makes_the_runtime_try_later(bin_dir, conf):
    with daemon(bin_dir, both(say(BUSY), wait_for_its_end)):
        answer = call(bin_dir, "ADD", conf)
    assert answer.rc == 1
    assert answer.result["code"] == 11
    assert "PLX-DAEMON-BUSY" in answer.result["details"]
    assert leases(conf) == []


def test_signs_of_life_are_not_taken_for_an_answer(bin_dir, conf):
    def slow(client: Client, errand: Errand) -> None:
        begin(client, errand)
        for _ in range(10):
            client.reassure()
            time.sleep(0.02)
        client.answer(0, WAIT + b"done", b"")

    with daemon(bin_dir, slow):
        assert call(bin_dir, "ADD", conf) == Answer(0, ".done", "")


def test_a_version_is_answered_to_who_never_closes_stdin(bin_dir):
    process = subprocess.Popen(
        [str(bin_dir / "bridge")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment("VERSION"), text=True
    )
    with process:
        assert process.stdout
        assert json.loads(process.stdout.read())["cniVersion"] == "1.1.0"
        assert process.stdin
        process.stdin.close()


def test_without_a_verb_nobody_is_asked(bin_dir):
    with daemon(bin_dir, both(begin, give(0, b"", b""))) as asked:
        process = subprocess.run([str(bin_dir / "bridge")], env={}, capture_output=True, text=True, check=True)
    assert "CNI bridge plugin" in process.stderr
    assert asked == []


def test_a_result_that_cannot_be_printed_is_a_failure(bin_dir):
    with daemon(bin_dir, both(begin, give(0, b"{}", b""))), Path("/dev/full").open("wb") as full:
        process = subprocess.run(
            [str(bin_dir / "bridge")], input=b"{}", env=environment("ADD"), stdout=full, check=False, timeout=60
        )
    assert process.returncode == 1


def test_a_result_is_printed_whole_where_stdout_would_rather_not_wait(bin_dir):
    result = json.dumps({"dns": {"search": ["x" * 250] * 4000}}).encode()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with daemon(bin_dir, both(begin, give(0, result, b""))), open(reader, "rb") as read:
        process = subprocess.Popen(
            [str(bin_dir / "bridge")], stdin=subprocess.PIPE, env=environment("ADD"), stdout=writer
        )
        os.close(writer)
        with process:
            process.stdin.close()
            assert read.read() == result
    assert process.returncode == 0


def test_where_our_own_code_cannot_be_loaded_the_answer_is_an_error_all_the_same(bin_dir, conf, tmp_path):
    damaged = tmp_path / "damaged"
    (damaged / "cni/node").mkdir(parents=True)
    for name in ("cni/__init__.py", "cni/node/__init__.py", "cni/node/launcher.py"):
        (damaged / name).write_text((columns.ROOT / name).read_text())
    path = bin_dir / "host-local"
    path.write_text(path.read_text().replace(repr(str(columns.ROOT)), repr(str(damaged))))
    answer = call(bin_dir, "ADD", conf)
    assert (answer.rc, answer.result["code"]) == (1, 999)
    assert "No module named 'cni.plugin'" in answer.result["details"]
    assert "PLX-INSTALLATION" in answer.result["details"]
    assert "Traceback" in answer.stderr


def test_a_request_says_first_which_protocol_it_speaks(bin_dir, conf):
    with listening(bin_dir / "plexus.sock") as listener:
        process = subprocess.Popen(
            [str(bin_dir / "host-local")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=environment("DEL"),
        )
        with process:
            connection, _ = listener.accept()
            with connection:
                assert connection.recv(len(MAGIC)) == MAGIC


def test_while_the_daemon_answers_nothing_is_imported_but_what_is_built_in(bin_dir):
    baseline = _imported(["-c", "pass"])
    with daemon(bin_dir, both(begin, give(0, b"{}", b""))):
        imported = _imported([str(bin_dir / "bridge")])
    assert imported - baseline <= {"cni", "cni.node", "cni.node.launcher", "_socket", "time"}


def _imported(arguments: list[str]) -> set[str]:
    process = subprocess.run(
        [sys.executable, "-IS", "-X", "importtime", *arguments],
        input="{}",
        env=environment("ADD"),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return {line.rpartition("|")[2].strip() for line in process.stderr.splitlines() if line.startswith("import time:")}
