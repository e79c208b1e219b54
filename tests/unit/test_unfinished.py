"""DEL comes to an end: what no DEL mends leaves the container's record, and is neither lost nor in the way."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from cni.meta import devices_gone, unfinished
from cni.meta.container import Container
from cni.plugin.chain import Host
from cni.plugin.ledger import Entry, Ledger, Record
from cni.spec.errors import (
    CNIError,
    DeleteIncomplete,
    InvalidConfiguration,
    IOFailure,
    PluginFailed,
    TryAgainLater,
)

MISSING = PluginFailed('failed to find plugin "sriov"', "install it", id="PLX-PLUGIN-MISSING")
BAD_TYPE = InvalidConfiguration("invalid plugin name: a/b", "", id="PLX-PLUGIN-TYPE")
SAID_NO = PluginFailed("cannot", "", code=7)
SAID_WHAT = PluginFailed("cannot", "", code=6)
LATER = TryAgainLater("busy")
HUNG = TryAgainLater('plugin "x" did not end', id="PLX-PLUGIN-HUNG")
UNREADABLE = IOFailure("disk")
CRASHED = PluginFailed("it was killed")
FOREIGN = PluginFailed("boom", "", code=999)
UNKNOWN = PluginFailed("never heard of it", "", code=3)
NEVER = 10**6


class Plugins:
    """Plays every plugin: DEL of a type raises what is said here, else it is recorded as done."""

    def __init__(self, **failing: CNIError | None) -> None:
        self.failing = failing
        self.deleted: list[str] = []

    def __call__(self, plugin_type, request):
        error = self.failing.get(plugin_type)
        if error is not None:
            raise error
        self.deleted.append(f"{plugin_type} {request.ifname}")


class Clock:
    now = 1_000_000.0


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("cni.meta.container.time.time", lambda: clock.now)
    return clock


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(str(tmp_path / "state" / "containers"))


def entry(ifname: str, *types: str, **keys: object) -> Entry:
    conf = {"cniVersion": "1.0.0", "name": f"net-{ifname}", "plugins": [{"type": kind} | keys for kind in types]}
    return Entry(network=f"default/{ifname}", conf=json.dumps(conf), ifname=ifname)


def record(*entries: Entry, netns: str = "") -> Record:
    return Record(container_id="c1", ifname="eth0", netns=netns or f"/proc/{os.getpid()}/ns/net", entries=entries)


def begin(ledger: Ledger, *entries: Entry, netns: str = "") -> None:
    ledger.write(record(*entries, netns=netns))


def delete(ledger: Ledger, plugins: Plugins) -> None:
    """One DEL of the runtime, as the meta plugin replays it."""
    known = ledger.find("c1", "eth0")
    if known is not None:
        Container(known, ledger, Host(path=(), environ={}, call=plugins), parallel=False).detach_all()


def deletes_until_it_succeeds(ledger: Ledger, plugins: Plugins, clock: Clock, *, every: float, most: int = 20) -> int:
    for number in range(1, most + 1):
        try:
            delete(ledger, plugins)
        except CNIError:
            clock.now += every
            continue
        return number
    return NEVER


CASES = {
    "missing": (MISSING, 1.0, 3),
    "not-a-name": (BAD_TYPE, 1.0, 1),
    "a-verdict": (SAID_NO, 1.0, 3),
    "undecodable": (SAID_WHAT, 1.0, 3),
    "busy-and-quick": (LATER, 1.0, NEVER),
    "busy-and-slow": (LATER, 200.0, 5),
    "busy-and-very-slow": (LATER, 10000.0, 5),
    "hangs-and-quick": (HUNG, 1.0, NEVER),
    "hangs-and-slow": (HUNG, 200.0, 5),
    "disk": (UNREADABLE, 60.0, 11),
    "crashes": (CRASHED, 300.0, 5),
    "anything": (FOREIGN, 150.0, 5),
    "knows-nothing": (UNKNOWN, 1.0, 1),
}


@pytest.mark.parametrize("case", CASES)
def test_a_runtime_is_told_of_a_failure_as_long_as_another_del_may_mend_it(case, ledger, clock):
    error, every, expected = CASES[case]
    begin(ledger, entry("eth0", "broken"))
    assert deletes_until_it_succeeds(ledger, Plugins(broken=error), clock, every=every) == expected
    assert ledger.has("c1", "eth0") == (expected == NEVER)
    assert ledger.unfinished.has("c1", "eth0") == (expected != NEVER and error is not UNKNOWN)


@pytest.mark.parametrize("error", [CRASHED, FOREIGN])
def test_where_the_sandbox_is_gone_a_plugin_that_insists_on_it_is_not_waited_for(error, ledger, clock):
    begin(ledger, entry("eth0", "broken"), netns="/run/netns/gone")
    assert deletes_until_it_succeeds(ledger, Plugins(broken=error), clock, every=1.0) == 3


@pytest.mark.parametrize("error", [LATER, UNREADABLE])
def test_where_the_sandbox_is_gone_what_passes_is_waited_for_all_the_same(error, ledger, clock):
    begin(ledger, entry("eth0", "broken"), netns="/run/netns/gone")
    assert deletes_until_it_succeeds(ledger, Plugins(broken=error), clock, every=1.0) == NEVER


def test_what_is_left_says_why_since_when_and_how_often(ledger, clock):
    begin(ledger, entry("eth0", "broken"))
    deletes_until_it_succeeds(ledger, Plugins(broken=MISSING), clock, every=7.0)
    (left,) = ledger.unfinished.records()
    failure = left.entries[0].failure
    assert failure is not None
    assert (failure.since, failure.tries) == (1_000_000, 3)
    assert "PLX-PLUGIN-MISSING" in failure.reason
    assert "install it" in failure.reason


def test_all_the_others_are_undone_at_the_first_del_and_only_the_broken_one_is_tried_again(ledger, clock):
    begin(ledger, entry("eth0", "good"), entry("net1", "broken"), entry("net2", "good"))
    plugins = Plugins(broken=MISSING)
    assert deletes_until_it_succeeds(ledger, plugins, clock, every=1.0) == 3
    assert sorted(plugins.deleted) == ["good eth0", "good net2"]
    (left,) = ledger.unfinished.records()
    assert [kept.ifname for kept in left.entries] == ["net1"]


def test_a_chain_is_left_only_when_none_of_its_failures_may_pass(ledger, clock):
    begin(ledger, entry("eth0", "gone", "busy"))
    plugins = Plugins(gone=MISSING, busy=LATER)
    assert deletes_until_it_succeeds(ledger, plugins, clock, every=1.0) == NEVER
    plugins.failing["busy"] = None
    delete(ledger, plugins)
    assert not ledger.has("c1", "eth0")
    assert ledger.unfinished.has("c1", "eth0")


def test_a_failure_that_is_mended_in_time_leaves_nothing_at_all(ledger, clock):
    begin(ledger, entry("eth0", "broken"))
    plugins = Plugins(broken=MISSING)
    with pytest.raises(PluginFailed):
        delete(ledger, plugins)
    plugins.failing.clear()
    delete(ledger, plugins)
    assert plugins.deleted == ["broken eth0"]
    assert (list(ledger.records()), list(ledger.unfinished.records())) == ([], [])


def test_a_clock_that_is_set_back_makes_it_wait_and_one_that_jumps_ahead_does_not_spare_the_tries(ledger, clock):
    begin(ledger, entry("eth0", "broken"))
    plugins = Plugins(broken=LATER)
    for moment in (2_000_000.0, 1_000.0, 1_100.0, 1_200.0, 1_300.0):
        clock.now = moment
        with pytest.raises(CNIError):
            delete(ledger, plugins)
    clock.now = 1_700.0
    delete(ledger, plugins)

    begin(ledger, entry("eth0", "broken"))
    for moment in (1_000.0, 10**9, 2 * 10**9, 3 * 10**9):
        clock.now = moment
        with pytest.raises(CNIError):
            delete(ledger, plugins)


def test_what_cannot_be_kept_elsewhere_stays_where_it_is_and_is_told_again(ledger, clock, tmp_path):
    begin(ledger, entry("eth0", "broken"))
    (tmp_path / "state" / "unfinished").write_text("in the way")
    assert deletes_until_it_succeeds(ledger, Plugins(broken=MISSING), clock, every=1.0) == NEVER
    (kept,) = ledger.records()
    assert kept.entries[0].failure is not None
    assert kept.entries[0].failure.tries == 20


def test_what_is_left_of_a_second_container_of_that_name_is_kept_beside_the_first(ledger, clock):
    for ifname in ("net1", "net2", "net2"):
        begin(ledger, entry(ifname, "broken"))
        deletes_until_it_succeeds(ledger, Plugins(broken=MISSING), clock, every=1.0)
    (left,) = ledger.unfinished.records()
    assert [kept.ifname for kept in left.entries] == ["net1", "net2"]


def test_a_damaged_file_among_the_unfinished_is_set_aside_and_stops_nobody(ledger, clock, tmp_path):
    (tmp_path / "state" / "unfinished").mkdir(parents=True)
    (tmp_path / "state" / "unfinished" / "c1@eth0.json").write_text("{")
    begin(ledger, entry("eth0", "broken"))
    assert deletes_until_it_succeeds(ledger, Plugins(broken=MISSING), clock, every=1.0) == 3
    assert ledger.unfinished.damaged() == [str(tmp_path / "state" / "unfinished" / "c1@eth0.damaged")]
    assert len(list(ledger.unfinished.records())) == 1


def test_a_container_whose_record_is_lost_has_besides_what_was_left_all_that_is_assumed(ledger):
    left, lost = entry("eth0", "broken"), entry("net1", "good")
    assumed = record(replace(left, conf=left.conf.replace("1.0.0", "0.4.0")), lost)
    assert unfinished.besides(ledger.unfinished, assumed) == assumed

    unfinished.keep(ledger, record(left), (left.failed("no", 5),))

    assert unfinished.besides(ledger.unfinished, assumed) == record(lost)
    assert unfinished.besides(ledger.unfinished, record(left)) is None


def test_what_cannot_be_read_of_the_unfinished_may_be_all_there_is(ledger, tmp_path):
    (tmp_path / "state" / "unfinished").mkdir(parents=True)
    (tmp_path / "state" / "unfinished" / "c1@eth0.json").write_text("{")
    assert unfinished.besides(ledger.unfinished, record(entry("eth0", "good"))) is None


def test_a_record_without_failures_is_what_older_versions_wrote(ledger):
    begin(ledger, entry("eth0", "good"))
    assert "failure" not in (Path(ledger.directory) / "c1@eth0.json").read_text()


def test_a_failure_is_remembered_over_a_restart_and_one_of_a_strange_shape_is_damage(ledger):
    failed = entry("eth0", "broken").failed("x" * 10_000, 12.7)
    begin(ledger, failed)
    (known,) = ledger.records()
    assert known.entries == (failed,)
    assert failed.failure is not None
    assert (len(failed.failure.reason), failed.failure.since) == (500, 12)

    path = Path(ledger.directory) / "c1@eth0.json"
    for strange in ("never", {"reason": 1, "since": 1, "tries": 1}, {"since": 1}, []):
        data = json.loads(path.read_text())
        data["entries"][0]["failure"] = strange
        path.write_text(json.dumps(data))
        assert ledger.damaged() == [str(path)]


def test_a_pci_device_that_is_not_in_the_machine_is_gone_and_what_is_no_address_is_not_looked_for(tmp_path):
    (tmp_path / "0000:af:00.1").mkdir()
    there, gone = "0000:af:00.1", "0000:af:00.2"
    assert not devices_gone.any_of(entry("net1", "sriov", deviceID=there), str(tmp_path))
    assert not devices_gone.any_of(entry("net1", "sriov", deviceID=there.upper()), str(tmp_path))
    assert devices_gone.any_of(entry("net1", "sriov", deviceID=gone), str(tmp_path))
    assert devices_gone.any_of(entry("net1", "sriov", pciBusID=gone), str(tmp_path))
    assert devices_gone.any_of(replace(entry("net1", "x"), runtime_config={"deviceID": gone}), str(tmp_path))
    for strange in ("../../etc", "eth7", 7, "", None, ["0000:af:00.2"]):
        assert not devices_gone.any_of(entry("net1", "sriov", deviceID=strange), str(tmp_path))
    assert not devices_gone.any_of(entry("net1", "sriov", deviceID=gone), str(tmp_path / "nothing"))


def test_the_failures_of_several_plugins_can_be_told_apart_however_they_are_nested():
    inner = DeleteIncomplete("inner", "", failures=(LATER, UNKNOWN))
    told = DeleteIncomplete("outer", "", failures=(inner.within("a pod"), MISSING)).within("a network")
    assert unfinished.failures(told) == [LATER, MISSING]
    assert unfinished.failures(UNKNOWN) == []
    assert unfinished.failures(DeleteIncomplete("of its own")) != []
