"""The node agent: whatever happens to the primary's file, the entry is the old valid one or the new valid one."""

import itertools
import json
import os
import random
import shutil
import stat
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from cni.node import entry
from cni.node.agent import Agent
from cni.node.host import Host
from cni.node.host_token import HostToken
from cni.node.kubeconfig import ServiceAccount
from cni.node.plan import Plan
from cni.node.prefix import Prefix
from cni.plugin import confdir, files

CONF_DIR = "/etc/cni/net.d"
PRIMARY = "10-flannel.conflist"
ENTRY = entry.FILE
SECRET = "eyJhbGciOi-token"


def network(number: int) -> str:
    return json.dumps(
        {"cniVersion": "1.0.0", "name": f"n{number}", "plugins": [{"type": "bridge", "mtu": 1000 + number}]}
    )


class Node:
    """A host below a directory, its agent, and what was ever written as the entry."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, **plan: Any) -> None:
        self.root = root
        self.conf_dir = root / CONF_DIR[1:]
        self.conf_dir.mkdir(parents=True)
        self.now = 0.0
        self.writes: list[bytes] = []
        self.plan = self._plan(**plan)
        with self.plan.prefix.locked():
            self.agent = Agent(self.plan, clock=lambda: self.now)
        self._record_writes(monkeypatch)

    def _plan(self, **plan: Any) -> Plan:
        host = Host(str(self.root))
        settings = entry.Settings(bin_dir="/opt/cni/bin")
        return Plan(
            **{"host": host, "prefix": Prefix(host, "/opt/plexus"), "conf_dir": CONF_DIR, "settings": settings} | plan
        )

    def _record_writes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        write = files.replace

        def recorded(path: str, content: bytes, mode: int = 0o600, *, durable: bool = True) -> None:
            if path == str(self.entry):
                self.writes.append(content)
            write(path, content, mode, durable=durable)

        monkeypatch.setattr(files, "replace", recorded)

    @property
    def entry(self) -> Path:
        return self.conf_dir / ENTRY

    @property
    def primary(self) -> Path:
        return self.conf_dir / PRIMARY

    def delegate(self) -> Any:
        """The network that the runtime's first configuration has as its delegate; the configuration is valid."""
        conf = confdir.load_file(str(self.entry))
        return conf.plugins[0]["delegates"][0]["name"]

    def restart(self) -> None:
        self.agent = Agent(self.plan, clock=lambda: self.now)


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    return Node(tmp_path / "host", monkeypatch)


def test_the_entry_is_written_once_and_readable_by_root_only(node):
    node.primary.write_text(network(1))
    for _ in range(5):
        assert node.agent.step()
    node.restart()
    node.agent.step()
    assert node.delegate() == "n1"
    assert len(node.writes) == 1
    assert stat.S_IMODE(node.entry.stat().st_mode) == 0o600


def test_without_a_primary_nothing_is_written_until_there_is_one(node):
    assert not node.agent.step()
    assert not node.entry.exists()
    node.primary.write_text(network(1))
    assert node.agent.step()
    assert node.delegate() == "n1"


def test_a_change_of_the_primary_is_written_once(node):
    node.primary.write_text(network(1))
    node.agent.step()
    node.primary.write_text(network(2).replace('"bridge"', '"bridge", "capabilities": {"bandwidth": true}'))
    for _ in range(3):
        node.agent.step()
    assert node.delegate() == "n2"
    assert json.loads(node.entry.read_text())["plugins"][0]["capabilities"] == {"bandwidth": True}
    assert len(node.writes) == 2


def test_a_primary_that_is_written_again_without_a_change_causes_no_write(node):
    for _ in range(3):
        node.primary.write_text(network(1))
        node.agent.step()
    assert len(node.writes) == 1


def test_a_drop_in_plugin_of_the_primary_is_a_change(node):
    node.primary.write_text(network(1))
    node.agent.step()
    (node.conf_dir / "n1").mkdir()
    (node.conf_dir / "n1" / "50-tuning.conf").write_text('{"type": "tuning"}')
    node.agent.step()
    assert '"tuning"' in node.entry.read_text()
    assert len(node.writes) == 2


@pytest.mark.parametrize("content", ["", "{", network(2)[:40], '{"name": "x"}', "null"])
def test_the_last_good_entry_stays_while_the_primary_is_broken(node, content):
    node.primary.write_text(network(1))
    node.agent.step()
    node.primary.write_text(content)
    for _ in range(100):
        node.now += 60
        assert not node.agent.step()
    assert node.delegate() == "n1"
    assert len(node.writes) == 1


