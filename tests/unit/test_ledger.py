"""What was attached is remembered whole or not at all, comes back as it was, and damage is told from absence."""

import contextlib
import json
import os
import resource
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cni.plugin.ledger import DamagedRecord, Entry, Ledger, NewerRecord, Record, boot_id
from cni.spec import convert
from cni.spec.errors import IOFailure

RESULT = convert.decode(
    {
        "interfaces": [{"name": "br0", "mac": "02:00:00:00:00:01"}, {"name": "eth0", "sandbox": "/run/netns/a"}],
        "ips": [{"address": "10.0.0.2/24", "interface": 1, "gateway": "10.0.0.1"}],
        "routes": [{"dst": "0.0.0.0/0", "mtu": 1400}],
        "dns": {"nameservers": ["10.0.0.53"]},
    },
    "1.1.0",
)
ENTRY = Entry(
    network="default/br",
    conf='{"name":"br","type":"bridge","ünï":[1,null]}',
    ifname="eth0",
    args="IgnoreUnknown=1",
    runtime_config={"mac": "02:00:00:00:00:02"},
    default=True,
)
RECORD = Record(
    container_id="c1",
    ifname="eth0",
    netns="/run/netns/a",
    pod_namespace="default",
    pod_name="vm",
    pod_uid="u1",
    boot_id="b1",
    netns_inode=4026532000,
    path=("/opt/cni/bin",),
    entries=(ENTRY.attached(RESULT), Entry(network="second", conf="{}", ifname="net1")),
)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(str(tmp_path / "state" / "containers"))


def path_of(ledger: Ledger, name: str = "c1@eth0.json") -> Path:
    return Path(ledger.directory) / name


