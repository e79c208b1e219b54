"""Configurations as libcni loads them, case by case, through `plexus status`."""

from pathlib import Path
from typing import Any

import pytest
from vectors import cases, differences_libcni

from cni.cli import command

CASES = cases.by_id("libcni_load")

LIST = '{"name":"some-network","cniVersion":"1.0.0","plugins":[{"type":"noplug"}]}'
MORE: dict[str, tuple[dict[str, str], str, str | None]] = {
    "a-malformed-later-file-is-not-read": ({"50.conflist": LIST, "99-bad.conflist": "{"}, "some-network", None),
    "a-single-configuration": ({"10.conf": '{"name":"n1","cniVersion":"1.0.0","type":"noplug"}'}, "n1", None),
    "a-malformed-single-configuration": (
        {"00.conf": "{", "10.conf": '{"name":"n1","type":"a"}'},
        "n1",
        "error parsing configuration: it ends too early",
    ),
    "a-malformed-single-after-the-list": ({"50.conflist": LIST, "00.conf": "{"}, "some-network", None),
    "a-version-that-is-a-number": (
        {"5.conflist": '{"name":"n","cniVersion":5,"plugins":[{"type":"a"}]}'},
        "n",
        "error parsing configuration list: invalid cniVersion type",
    ),
    "disableGC-that-is-a-number": (
        {"5.conflist": '{"name":"n","disableGC":1,"plugins":[{"type":"a"}]}'},
        "n",
        "error parsing configuration list: invalid type for disableGC",
    ),
    "only-inlined-plugins-and-none": (
        {"5.conflist": '{"name":"n","loadOnlyInlinedPlugins":true}'},
        "n",
        "error parsing configuration list: `loadOnlyInlinedPlugins` is true, and no 'plugins' key",
    ),
    "no-plugins-anywhere": ({"5.conflist": '{"name":"n","cniVersion":"1.0.0"}'}, "n", "no plugin configs found"),
    "the-highest-version-we-speak": (
        {"5.conflist": '{"name":"n","cniVersions":["99.0.0","1.1.0","0.4.0"],"plugins":[{"type":"a"}]}'},
        "n",
        'failed to find plugin "a" in path [@PATH@]',
    ),
    "a-bad-entry-of-cniVersions": (
        {"5.conflist": '{"name":"n","cniVersions":["1.1.0","1.0.f"],"plugins":[{"type":"a"}]}'},
        "n",
        "error parsing configuration list: invalid cniVersions entry 1.0.f at index 1: failed to convert micro version",
    ),
    "a-bad-version-beside-cniVersions": (
        {"5.conflist": '{"name":"n","cniVersion":"x","cniVersions":["1.1.0"],"plugins":[{"type":"a"}]}'},
        "n",
        'error parsing configuration list: invalid cniVersion x: failed to convert major version part "x"',
    ),
    "a-list-in-a-file-for-one-plugin": (
        {"5.conf": '{"name":"n","plugins":[{"type":"a"}]}'},
        "n",
        "error parsing configuration: missing 'type'; it has `plugins`: a list's file is named .conflist",
    ),
    "a-name-that-climbs-out-of-the-directory": (
        {"5.conflist": '{"name":"../out","cniVersion":"1.1.0"}', "../out/10.conf": '{"type":"a"}'},
        "../out",
        "no plugin configs found",
    ),
}
"""Further cases: files, network, and how the error begins (None where there is none)."""


@pytest.mark.parametrize("case_id", CASES)
def test_a_configuration_is_read_as_libcni_reads_it_or_as_a_listed_difference(
    case_id: str, machine: "Machine", capsys: pytest.CaptureFixture[str]
):
    case = CASES[case_id]
    expected = case["err"]
    if case_id in differences_libcni.LOAD:
        ours = differences_libcni.LOAD[case_id].ours
        assert not expected.startswith(ours + ";"), "this differs no longer"
        expected = ours

    machine.write(case["files"])

    assert answer(machine, case["network"], capsys) == machine.located(expected)


@pytest.mark.parametrize("case_id", MORE)
def test_what_is_wrong_with_a_configuration_is_said(
    case_id: str, machine: "Machine", capsys: pytest.CaptureFixture[str]
):
    files, network, expected = MORE[case_id]
    machine.write(files)

    told = answer(machine, network, capsys, whole=True)

    assert (told is None) == (expected is None)
    assert told is None or told.startswith(machine.located(expected) or "")


@pytest.mark.parametrize("case_id", [case_id for case_id, case in CASES.items() if "parsing" in (case["err"] or "")])
def test_an_error_in_a_file_names_the_file(case_id: str, machine: "Machine", capsys: pytest.CaptureFixture[str]):
    case = CASES[case_id]
    machine.write(case["files"])

    told = answer(machine, case["network"], capsys, whole=True) or ""

    broken = min(case["files"]) if len(case["files"]) == 1 or "00-bad.conflist" in case["files"] else "n/10.conf"
    assert f'in "{machine.conf_dir}/{broken}"' in told


def test_every_listed_difference_is_of_a_case_we_run():
    assert differences_libcni.LOAD.keys() <= CASES.keys()


class Machine:
    """A directory of configurations, and an empty one of plugins."""

    def __init__(self, directory: Path) -> None:
        self.conf_dir = directory / "net.d"
        self.path = directory / "bin"
        self.conf_dir.mkdir()
        self.path.mkdir()

    def write(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            path = self.conf_dir / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)

    def located(self, text: str | None) -> str | None:
        return text and text.replace("@DIR@", str(self.conf_dir)).replace("@PATH@", str(self.path))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path)
    for variable in ("CNI_ARGS", "CAP_ARGS", "CNI_IFNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("NETCONFPATH", str(made.conf_dir))
    monkeypatch.setenv("CNI_PATH", str(made.path))
    return made


def answer(machine: Machine, network: str, capsys: pytest.CaptureFixture[str], whole: bool = False) -> Any:
    """The error of `plexus status`, without its details unless `whole`; None when there is none."""
    rc = command.main(["status", network, "/x", "--cache-dir", str(machine.path)])
    out, err = capsys.readouterr()
    assert out == ""
    if rc == 0:
        assert err == ""
        return None
    assert rc == 1
    assert err.startswith("plexus: ")
    assert err.count("\n") == 1
    text = err.removeprefix("plexus: ").rstrip("\n")
    return text if whole else text.split(";")[0]
