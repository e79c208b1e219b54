"""The daemon's cleaner: at once, then periodically; bounded, counted, by today's configuration, never in the way."""

import json
from pathlib import Path

import pytest

from cni.linux import disk
from cni.meta import strays
from cni.meta.reclaim import Reclaimer
from cni.node import cleaner as cleaner_module
from cni.node import layout
from cni.node.cleaner import Cleaner
from cni.node.host import Host
from cni.node.metrics import Metrics
from cni.node.waiting import Waiting
from cni.plugin.ledger import Entry, Ledger, Record


class Node:
    """A runtime's configuration, and a ledger."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.metrics = Metrics(Waiting(1), 1)
        self.conf_dir = directory / "net.d"
        self.conf_dir.mkdir()
        self.ledger = Ledger(str(directory / "state" / "containers"))
        self.paused: list[float] = []
        self.configure()

    def configure(self) -> None:
        plugin = {"type": "plexus", "cniDir": str(self.directory / "state"), "delegates": [{"type": "passthru"}]}
        conf = {"cniVersion": "1.0.0", "name": "plexus", "plugins": [plugin]}
        (self.conf_dir / "00-plexus.conflist").write_text(json.dumps(conf))

    def dead(self, container: str, plugin: str = "passthru") -> None:
        conf = json.dumps({"cniVersion": "1.0.0", "name": "net", "type": plugin})
        entry = Entry(network="net", conf=conf, ifname="eth0")
        record = Record(container_id=container, ifname="eth0", netns="/n", boot_id="an-earlier-one", entries=(entry,))
        self.ledger.write(record)

    def cleaner(self, pauses: int = 1000) -> Cleaner:
        def pause(seconds: float) -> bool:
            self.paused.append(seconds)
            return len(self.paused) > pauses

        environ = {"NETCONFPATH": str(self.conf_dir), "CNI_PATH": str(self.directory)}
        return Cleaner(300, environ, self.metrics, pause)

    def counted(self, outcome: str, what: str = "container") -> float | None:
        return self.metrics.registry.get_sample_value("plexus_cleaned_total", {"what": what, "outcome": outcome})

    def left(self) -> list[str]:
        return [record.container_id for record in self.ledger.records()]


@pytest.fixture
def node(tmp_path, monkeypatch) -> Node:
    monkeypatch.setattr(disk, "kind", lambda _: "ext4")
    monkeypatch.setattr(strays, "find", list)
    return Node(tmp_path)


def test_it_cleans_up_and_counts(node):
    node.dead("c1")
    node.dead("c2")
    assert [outcome.removed for outcome in node.cleaner().clean()] == [True, True]
    assert (node.left(), node.counted("removed"), node.paused) == ([], 2, [cleaner_module.GRACE])


def test_where_there_is_nothing_it_does_not_even_wait(node):
    assert (node.cleaner().clean(), node.paused) == ([], [])


def test_it_works_at_once_and_again_after_each_period_until_the_end(node):
    node.dead("c1")
    node.cleaner(pauses=2).run()
    assert node.paused == [cleaner_module.GRACE, 300, 300]
    assert node.left() == []


def test_when_it_is_to_end_nothing_is_begun_any_more(node):
    node.dead("c1")
    node.cleaner(pauses=0).run()
    assert (node.left(), node.paused) == (["c1"], [cleaner_module.GRACE])


def test_it_does_so_much_each_time_and_the_rest_the_next(node, monkeypatch):
    monkeypatch.setattr(cleaner_module, "MOST", 2)
    for number in range(5):
        node.dead(f"c{number}")
    cleaner = node.cleaner()
    left = []
    for _ in range(3):
        cleaner.clean()
        left.append(len(node.left()))
    assert left == [3, 1, 0]


def test_what_cannot_be_removed_is_counted_moved_to_the_unfinished_and_not_in_the_way_of_others(node, monkeypatch):
    monkeypatch.setattr(cleaner_module, "MOST", 1)
    node.dead("c1", plugin="gone")
    cleaner = node.cleaner()
    for _ in range(3):
        cleaner.clean()
    assert (node.left(), node.counted("failed")) == ([], 2)
    assert [record.container_id for record in node.ledger.unfinished.records()] == ["c1"]
    assert node.metrics.registry.get_sample_value("plexus_unfinished") == 1

    node.dead("c2")
    cleaner.clean()
    assert node.left() == []
    cleaner.clean()
    assert node.counted("failed", what="unfinished") == 1


@pytest.mark.parametrize("content", [None, "{", '{"name": "other", "plugins": [{"type": "bridge"}]}'])
def test_without_a_configuration_of_ours_it_waits_for_one(node, content):
    node.dead("c1")
    path = node.conf_dir / "00-plexus.conflist"
    path.unlink() if content is None else path.write_text(content)
    cleaner = node.cleaner()
    assert cleaner.clean() == []
    node.configure()
    cleaner.clean()
    assert node.left() == []


@pytest.mark.parametrize("name", ["k3s", "microk8s", "kubeadm"])
def test_the_configuration_is_where_the_distribution_has_it(node, name):
    found = layout.find(name)
    root = node.directory / "root"
    for path in (found.marker, found.conf_dir):
        (root / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
    (node.conf_dir / "00-plexus.conflist").rename(root / found.conf_dir.lstrip("/") / "00-plexus.conflist")
    node.dead("c1")
    Cleaner(300, {}, node.metrics, lambda _: False, Host(str(root))).clean()
    assert node.left() == []


def test_a_directory_that_another_distribution_has_left_does_not_hide_the_configuration(node):
    root = node.directory / "root"
    for path in (layout.K3S, "etc/cni/net.d"):
        (root / path.lstrip("/")).mkdir(parents=True)
    (node.conf_dir / "00-plexus.conflist").rename(root / "etc/cni/net.d/00-plexus.conflist")
    node.dead("c1")
    Cleaner(300, {}, node.metrics, lambda _: False, Host(str(root))).clean()
    assert node.left() == []


def test_a_failure_of_any_kind_is_logged_and_the_next_time_comes(node, monkeypatch, caplog):
    failures = [OSError("disk"), ZeroDivisionError()]
    look = Reclaimer.look

    def fail(self):
        if failures:
            raise failures.pop()
        return look(self)

    monkeypatch.setattr(Reclaimer, "look", fail)
    node.dead("c1")
    node.cleaner(pauses=3).run()
    assert caplog.text.count("could not clean up") == 2
    assert node.left() == []


def test_it_ends_when_it_is_told_however_long_it_would_wait(node):
    environ = {"NETCONFPATH": str(node.conf_dir)}
    node.dead("c1")
    cleaner = Cleaner(10**6, environ, node.metrics)
    cleaner.start()
    cleaner.end()
    cleaner.finish()
    assert not cleaner.is_alive()
    assert node.left() == ["c1"]


def test_one_that_was_never_started_can_be_ended(node):
    cleaner = node.cleaner()
    cleaner.end()
    cleaner.finish()