def put(ledger: Ledger, content: bytes, name: str = "c1@eth0.json") -> Path:
    path = path_of(ledger, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_record_comes_back_as_it_was(ledger: Ledger):
    ledger.write(RECORD)

    found = ledger.find("c1", "eth0")

    assert found == RECORD
    assert found.entries[0].get_result() == RESULT
    assert found.entries[1].get_result() is None


def test_a_netns_that_is_not_utf8_comes_back_as_it_was(ledger: Ledger):
    netns = os.fsdecode(b"/run/netns/\xff")
    ledger.write(Record(container_id="c1", ifname="eth0", netns=netns))

    found = ledger.find("c1", "eth0")

    assert found is not None
    assert found.netns == netns


def test_a_newer_record_takes_the_place_of_an_older(ledger: Ledger):
    ledger.write(RECORD)
    ledger.write(RECORD.with_entries(RECORD.entries[:1]))

    found = ledger.find("c1", "eth0")

    assert found is not None
    assert len(found.entries) == 1


def test_one_entry_is_replaced_in_its_place():
    changed = RECORD.with_entry(0, Entry(network="x", conf="{}", ifname="eth0"))
    assert [entry.network for entry in changed.entries] == ["x", "second"]
    assert [entry.network for entry in RECORD.entries] == ["default/br", "second"]


def test_only_root_may_read_records_and_no_temporary_file_stays(ledger: Ledger):
    ledger.write(RECORD)

    assert stat.S_IMODE(Path(ledger.directory).stat().st_mode) == 0o700
    assert stat.S_IMODE(path_of(ledger).stat().st_mode) == 0o600
    assert os.listdir(ledger.directory) == ["c1@eth0.json"]


def test_a_write_that_fails_half_way_leaves_the_old_record_whole(ledger: Ledger, small_files: None):
    ledger.write(RECORD.with_entries(()))

    with pytest.raises(IOFailure, match="could not write"):
        ledger.write(RECORD)

    assert ledger.find("c1", "eth0") == RECORD.with_entries(())
    assert os.listdir(ledger.directory) == ["c1@eth0.json"]


@pytest.fixture
def small_files() -> Iterator[None]:
    """A write(2) that goes beyond 500 bytes takes those, as on a disk that is getting full; the next one fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_reader_during_a_write_sees_the_old_or_the_new(ledger: Ledger):
    ledger.write(RECORD)
    reading = path_of(ledger).open("rb")

    ledger.write(RECORD.with_entries(()))

    with reading:
        assert len(json.loads(reading.read())["entries"]) == 2
    assert len(json.loads(path_of(ledger).read_bytes())["entries"]) == 0


def test_two_interfaces_of_a_container_are_two_records(ledger: Ledger):
    other = Record(container_id="c1", ifname="net1", netns="")
    ledger.write(RECORD)
    ledger.write(other)

    ledger.remove("c1", "eth0")

    assert ledger.find("c1", "eth0") is None
    assert ledger.find("c1", "net1") == other


def test_a_removed_record_is_found_no_more_and_may_be_removed_again(ledger: Ledger):
    ledger.write(RECORD)
    ledger.remove("c1", "eth0")
    ledger.remove("c1", "eth0")
    assert ledger.find("c1", "eth0") is None


def test_without_a_directory_there_are_no_records(ledger: Ledger):
    assert ledger.find("c1", "eth0") is None
    assert list(ledger.records()) == []
    ledger.remove("c1", "eth0")


def written(**changes: Any) -> bytes:
    data: dict[str, Any] = {"format": 1, "container_id": "c1", "ifname": "eth0", "netns": "", "entries": []}
    return json.dumps({key: value for key, value in (data | changes).items() if value is not ...}).encode()


def entry(**changes: Any) -> dict[str, Any]:
    data: dict[str, Any] = {"network": "n", "conf": "{}", "ifname": "eth0"}
    return {key: value for key, value in (data | changes).items() if value is not ...}


DAMAGED = {
    "empty": b"",
    "cut-off": b'{"format": 1, "container_id": "c1", "entr',
    "zeroes": b"\0" * 300,
    "binary": b"\xff\xfe\x00",
    "null": b"null",
    "a-list": b"[]",
    "another-program's": b'{"containers": {}}',
    "an-earlier-format": written(format=0),
    "a-format-that-is-text": written(format="2"),
    "a-format-that-is-true": written(format=True),
    "no-format": written(format=...),
    "no-entries": written(entries=...),
    "no-container": written(container_id=...),
    "another-container's": written(container_id="c2"),
    "another-interface's": written(ifname="net1"),
    "a-container-that-is-a-number": written(container_id=5),
    "a-netns-that-is-null": written(netns=None),
    "an-inode-that-is-text": written(netns_inode="5"),
    "a-path-that-is-text": written(path="/opt/cni/bin"),
    "a-path-of-numbers": written(path=[1]),
    "entries-that-are-an-object": written(entries={"conf": "{}"}),
    "entries-that-are-text": written(entries="x"),
    "an-entry-that-is-text": written(entries=["x"]),
    "an-entry-without-configuration": written(entries=[entry(conf=...)]),
    "an-entry-whose-configuration-is-an-object": written(entries=[entry(conf={})]),
    "an-entry-whose-ifname-is-null": written(entries=[entry(ifname=None)]),
    "an-entry-whose-network-is-a-number": written(entries=[entry(network=1)]),
    "an-entry-whose-arguments-are-a-list": written(entries=[entry(args=[])]),
    "an-entry-whose-runtime-config-is-a-list": written(entries=[entry(runtime_config=[])]),
    "an-entry-whose-result-is-text": written(entries=[entry(result="x")]),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_record_is_named_and_not_taken_for_none(case: str, ledger: Ledger):
    path = put(ledger, DAMAGED[case])

    with pytest.raises(DamagedRecord) as caught:
        ledger.find("c1", "eth0")

    assert caught.value.path == str(path)
    assert caught.value.msg == f'could not read the record "{path}"'
    assert caught.value.reason
    assert caught.value.id == "PLX-LEDGER-DAMAGED"


def test_the_minimal_record_is_not_damaged(ledger: Ledger):
    put(ledger, written(entries=[entry()]))

    assert ledger.find("c1", "eth0") == Record(
        container_id="c1", ifname="eth0", netns="", entries=(Entry(network="n", conf="{}", ifname="eth0"),)
    )


def test_damaged_and_foreign_files_do_not_hide_the_others(ledger: Ledger):
    for name, content in DAMAGED.items():
        put(ledger, content, f"{name}@eth0.json")
    for name in (".c2@eth0.json", "c3@eth0.json.bak", "c4@eth0.damaged", "notes", ".c5@eth0.json.77.tmp"):
        put(ledger, written(), name)
    path_of(ledger, "directory@eth0.json").mkdir()
    path_of(ledger, "dangling@eth0.json").symlink_to("nowhere")
    ledger.write(RECORD)

    assert list(ledger.records()) == [RECORD]


def test_what_another_version_wrote_besides_is_kept_at_every_level(ledger: Ledger):
    failure = {"reason": "no", "since": 5, "tries": 1, "code": 7}
    told = entry(failure=failure, result={"cniVersion": "1.1.0", "new": 1}, device_info={"new": 2}, asked=["x"])
    before = json.loads(written(surprise={"deep": [1]}, unknown="too", entries=[told]))
    put(ledger, json.dumps(before).encode())

    found = ledger.find("c1", "eth0")
    assert found is not None
    ledger.write(replace(found.with_entry(0, found.entries[0].failed("again", 9)), netns="/n"))

    after = json.loads(path_of(ledger).read_bytes())
    assert {key: after[key] for key in before if key not in ("netns", "entries")} == {
        key: value for key, value in before.items() if key not in ("netns", "entries")
    }
    (kept,) = after["entries"]
    assert kept["failure"] == failure | {"reason": "again", "tries": 2}
    assert {key: kept[key] for key in told if key != "failure"} == {k: v for k, v in told.items() if k != "failure"}


def test_what_nobody_needs_to_know_is_not_written(ledger: Ledger):
    """The first builds that wrote this format refused keys that they did not know."""
    ledger.write(RECORD)

    content = json.loads(path_of(ledger).read_bytes())

    assert {"unknown", "pid_namespace"}.isdisjoint(content)
    assert all({"unknown", "failure"}.isdisjoint(entry) for entry in content["entries"])


def test_a_newer_format_is_told_from_damage(ledger: Ledger):
    path = put(ledger, b'{"format": 2, "whatever": []}')

    with pytest.raises(NewerRecord, match=r"could not read the record .* format 2, and this one knows 1") as caught:
        ledger.find("c1", "eth0")

    assert (caught.value.path, caught.value.id, caught.value.code) == (str(path), "PLX-LEDGER-NEWER", 6)
    assert list(ledger.records()) == []
    assert (ledger.damaged(), ledger.newer()) == ([], [str(path)])


def test_a_record_of_a_newer_format_is_left_as_it_is(ledger: Ledger):
    content = b'{"format": 2, "whatever": []}'
    put(ledger, content)

    left = ledger.leave("c1", "eth0")

    assert not ledger.has("c1", "eth0")
    assert ledger.unfinished.is_newer("c1", "eth0")
    assert ledger.unfinished.newer() == [left]
    assert Path(left).read_bytes() == content


def test_a_record_of_a_newer_format_takes_nobodys_place_among_the_unfinished(ledger: Ledger):
    ledger.unfinished.write(RECORD)
    put(ledger, b'{"format": 2}')

    left = ledger.leave("c1", "eth0")

    assert ledger.unfinished.find("c1", "eth0") == RECORD
    assert ledger.damaged() == [left]


def test_what_was_set_aside_before_stays(ledger: Ledger):
    for content in (b"{", b"[", b""):
        put(ledger, content)
        ledger.set_aside("c1", "eth0")

    assert [Path(path).name for path in ledger.damaged()] == [
        "c1@eth0.2.damaged",
        "c1@eth0.3.damaged",
        "c1@eth0.damaged",
    ]
    assert sorted(Path(path).read_bytes() for path in ledger.damaged()) == [b"", b"[", b"{"]


def test_a_damaged_record_set_aside_is_kept_but_read_no_more(ledger: Ledger):
    put(ledger, b"{")

    aside = ledger.set_aside("c1", "eth0")

    assert ledger.find("c1", "eth0") is None
    assert list(ledger.records()) == []
    assert Path(aside).read_bytes() == b"{"


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("/dev/null", path)])
def test_what_is_no_file_is_a_damaged_record_and_set_aside_as_it_is(make: Any, ledger: Ledger):
    os.makedirs(ledger.directory)
    make(path_of(ledger))
    with pytest.raises(DamagedRecord, match=r"could not read .*c1@eth0\.json"):
        ledger.find("c1", "eth0")
    assert ledger.damaged() == [str(path_of(ledger))]
    ledger.set_aside("c1", "eth0")
    assert os.listdir(ledger.directory) == ["c1@eth0.damaged"]


def test_a_directory_that_cannot_be_made_is_an_error(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(IOFailure, match="could not create the directory"):
        Ledger(str(tmp_path / "file" / "containers")).write(RECORD)


def test_the_boot_has_an_identity():
    assert boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
PARTS = ("container_id", "ifname", "netns", "pod_name", "netns_inode", "path", "entries")


@settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(st.sampled_from(PARTS), JSON))
def test_any_content_is_a_record_that_can_be_written_again_or_is_damaged(tmp_path: Path, changes: dict[str, Any]):
    ledger = Ledger(str(tmp_path))
    put(ledger, written(**changes))
    with contextlib.suppress(DamagedRecord):
        found = ledger.find("c1", "eth0")
        assert found is not None
        for part in ("container_id", "ifname", "netns", "pod_name"):
            assert isinstance(getattr(found, part), str)
        ledger.write(replace(found, container_id="c2", ifname="eth0"))