def test_the_last_good_entry_stays_when_the_primary_is_gone(node):
    node.primary.write_text(network(1))
    node.agent.step()
    node.primary.unlink()
    for _ in range(100):
        node.now += 60
        node.agent.step()
    assert node.delegate() == "n1"
    assert len(node.writes) == 1


def test_a_leftover_of_another_plugin_is_not_taken_while_the_primary_is_replaced(node):
    (node.conf_dir / "87-podman.conflist").write_text(network(87))
    node.primary.write_text(network(1))
    node.agent.step()
    node.primary.unlink()
    node.agent.step()
    node.restart()  # nor does an agent take it that begins just now
    node.agent.step()
    node.primary.write_text(network(2))
    node.agent.step()
    assert [json.loads(text)["plugins"][0]["delegates"][0]["name"] for text in node.writes] == ["n1", "n2"]


def test_an_entry_that_somebody_removes_is_put_back_even_when_the_primary_is_gone(node):
    node.primary.write_text(network(1))
    node.agent.step()
    node.primary.unlink()
    node.entry.rename(node.conf_dir / f"{ENTRY}.cilium_bak")
    node.restart()
    node.agent.step()
    assert node.delegate() == "n1"


def test_an_entry_that_is_there_already_is_known_to_be_ours_to_remove(node):
    node.primary.write_text(network(1))
    node.agent.step()
    shutil.rmtree(node.plan.prefix.local())
    with node.plan.prefix.locked():
        node.restart()
    node.agent.step()
    assert node.plan.prefix.recorded("conf") == [f"{CONF_DIR}/{ENTRY}"]
    assert len(node.writes) == 1


def test_an_entry_that_is_damaged_is_written_again(node):
    node.primary.write_text(network(1))
    node.agent.step()
    node.entry.write_bytes(b"")
    node.agent.step()
    assert node.delegate() == "n1"


def test_an_entry_is_never_its_own_primary(node):
    node.primary.write_text(network(1))
    node.agent.step()
    (node.conf_dir / "05-copy.conflist").write_text(node.entry.read_text())
    for _ in range(3):
        node.agent.step()
    assert node.delegate() == "n1"
    assert len(node.writes) == 1


def test_temporary_files_have_no_name_that_a_runtime_reads(node, monkeypatch):
    created: set[str] = set()
    rename = os.rename

    def spy(source: str, target: str) -> None:
        created.add(os.path.basename(source))
        rename(source, target)

    monkeypatch.setattr(os, "rename", spy)
    node.primary.write_text(network(1))
    node.agent.step()
    assert created
    assert not any(name.endswith((".conf", ".conflist", ".json")) for name in created)


def test_a_file_that_comes_before_the_entry_is_told(node, caplog):
    node.primary.write_text(network(1))
    (node.conf_dir / "00-multus.conf").write_text('{"cniVersion": "1.0.0", "name": "m", "type": "multus-shim"}')
    for _ in range(3):
        assert not node.agent.step()
    assert caplog.text.count("PLX-NODE-NOT-FIRST") == 1
    assert node.delegate() == "n1"


def test_a_configuration_of_multus_that_comes_first_is_set_aside_where_we_take_its_place(tmp_path, monkeypatch):
    node = Node(tmp_path / "host", monkeypatch, as_multus=True)
    node.primary.write_text(network(1))
    multus = node.conf_dir / "00-multus.conf"
    multus.write_text('{"cniVersion": "1.0.0", "name": "m", "type": "multus-shim"}')
    (node.conf_dir / "00-another.conf").write_text('{"cniVersion": "1.0.0", "name": "a", "type": "bridge"}')
    assert not node.agent.step()  # somebody else's file is somebody else's
    (node.conf_dir / "00-another.conf").unlink()
    node.agent.step()
    node.now += 60
    assert node.agent.step()
    assert not multus.exists()
    assert (node.conf_dir / "00-multus.conf.before-plexus").exists()


def test_nothing_of_multus_is_set_aside_before_there_is_an_entry(tmp_path, monkeypatch):
    node = Node(tmp_path / "host", monkeypatch, as_multus=True)
    multus = node.conf_dir / "00-multus.conf"
    multus.write_text('{"cniVersion": "1.0.0", "name": "m", "type": "multus-shim"}')
    node.agent.step()
    assert multus.exists()


