"""Which configuration is the primary: by content, in the runtime's order, and not let go of for a moment's disorder."""

import json
from pathlib import Path

import pytest

from cni.node import primary
from cni.node.primary import Candidate, Choice
from cni.spec import netconf
from cni.spec.errors import InvalidConfiguration

FLANNEL = {"cniVersion": "1.0.0", "name": "cbr0", "plugins": [{"type": "flannel"}, {"type": "portmap"}]}
OURS = {"cniVersion": "1.0.0", "name": "multus-cni-network", "plugins": [{"type": "plexus", "delegates": [FLANNEL]}]}
SETTLE = 10.0


def write(directory: Path, **files: object) -> None:
    for name, content in files.items():
        path = directory / name.replace("__", ".").replace("_", "-")
        path.write_text(content if isinstance(content, str) else json.dumps(content))


def usable(directory: Path, only: str = "") -> list[str]:
    return [candidate.name for candidate in primary.find(str(directory), only) if candidate.network]


def candidate(name: str, *, broken: bool = False) -> Candidate:
    if broken:
        return Candidate(name, problem=InvalidConfiguration("broken"))
    return Candidate(name, netconf.parse(json.dumps(FLANNEL)))


def names(chosen: Candidate | None) -> str:
    return chosen.name if chosen else ""


def test_files_come_in_the_runtimes_order(tmp_path):
    single = {"cniVersion": "0.4.0", "name": "n", "type": "bridge"}
    write(tmp_path, a87_podman__conflist=FLANNEL, a10_flannel__conflist=FLANNEL, a09_one__conf=single, readme__txt="x")
    write(tmp_path, a11_json__json=single)
    assert usable(tmp_path) == ["a09-one.conf", "a10-flannel.conflist", "a11-json.json", "a87-podman.conflist"]


@pytest.mark.parametrize("kind", ["plexus", "multus", "multus-shim"])
@pytest.mark.parametrize("name", ["00-plexus.conflist", "00-multus.conflist", "99-renamed.conflist"])
def test_a_meta_plugins_configuration_is_never_the_primary_whatever_its_name(tmp_path, kind, name):
    (tmp_path / name).write_text(json.dumps(OURS | {"plugins": [{"type": "portmap"}, {"type": kind}]}))
    write(tmp_path, a10_flannel__conflist=FLANNEL)
    assert usable(tmp_path) == ["a10-flannel.conflist"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "null",
        "[]",
        json.dumps(FLANNEL)[:-9],
        json.dumps(FLANNEL | {"plugins": []}),
        json.dumps(FLANNEL | {"plugins": [{"type": ""}]}),
        json.dumps(FLANNEL | {"plugins": [{"type": "../../bin/sh"}]}),
        json.dumps(FLANNEL | {"plugins": [{"type": "bridge", "capabilities": {"ips": "yes"}}]}),
        json.dumps(FLANNEL | {"name": ""}),
        json.dumps(FLANNEL | {"name": "../x"}),
        json.dumps(FLANNEL | {"cniVersion": "9.9.9"}),
        json.dumps(FLANNEL | {"cniVersion": "one"}),
        "\udcff".encode("utf-8", "surrogateescape").decode("latin-1"),
    ],
)
def test_what_cannot_be_used_is_a_candidate_with_a_problem(tmp_path, content):
    write(tmp_path, a10_net__conflist=content)
    (found,) = primary.find(str(tmp_path))
    assert found.network is None
    assert str(found.problem)


def test_the_drop_in_plugins_of_a_network_are_its_own(tmp_path):
    write(tmp_path, a10_flannel__conflist=FLANNEL)
    (tmp_path / "cbr0").mkdir()
    (tmp_path / "cbr0" / "50-tuning.conf").write_text('{"type": "tuning"}')
    (found,) = primary.find(str(tmp_path))
    assert found.network
    assert [plugin["type"] for plugin in found.network.plugins] == ["flannel", "portmap", "tuning"]


def test_a_file_that_is_named_is_the_only_candidate(tmp_path):
    write(tmp_path, a09_test2cni__conf=FLANNEL, a10_testcni__conflist=FLANNEL)
    assert usable(tmp_path, "a10-testcni.conflist") == ["a10-testcni.conflist"]


def test_a_file_that_is_named_must_not_be_a_meta_plugins(tmp_path):
    write(tmp_path, a00_plexus__conflist=OURS)
    (found,) = primary.find(str(tmp_path), "a00-plexus.conflist")
    assert found.problem
    assert found.problem.id == "PLX-RECURSION"


def test_the_first_is_taken_at_once_where_none_is_in_use():
    assert names(Choice(SETTLE).choose([candidate("10-a"), candidate("87-b")], "", 0)) == "10-a"


def test_a_change_of_the_one_in_use_is_taken_at_once():
    assert names(Choice(SETTLE).choose([candidate("10-a"), candidate("87-b")], "10-a", 0)) == "10-a"


def test_one_that_comes_before_the_one_in_use_is_taken_at_once():
    assert names(Choice(SETTLE).choose([candidate("05-new"), candidate("10-a")], "10-a", 0)) == "05-new"


@pytest.mark.parametrize("seconds", [0, SETTLE, 10**6])
def test_while_the_one_in_use_is_broken_nothing_after_it_is_taken(seconds):
    choice = Choice(SETTLE)
    choice.choose([candidate("10-a", broken=True), candidate("87-b")], "10-a", 0)
    assert choice.choose([candidate("10-a", broken=True), candidate("87-b")], "10-a", seconds) is None


def test_when_the_one_in_use_is_gone_the_next_is_taken_only_after_a_while():
    choice, found = Choice(SETTLE), [candidate("87-b")]
    assert choice.choose(found, "10-a", 100) is None
    assert choice.choose(found, "10-a", 100 + SETTLE - 1) is None
    assert names(choice.choose(found, "10-a", 100 + SETTLE)) == "87-b"


def test_when_the_one_in_use_comes_back_the_waiting_begins_anew():
    choice, gone, back = Choice(SETTLE), [candidate("87-b")], [candidate("10-a"), candidate("87-b")]
    assert choice.choose(gone, "10-a", 0) is None
    assert names(choice.choose(back, "10-a", SETTLE - 1)) == "10-a"
    assert choice.choose(gone, "10-a", SETTLE + 1) is None


def test_behind_a_broken_file_the_next_is_taken_only_after_a_while():
    choice, found = Choice(SETTLE), [candidate("00-multus.conf", broken=True), candidate("10-a")]
    assert choice.choose(found, "", 0) is None
    assert names(choice.choose(found, "", SETTLE)) == "10-a"


def test_nothing_is_chosen_of_nothing():
    assert Choice(SETTLE).choose([], "", 0) is None
    assert Choice(SETTLE).choose([candidate("10-a", broken=True)], "", 10**6) is None
