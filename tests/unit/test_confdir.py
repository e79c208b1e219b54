"""Configurations in a directory: which files are looked at, in which order, and what a bad one does."""

import json
from pathlib import Path
from typing import Any

import pytest

from cni.plugin import confdir
from cni.spec import netconf
from cni.spec.errors import CNIError, DecodingFailure, InvalidConfiguration, IOFailure
from cni.spec.netconf import NetConfList


def write(directory: Path, name: str, data: Any) -> None:
    path = directory / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(data if isinstance(data, str) else json.dumps(data))


def conflist(name: str, *types: str, **keys: Any) -> dict[str, Any]:
    return {"name": name, "cniVersion": "1.0.0", "plugins": [{"type": kind} for kind in types], **keys}


def single(name: str, kind: str) -> dict[str, Any]:
    return {"name": name, "cniVersion": "1.0.0", "type": kind}


def types(network: NetConfList) -> list[str]:
    return [netconf.plugin_type(plugin) for plugin in network.plugins]


ORDER: dict[str, tuple[dict[str, Any], list[str]]] = {
    "the-first-list": ({"20.conflist": conflist("n", "second"), "10.conflist": conflist("n", "first")}, ["first"]),
    "a-list-before-a-single": ({"05.conf": single("n", "conf"), "90.conflist": conflist("n", "list")}, ["list"]),
    "conf-and-json-by-name": ({"20.conf": single("n", "conf"), "10.json": single("n", "json")}, ["json"]),
    "bytes-not-letters": ({"b.conflist": conflist("n", "b"), "B.conflist": conflist("n", "B")}, ["B"]),
    "nothing-after-the-match": ({"10.conflist": conflist("n", "a"), "20.conflist": "{"}, ["a"]),
    "other-endings-are-not-read": ({"1.conflist.bak": "{", "1.yaml": "{", "10.conf": single("n", "a")}, ["a"]),
    "hidden-files-are": ({".10.conflist": conflist("n", "a")}, ["a"]),
    "directories-are-not": ({"10.conflist/x": "{", "20.conflist": conflist("n", "a")}, ["a"]),
}


@pytest.mark.parametrize("case", ORDER)
def test_a_network_is_found_in_libcnis_order(case: str, tmp_path: Path):
    files, expected = ORDER[case]
    for name, data in files.items():
        write(tmp_path, name, data)

    assert types(confdir.load(str(tmp_path), "n")) == expected


def test_a_malformed_file_before_the_match_is_an_error_that_names_it(tmp_path: Path):
    write(tmp_path, "10.conflist", '{"name": "other"')
    write(tmp_path, "20.conflist", conflist("n", "a"))

    with pytest.raises(DecodingFailure) as caught:
        confdir.load(str(tmp_path), "n")

    assert "ends too early, at line 1, column 17" in caught.value.msg
    assert f'in "{tmp_path}/10.conflist"' in caught.value.details


def test_the_drop_ins_follow_the_inlined_plugins_in_name_order(tmp_path: Path):
    write(tmp_path, "10.conflist", conflist("n", "inlined"))
    for name in ("20.conf", "10.conf", "15.json", "15.conflist"):
        write(tmp_path, f"n/{name}", {"type": name})

    network = confdir.load(str(tmp_path), "n")

    assert types(network) == ["inlined", "10.conf", "20.conf"]
    assert types(netconf.parse_list(network.text)) == ["inlined", "10.conf", "20.conf"]


def test_drop_ins_alone_make_a_list(tmp_path: Path):
    write(tmp_path, "10.conflist", {"name": "n", "cniVersion": "1.1.0"})
    write(tmp_path, "n/10.conf", {"type": "a"})
    assert types(confdir.load(str(tmp_path), "n")) == ["a"]


def test_drop_ins_of_a_list_that_wants_none_are_not_read(tmp_path: Path):
    write(tmp_path, "10.conflist", conflist("n", "inlined", loadOnlyInlinedPlugins="true"))
    write(tmp_path, "n/10.conf", "{")
    assert types(confdir.load(str(tmp_path), "n")) == ["inlined"]


def test_a_single_configuration_has_no_drop_ins(tmp_path: Path):
    write(tmp_path, "10.conf", single("n", "a"))
    write(tmp_path, "n/10.conf", {"type": "b"})
    assert types(confdir.load(str(tmp_path), "n")) == ["a"]


def test_a_file_named_like_the_network_is_no_drop_in_directory(tmp_path: Path):
    write(tmp_path, "10.conflist", conflist("n", "a"))
    write(tmp_path, "n", "some notes")
    assert types(confdir.load(str(tmp_path), "n")) == ["a"]