def test_settings_are_read_when_they_change_and_broken_ones_leave_the_last_good_entry(tmp_path, monkeypatch):
    settings = tmp_path / "settings.json"
    node = Node(tmp_path / "host", monkeypatch, settings_file=str(settings))
    node.primary.write_text(network(1))
    assert node.agent.step()
    for text, isolated, good in (
        ('{"namespaceIsolation": true}', True, True),
        ("{", True, False),
        ('{"delegates": []}', True, False),
        ("{}", None, True),
    ):
        settings.write_text(text)
        assert node.agent.step() is good
        assert json.loads(node.entry.read_text())["plugins"][0].get("namespaceIsolation") is isolated


def test_a_problem_is_told_once_and_when_it_is_over(node, caplog):
    caplog.set_level("INFO")
    for _ in range(3):
        node.agent.step()
    assert caplog.text.count("PLX-NODE-PRIMARY") == 1
    node.primary.write_text(network(1))
    node.agent.step()
    assert caplog.text.count("this is over") == 1


def test_while_another_primary_is_waited_for_the_one_that_will_be_taken_is_named(node, caplog):
    node.primary.write_text(network(1))
    node.agent.step()
    node.primary.rename(node.conf_dir / "87-podman.conflist")
    node.agent.step()
    assert '"87-podman.conflist" is taken when that has been so for 10 seconds' in caplog.text


def test_the_agent_leaves_everything_in_place_when_it_is_stopped(node):
    node.primary.write_text(network(1))
    stop = Event()
    node.agent.step()
    before = {path: path.read_bytes() for path in node.root.rglob("*") if path.is_file()}
    stop.set()
    node.agent.run(stop)
    assert {path: path.read_bytes() for path in node.root.rglob("*") if path.is_file()} == before


STEPS: dict[str, Callable[[Path, int], object]] = {
    "write": lambda path, number: path.write_text(network(number)),
    "truncate": lambda path, _: path.write_text(""),
    "partial": lambda path, number: path.write_text(network(number)[: 5 + number % 60]),
    "swap": lambda path, number: (
        path.with_suffix(".tmp").write_text(network(number)),
        path.with_suffix(".tmp").rename(path),
    ),
    "delete": lambda path, _: path.unlink(missing_ok=True),
    "away": lambda path, _: path.exists() and path.rename(path.with_suffix(".bak")),
    "back": lambda path, _: path.with_suffix(".bak").exists() and path.with_suffix(".bak").rename(path),
    "recursive": lambda path, _: path.write_text('{"name": "x", "plugins": [{"type": "multus"}]}'),
    "binary": lambda path, _: path.write_bytes(b"\xff\x00\xfe"),
    "directory": lambda path, _: (path.unlink(missing_ok=True), path.mkdir(), path.rmdir()),
}


@pytest.mark.parametrize("seed", range(20))
def test_whatever_writers_do_the_entry_is_a_valid_one_and_written_at_most_once_for_each_change(node, seed):
    """Random writers, with the agent looking in between, or not, or being restarted."""
    chance = random.Random(seed)
    published = 0
    last_valid: set[str] = set()
    for number in range(60):
        name = chance.choice(list(STEPS))
        STEPS[name](node.primary, number)
        content = node.primary.read_bytes() if node.primary.is_file() else b""
        if chance.random() < 0.2:
            node.restart()
        before = len(node.writes)
        node.agent.step()
        node.agent.step()
        assert len(node.writes) - before <= 1
        published += len(node.writes) - before
        try:
            now = json.loads(content)
            if now["plugins"][0]["type"] == "bridge":
                last_valid = {now["name"]}
        except (ValueError, KeyError, TypeError):
            pass
        if last_valid:
            assert {node.delegate()} == last_valid
    assert published


def test_a_reader_finds_a_valid_entry_at_every_moment_while_writers_and_the_agent_are_at_work(node):
    node.primary.write_text(network(0))
    node.agent.step()
    finished = Event()

    def look_without_end() -> None:
        while not finished.is_set():
            node.agent.step()

    def write_without_end() -> None:
        chance = random.Random(1)
        for number in range(120):
            STEPS[chance.choice(list(STEPS))](node.primary, number)
        node.primary.write_text(network(120))
        finished.set()

    threads = [threading.Thread(target=work) for work in (look_without_end, write_without_end)]
    for thread in threads:
        thread.start()
    while not finished.is_set():
        assert node.delegate().startswith("n")
    for thread in threads:
        thread.join()
    node.agent.step()
    assert node.delegate() == "n120"
    written = [json.loads(text)["plugins"][0]["delegates"][0]["name"] for text in node.writes]
    assert all(before != after for before, after in itertools.pairwise(written))


