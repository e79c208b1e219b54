"""`plexus add|check|del|gc|status NETWORK NETNS` over executed plugins: what each is told, kept, printed and undone."""

import json
from pathlib import Path
from typing import Any

import pytest
from fake_plugin import RESULT, Plugins, failure
from vectors import cases

import cni
from cni.cli import command

NETNS = "/nonexistent/netns/b2"
CONTAINER = "cnitool-9707c2c3248013096935"
"""The ID that stands for NETNS."""

VARIABLES = ("CNI_ARGS", "CAP_ARGS", "CNI_IFNAME", "CNI_COMMAND", "CNI_NETNS_OVERRIDE")
LIST = {"cniVersion": "1.1.0", "name": "net", "plugins": [{"type": "a"}, {"type": "b"}, {"type": "c"}]}


class Cli:
    """The command in this process, on directories of its own."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.plugins = Plugins(directory)
        self.conf_dir = directory / "net.d"
        self.conf_dir.mkdir()
        self.cache_dir = directory / "cache"
        self.monkeypatch = monkeypatch
        self.capsys = capsys
        for variable in VARIABLES:
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setenv("NETCONFPATH", str(self.conf_dir))
        monkeypatch.setenv("CNI_PATH", str(self.plugins.directory))
        for kind in ("a", "b", "c"):
            self.plugins.install(kind)
        self.configure()

    def configure(self, **changes: Any) -> None:
        (self.conf_dir / "10.conflist").write_text(json.dumps(LIST | changes))

    def run(self, *argv: str, **environ: str) -> tuple[int, str, str]:
        with self.monkeypatch.context() as patch:
            for variable, value in environ.items():
                patch.setenv(variable, value)
            rc = command.main([*argv, "--cache-dir", str(self.cache_dir)])
        return rc, *self.capsys.readouterr()

    def succeed(self, verb: str, netns: str = NETNS, **environ: str) -> str:
        rc, out, err = self.run(verb, "net", netns, **environ)
        assert (rc, err) == (0, "")
        return out

    def fail(self, verb: str, network: str = "net", netns: str = NETNS, **environ: str) -> str:
        rc, out, err = self.run(verb, network, netns, **environ)
        assert (rc, out) == (1, "")
        assert err.startswith("plexus: ")
        assert err.count("\n") == 1
        return err.removeprefix("plexus: ").rstrip("\n")

    @property
    def cached(self) -> list[str]:
        results = self.cache_dir / "results"
        return sorted(path.name for path in results.iterdir()) if results.is_dir() else []


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(tmp_path, monkeypatch, capsys)


def test_add_prints_the_last_plugins_result_as_cnitool_does(cli: Cli):
    assert cli.succeed("add") == json.dumps({"cniVersion": "1.1.0", "ips": RESULT["ips"]}, indent=4)


def test_the_result_is_in_the_networks_version(cli: Cli):
    cli.configure(cniVersion="0.4.0")
    assert json.loads(cli.succeed("add"))["ips"] == [{"version": "4", "address": "10.0.0.2/24"}]


def test_plugins_are_called_as_cnitool_calls_them(cli: Cli):
    cli.succeed("add", CNI_ARGS="IgnoreUnknown=1;K=V")

    assert cli.plugins.commands == ["ADD a", "ADD b", "ADD c"]
    environ = cli.plugins.calls[0]["environ"]
    assert {key: value for key, value in environ.items() if key.startswith("CNI_")} == {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": CONTAINER,
        "CNI_NETNS": NETNS,
        "CNI_IFNAME": "eth0",
        "CNI_ARGS": "IgnoreUnknown=1;K=V",
        "CNI_PATH": str(cli.plugins.directory),
    }
    assert cli.plugins.confs() == [
        {"cniVersion": "1.1.0", "name": "net", "type": "a"},
        {"cniVersion": "1.1.0", "name": "net", "type": "b", "prevResult": RESULT},
        {"cniVersion": "1.1.0", "name": "net", "type": "c", "prevResult": RESULT},
    ]


CNITOOL_ID = next(case for case in cases.load("hashes") if case["kind"] == "cnitool-container-id")


@pytest.mark.parametrize("spelling", ["/run/netns/b2", "//run/./netns/x/../b2", "../../run/netns/b2"])
def test_the_container_id_is_cnitools_however_the_namespace_is_spelled(spelling: str, cli: Cli):
    cli.monkeypatch.chdir("/usr/bin")
    cli.succeed("add", spelling)
    environ = cli.plugins.calls[0]["environ"]
    assert environ["CNI_CONTAINERID"] == CNITOOL_ID["out"]
    assert environ["CNI_NETNS"] == CNITOOL_ID["netns"]


def test_add_is_remembered_where_libcni_looks_and_del_forgets_it(cli: Cli):
    cli.succeed("add")
    assert cli.cached == [f"net-{CONTAINER}-eth0"]

    assert cli.succeed("del") == ""
    assert cli.cached == []


def test_two_interfaces_of_a_namespace_are_remembered_apart(cli: Cli):
    cli.succeed("add")
    cli.succeed("add", CNI_IFNAME="net1")
    assert cli.cached == [f"net-{CONTAINER}-eth0", f"net-{CONTAINER}-net1"]


def test_an_add_that_fails_is_undone_and_not_remembered(cli: Cli):
    cli.plugins.install("b", ADD=failure(details="a\nreason"))

    error = cli.fail("add")

    assert error == 'plugin type="b" failed (add): plugin error: banana; a reason'
    assert cli.plugins.commands == ["ADD a", "ADD b", "DEL c", "DEL b", "DEL a"]
    assert cli.cached == []


def test_an_add_that_cannot_be_remembered_is_undone(cli: Cli):
    cli.cache_dir.mkdir()
    (cli.cache_dir / "results").write_text("a file")

    error = cli.fail("add")

    assert error.startswith(f'could not create the directory "{cli.cache_dir}/results"; ')
    assert cli.plugins.commands[3:] == ["DEL c", "DEL b", "DEL a"]
    assert [conf["prevResult"] for conf in cli.plugins.confs()[3:]] == [RESULT] * 3


def test_a_missing_plugin_is_noticed_before_anything_is_made(cli: Cli):
    (cli.plugins.directory / "c").unlink()

    error = cli.fail("add")

    path = cli.plugins.directory
    assert error.startswith(f'plugin type="c" failed (add): failed to find plugin "c" in path [{path}]; ')
    assert cli.plugins.commands == []


def test_check_goes_forward_and_del_backward_with_the_remembered_result(cli: Cli):
    cli.succeed("add")

    cli.succeed("check")
    cli.succeed("del")

    assert cli.plugins.commands[3:] == ["CHECK a", "CHECK b", "CHECK c", "DEL c", "DEL b", "DEL a"]
    assert [conf["prevResult"] for conf in cli.plugins.confs()[3:]] == [RESULT] * 6


def test_check_and_del_without_an_add_have_no_result_to_tell(cli: Cli):
    cli.succeed("check")
    cli.succeed("del")
    cli.succeed("del")
    assert not any("prevResult" in conf for conf in cli.plugins.confs())


def test_a_del_that_fails_tries_everything_and_forgets_nothing(cli: Cli):
    cli.succeed("add")
    cli.plugins.install("c", DEL=failure())

    assert cli.fail("del") == 'plugin type="c" failed (delete): plugin error: banana'

    assert cli.plugins.commands[3:] == ["DEL c", "DEL b", "DEL a"]
    assert cli.cached == [f"net-{CONTAINER}-eth0"]


def test_a_damaged_cache_fails_check_but_not_del(cli: Cli):
    cli.succeed("add")
    path = cli.cache_dir / "results" / f"net-{CONTAINER}-eth0"
    path.write_text('{"kind": "cniCacheV1", "resul')

    assert cli.fail("check").startswith(f'failed to get network "net" cached result: could not read "{path}"; ')

    cli.succeed("del")
    assert cli.cached == []


CLAIMING = [{"type": "a", "capabilities": {"portMappings": True}}]
PORTS = [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]


@pytest.mark.parametrize("verb", ["check", "del"])
def test_check_and_del_use_what_add_was_given(verb: str, cli: Cli):
    cli.configure(plugins=CLAIMING)
    cli.succeed("add", CAP_ARGS=json.dumps({"portMappings": PORTS, "mac": "x"}), CNI_ARGS="IgnoreUnknown=1;A=B")

    cli.succeed(verb)

    assert cli.plugins.confs()[-1]["runtimeConfig"] == {"portMappings": PORTS}
    assert cli.plugins.calls[-1]["environ"]["CNI_ARGS"] == "IgnoreUnknown=1;A=B"


def test_what_is_given_to_del_counts_more_than_what_add_was_given(cli: Cli):
    cli.configure(plugins=CLAIMING)
    cli.succeed("add", CAP_ARGS='{"portMappings": [1]}', CNI_ARGS="A=B")

    cli.succeed("del", CAP_ARGS='{"portMappings": [2]}', CNI_ARGS="A=C")

    assert cli.plugins.confs()[-1]["runtimeConfig"] == {"portMappings": [2]}
    assert cli.plugins.calls[-1]["environ"]["CNI_ARGS"] == "A=C"


def test_gc_deletes_every_attachment_of_the_network_and_tells_plugins_that_none_lives(cli: Cli):
    cli.succeed("add")
    cli.succeed("add", netns="/nonexistent/other", CNI_IFNAME="net1")
    cli.configure(name="neighbour")
    assert cli.run("add", "neighbour", NETNS)[0] == 0
    cli.configure(plugins=[{"type": "a"}])
    before = len(cli.plugins.calls)

    cli.succeed("gc", netns="/whatever")

    calls = cli.plugins.calls[before:]
    told = [
        (call["environ"]["CNI_COMMAND"], call["environ"]["CNI_NETNS"], call["environ"]["CNI_IFNAME"]) for call in calls
    ]
    assert sorted(told[:2]) == [("DEL", "/nonexistent/netns/b2", "eth0"), ("DEL", "/nonexistent/other", "net1")]
    assert told[2:] == [("GC", "", "")]
    assert cli.plugins.confs()[-1]["cni.dev/valid-attachments"] == []
    assert cli.cached == [f"neighbour-{CONTAINER}-eth0"]


def test_a_gc_that_fails_for_one_attachment_goes_on_and_keeps_that_one(cli: Cli):
    cli.configure(plugins=[{"type": "a"}])
    cli.succeed("add")
    cli.plugins.install("a", DEL=failure(), GC=failure(msg="plugin error: cherry"))

    error = cli.fail("gc")

    assert error.startswith('could not collect the garbage of network "net"; ')
    assert "banana" in error
    assert "cherry" in error
    assert cli.cached == [f"net-{CONTAINER}-eth0"]


def test_gc_of_an_older_network_deletes_its_attachments_but_calls_no_gc(cli: Cli):
    cli.configure(cniVersion="1.0.0", plugins=[{"type": "a"}])
    cli.succeed("add")
    cli.succeed("gc")
    assert cli.plugins.commands == ["ADD a", "DEL a"]


def test_gc_that_is_switched_off_touches_nothing(cli: Cli):
    cli.configure(disableGC=True)
    cli.succeed("add")
    cli.succeed("gc")
    assert cli.cached == [f"net-{CONTAINER}-eth0"]
    assert len(cli.plugins.calls) == 3


def test_status_stops_at_the_first_plugin_that_is_not_ready(cli: Cli):
    cli.plugins.install("b", STATUS=failure(50, "not ready", "no address left"))
    assert cli.fail("status") == "not ready; no address left"
    assert cli.plugins.commands == ["STATUS a", "STATUS b"]


def test_check_is_refused_by_an_old_network_and_passes_where_it_is_switched_off(cli: Cli):
    cli.configure(disableCheck=True)
    cli.succeed("check")
    cli.configure(cniVersion="0.3.1")
    assert cli.fail("check").startswith('configuration version "0.3.1" does not support the CHECK command; ')
    assert cli.plugins.commands == []


BAD_SETTINGS: dict[str, tuple[dict[str, str], str]] = {
    "no-equals": ({"CNI_ARGS": "abc"}, 'invalid CNI_ARGS pair "abc"'),
    "no-key": ({"CNI_ARGS": "=v"}, 'invalid CNI_ARGS pair "=v"'),
    "no-value": ({"CNI_ARGS": "K="}, 'invalid CNI_ARGS pair "K="'),
    "two-equals": ({"CNI_ARGS": "A=1=2"}, 'invalid CNI_ARGS pair "A=1=2"'),
    "a-last-semicolon": ({"CNI_ARGS": "A=1;"}, 'invalid CNI_ARGS pair ""'),
    "broken-json": ({"CAP_ARGS": "{"}, "could not decode CAP_ARGS; it ends too early"),
    "json-list": ({"CAP_ARGS": "[]"}, "could not decode CAP_ARGS; it must be a JSON object, not a list"),
    "ifname-empty": ({"CNI_IFNAME": ""}, 'plugin type="a" failed (add): interface name is empty'),
    "ifname-climbing": ({"CNI_IFNAME": "../x"}, 'plugin type="a" failed (add): interface name contains / or :'),
    "path-empty": ({"CNI_PATH": ""}, 'plugin type="a" failed (add): no paths provided'),
}


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_a_bad_variable_is_named_and_nothing_is_called(case: str, cli: Cli):
    environ, msg = BAD_SETTINGS[case]
    assert cli.fail("add", **environ).startswith(msg)
    assert (cli.plugins.commands, cli.cached) == ([], [])


def test_an_unknown_network_is_named(cli: Cli):
    assert cli.fail("add", network="other").startswith(f'no net configuration with name "other" in {cli.conf_dir}; ')


MISUSE: dict[str, list[str]] = {
    "no-verb": [],
    "unknown-verb": ["frobnicate", "net", NETNS],
    "no-netns": ["add", "net"],
    "no-network": ["del"],
    "status-needs-both": ["status", "net"],
    "status-of-too-many": ["status", "net", NETNS, "more"],
    "gc-needs-both": ["gc", "net"],
    "a-dry-run-of-one-network": ["gc", "net", NETNS, "--dry-run"],
    "a-grace-before-now": ["gc", "--grace", "-1"],
    "a-grace-without-end": ["gc", "--grace", "inf"],
    "check-needs-both": ["check", "net"],
    "check-of-both": ["check", "net", NETNS, "--pod", "default/vm"],
    "too-many": ["add", "net", NETNS, "more"],
    "unknown-option": ["add", "net", NETNS, "--frobnicate"],
    "attach-without-netns": ["attach", "--pod", "default/vm"],
    "attach-without-pod": ["attach", "--netns", NETNS],
    "a-pod-without-namespace": ["detach", "--pod", "vm"],
    "a-pod-with-a-semicolon": ["detach", "--pod", "default/vm;IP=10.0.0.1"],
    "a-pod-that-climbs": ["detach", "--pod", "../../etc"],
}


@pytest.mark.parametrize("case", MISUSE)
def test_a_misused_command_line_is_told_so_with_status_2(case: str, capsys: pytest.CaptureFixture[str]):
    rc = command.main(MISUSE[case])
    out, err = capsys.readouterr()
    assert (rc, out) == (2, "")
    assert err.startswith("usage: plexus")
    assert ": error: " in err.splitlines()[-1]


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]):
    assert command.main(["--version"]) == 0
    assert capsys.readouterr().out == f"plexus {cni.__version__} (CNI 0.1.0 to 1.1.0)\n"


@pytest.mark.parametrize("verb", ["add", "check", "del", "gc", "status", "attach", "detach"])
def test_the_help_tells_of_every_verb_and_every_verb_of_itself(verb: str, capsys: pytest.CaptureFixture[str]):
    assert command.main(["--help"]) == 0
    assert f"\n  plexus {verb} " in capsys.readouterr().out

    assert command.main([verb, "--help"]) == 0
    told = capsys.readouterr().out
    assert f"plexus {verb}" in told
    for variable in ("NETCONFPATH", "CNI_PATH", "CNI_ARGS", "CAP_ARGS", "CNI_IFNAME"):
        assert variable in told


def test_a_built_in_type_that_the_path_has_is_executed(cli: Cli):
    cli.plugins.install("bridge")
    cli.configure(plugins=[{"type": "bridge"}])

    cli.succeed("add")

    assert cli.plugins.commands == ["ADD bridge"]


def test_a_built_in_type_that_the_path_lacks_is_there_all_the_same(cli: Cli):
    cli.configure(name="other", plugins=[{"type": "host-local", "ipam": {"type": "host-local"}}])
    assert cli.fail("add", network="other").startswith('plugin type="host-local" failed (add): ')
    assert "failed to find plugin" not in cli.fail("add", network="other")