@pytest.mark.parametrize("name", ["../out", "..", ".", "a/b", "a\0b"])
def test_what_is_no_name_does_not_become_a_path(name: str, tmp_path: Path):
    write(tmp_path, "net.d/10.conflist", {"name": name, "plugins": [{"type": "a"}]})
    for place in ("out", "net.d", ".", "net.d/a"):
        write(tmp_path, f"{place}/x.conf", {"type": "b"})

    assert types(confdir.load_file(str(tmp_path / "net.d" / "10.conflist"))) == ["a"]


DEFAULT: dict[str, tuple[dict[str, Any], str]] = {
    "a-single-before-a-list": ({"20.conflist": conflist("b", "x"), "10.conf": single("a", "x")}, "a"),
    "json-too": ({"20.conflist": conflist("b", "x"), "10.json": single("a", "x")}, "a"),
    "a-list-before-a-single": ({"10.conflist": conflist("b", "x"), "20.conf": "{"}, "b"),
}


@pytest.mark.parametrize("case", DEFAULT)
def test_the_default_network_is_the_first_file_of_any_kind(case: str, tmp_path: Path):
    files, expected = DEFAULT[case]
    for name, data in files.items():
        write(tmp_path, name, data)

    assert confdir.load_default(str(tmp_path)).name == expected


def test_a_malformed_first_file_is_not_passed_over_for_the_default_network(tmp_path: Path):
    write(tmp_path, "10.conflist", "{")
    write(tmp_path, "20.conflist", conflist("n", "a"))
    with pytest.raises(DecodingFailure, match="parsing configuration list"):
        confdir.load_default(str(tmp_path))


@pytest.mark.parametrize("present", [True, False])
def test_a_directory_without_configurations_says_so(present: bool, tmp_path: Path):
    directory = tmp_path / "net.d"
    if present:
        directory.mkdir()
    for find in (lambda: confdir.load(str(directory), "n"), lambda: confdir.load_default(str(directory))):
        with pytest.raises(confdir.NotFound) as caught:
            find()
        assert caught.value.msg == f"no net configurations found in {directory}"
        assert isinstance(caught.value, InvalidConfiguration)


def test_a_network_that_is_not_there_is_an_error_that_says_what_is(tmp_path: Path):
    write(tmp_path, "10.conflist", conflist("a", "x"))
    write(tmp_path, "05.conf", single("b", "x"))

    with pytest.raises(confdir.NotFound) as caught:
        confdir.load(str(tmp_path), "n")

    assert caught.value.msg == f'no net configuration with name "n" in {tmp_path}'
    assert caught.value.reason == "looked in 10.conflist, 05.conf"


def dangling(directory: Path) -> Path:
    path = directory / "10.conflist"
    path.symlink_to(directory / "nowhere")
    return path


def a_link_to_a_directory(directory: Path) -> Path:
    path = directory / "10.conflist"
    path.symlink_to(directory)
    return path


@pytest.mark.parametrize("make", [dangling, a_link_to_a_directory])
def test_a_file_that_cannot_be_read_is_an_error_that_names_it(make: Any, tmp_path: Path):
    path = make(tmp_path)
    write(tmp_path, "20.conflist", conflist("n", "a"))

    with pytest.raises(IOFailure) as caught:
        confdir.load(str(tmp_path), "n")

    assert caught.value.msg == f'could not read "{path}"'
    assert caught.value.id == "PLX-IO"


def test_a_directory_that_is_none_cannot_be_read(tmp_path: Path):
    write(tmp_path, "file", "")
    with pytest.raises(IOFailure, match="could not read the directory"):
        confdir.load(str(tmp_path / "file"), "n")


@pytest.mark.parametrize("path", ["/nonexistent/10.conf", "/nonexistent/10.conflist", "/a\0b.conf"])
def test_a_path_to_nothing_cannot_be_read(path: str):
    with pytest.raises(IOFailure) as caught:
        confdir.load_file(path)
    assert caught.value.msg == f'could not read "{path}"'


def test_text_that_is_not_utf8_is_refused_with_its_place(tmp_path: Path):
    (tmp_path / "10.conf").write_bytes(b'{"name": "\xff"}')
    with pytest.raises(CNIError) as caught:
        confdir.load_file(str(tmp_path / "10.conf"))
    assert (caught.value.code, caught.value.reason) == (6, "byte 10 is not UTF-8")