def test_what_changes_while_the_entry_is_written_is_seen_by_the_next_look(node, monkeypatch):
    publish = node.agent._publish

    def be_overtaken(content: bytes) -> None:
        publish(content)
        node.primary.write_text(network(2))

    node.primary.write_text(network(1))
    with monkeypatch.context() as patch:
        patch.setattr(node.agent, "_publish", be_overtaken)
        node.agent.step()
    node.agent.step()
    assert node.delegate() == "n2"


def account(directory: Path, token: str, server: str = "https://10.96.0.1:443") -> ServiceAccount:
    directory.mkdir(exist_ok=True)
    (directory / "token").write_text(token)
    (directory / "ca.crt").write_text("-----BEGIN CERTIFICATE-----\n")
    return ServiceAccount(directory=str(directory), server=server)


def test_the_kubeconfig_follows_the_token_and_is_readable_by_root_only(tmp_path, monkeypatch, caplog):
    caplog.set_level("DEBUG")
    made = account(tmp_path / "account", SECRET)
    node = Node(tmp_path / "host", monkeypatch, account=made)
    node.plan = node.plan.with_own_kubeconfig()
    node.restart()
    node.primary.write_text(network(1))
    directory = node.conf_dir / "plexus.d"
    path = directory / "plexus.kubeconfig"
    for token in (SECRET, SECRET, "another"):
        account(tmp_path / "account", token)
        assert node.agent.step()
        assert json.loads(path.read_text())["users"][0]["user"] == {"token": token}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert json.loads(node.entry.read_text())["plugins"][0]["kubeconfig"] == f"{CONF_DIR}/plexus.d/plexus.kubeconfig"
    assert caplog.text.count("plexus.kubeconfig") == 2
    assert SECRET not in caplog.text


class GivenToken(HostToken):
    """One that is told what the API server answers."""

    def __init__(self, *answers: str | None) -> None:
        self.answers = list(answers)

    def get(self) -> str | None:
        return self.answers.pop(0)


def test_the_hosts_own_token_comes_before_the_pods_and_is_kept_while_nobody_answers(tmp_path, monkeypatch):
    token = GivenToken(None, "of the host", None, "renewed", "")
    made = account(tmp_path / "account", SECRET)
    node = Node(tmp_path / "host", monkeypatch, account=made, token=token)
    path = node.conf_dir / "plexus.d/plexus.kubeconfig"
    for expected in (SECRET, "of the host", "of the host", "renewed", SECRET):
        node.agent.step()
        assert json.loads(path.read_text())["users"][0]["user"] == {"token": expected}


def test_the_kubeconfig_follows_the_authority(tmp_path, monkeypatch):
    made = account(tmp_path / "account", SECRET)
    node = Node(tmp_path / "host", monkeypatch, account=made)
    node.agent.step()
    (tmp_path / "account" / "ca.crt").write_text("-----BEGIN CERTIFICATE-----\nnew\n")
    node.agent.step()
    assert (node.conf_dir / "plexus.d/ca.crt").read_text().endswith("new\n")
    cluster = json.loads((node.conf_dir / "plexus.d/plexus.kubeconfig").read_text())["clusters"][0]["cluster"]
    assert cluster == {"server": "https://10.96.0.1:443", "certificate-authority": f"{CONF_DIR}/plexus.d/ca.crt"}


def test_a_token_that_is_missing_for_a_moment_leaves_the_kubeconfig_and_is_told(tmp_path, monkeypatch, caplog):
    made = account(tmp_path / "account", SECRET)
    node = Node(tmp_path / "host", monkeypatch, account=made)
    node.primary.write_text(network(1))
    node.agent.step()
    (tmp_path / "account" / "token").write_text("")
    assert not node.agent.step()
    assert "PLX-KUBECONFIG" in caplog.text
    assert SECRET in (node.conf_dir / "plexus.d/plexus.kubeconfig").read_text()
    assert node.delegate() == "n1"


def test_the_plan_without_an_account_writes_no_kubeconfig(node):
    node.primary.write_text(network(1))
    node.agent.step()
    assert not (node.conf_dir / "plexus.d").exists()
    assert replace(node.plan).account is None
