"""What a call of a plugin may import: start-up is most of the time that a call without the daemon takes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kube.api_server import Server, write_kubeconfig

from cni.plugin import invoke
from cni.plugin.ledger import Entry, Ledger, Record

ROOT = Path(__file__).parents[2]
CALL = """
import sys
sys.path.insert(0, sys.argv[1])
from cni.plugin import skel
status = skel.main(sys.argv[2])
import json
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
sys.exit(status)
"""
KERNEL = {"pyroute2", "asyncio"}
API = {"kubernetes", "yaml", "h2", "google"}
MODELS = {"pydantic"}


def imported(plugin: str, verb: str, folder: Path, *within: str) -> set[str]:
    """The packages that a successful call has loaded by its end."""
    return {name.partition(".")[0] for name in modules(plugin, verb, folder, *within)}


def modules(plugin: str, verb: str, folder: Path, *within: str) -> set[str]:
    """The modules, too; `within` is a command that runs the call elsewhere."""
    ipam = {"type": "host-local", "subnet": "10.0.0.0/24", "dataDir": str(folder)}
    process = subprocess.run(
        [*within, sys.executable, "-I", "-c", CALL, str(ROOT), plugin],
        input=json.dumps({"cniVersion": "1.1.0", "name": "n", "ipam": ipam, "cniDir": str(folder)}),
        env={
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": "c1",
            "CNI_NETNS": "/nonexistent/ns",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": "/x",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stdout
    return set(json.loads(process.stderr.splitlines()[-1]))


@pytest.mark.parametrize("plugin", [*invoke.BUILT_IN, *invoke.META])
def test_answering_version_imports_no_library(plugin: str, tmp_path: Path):
    assert not imported(plugin, "VERSION", tmp_path) & (KERNEL | API | MODELS | {"filelock"})


@pytest.mark.parametrize("verb", ["ADD", "STATUS"])
@pytest.mark.parametrize("plugin", ["host-local", "static"])
def test_ipam_imports_neither_netlink_nor_api(plugin: str, verb: str, tmp_path: Path):
    assert not imported(plugin, verb, tmp_path) & (KERNEL | API)


@pytest.mark.parametrize("verb", ["DEL", "GC"])
def test_host_local_gives_back_without_any_models(verb: str, tmp_path: Path):
    imported("host-local", "ADD", tmp_path)  # so that there is something to give back
    assert not imported("host-local", verb, tmp_path) & (KERNEL | API | MODELS)
    assert not list(tmp_path.glob("n/10.0.0.*"))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a namespace")
@pytest.mark.parametrize("verb", ["DEL", "GC"])
@pytest.mark.parametrize("plugin", ["bridge", "veth"])
def test_detaching_needs_no_models(plugin: str, verb: str, tmp_path: Path):
    assert not imported(plugin, verb, tmp_path, "unshare", "--net") & (API | MODELS)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a namespace")
def test_the_meta_plugin_replays_what_our_own_plugins_did_without_models(tmp_path: Path):
    imported("host-local", "ADD", tmp_path)
    ipam = {"type": "host-local", "subnet": "10.0.0.0/24", "dataDir": str(tmp_path)}
    conf = json.dumps({"cniVersion": "1.0.0", "name": "n", "type": "bridge", "ipam": ipam})
    result = {"cniVersion": "1.1.0", "ips": [{"address": "10.0.0.2/24"}]}
    entry = Entry(network="n", conf=conf, ifname="eth0", result=result)
    record = Record(container_id="c1", ifname="eth0", netns="", pod_namespace="d", pod_name="p", entries=(entry,))
    Ledger(str(tmp_path / "containers")).write(record)

    loaded = modules("plexus", "DEL", tmp_path, "unshare", "--net")

    assert not {name.partition(".")[0] for name in loaded} & (API | MODELS)
    assert len(loaded) < 290
    assert not [path for path in tmp_path.rglob("*") if path.name in ("c1@eth0.json", "10.0.0.2")]


@pytest.mark.parametrize("verb", ["DEL", "GC"])
def test_static_has_nothing_to_give_back_and_needs_no_models_for_that(verb: str, tmp_path: Path):
    assert not imported("static", verb, tmp_path) & (KERNEL | API | MODELS)


def test_the_protocol_imports_only_the_standard_library():
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import cni.plugin.skel; print(*sys.modules)"
    process = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    packages = {name.partition(".")[0] for name in process.stdout.split()}
    assert packages - sys.stdlib_module_names <= {"cni", "__main__"} | added_by_the_environment()


def test_the_launcher_asks_the_daemon_with_what_the_interpreter_has_built_in():
    script = (
        "import sys; before = set(sys.modules);"
        f"exec(compile(open({str(ROOT / 'cni/node/launcher.py')!r}).read(), 'launcher', 'exec'), {{'__name__': 'x'}});"
        "print(*set(sys.modules) - before)"
    )
    process = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=True)
    assert set(process.stdout.split()) <= {"_socket", "posix", "time"}


def added_by_the_environment() -> set[str]:
    """What Python loads before us, for example for editable installations."""
    process = subprocess.run(
        [sys.executable, "-I", "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in process.stdout.split()}


LOAD = """
import json, sys
sys.path.insert(0, sys.argv[1])
from cni.linux import messages
{before}
messages.load_all()
message = messages.load("rtnl.ifinfmsg").ifinfmsg()
from pyroute2.netlink.exceptions import NetlinkError
print(json.dumps(sorted(sys.modules)))
"""


def loaded(before: str = "") -> set[str]:
    """What is there when all messages have been imported."""
    words = [sys.executable, "-I", "-c", LOAD.format(before=before), str(ROOT)]
    return set(json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout))


def test_messages_come_without_the_rest_of_pyroute2():
    parts = {name.split(".")[1] for name in loaded() if name.startswith("pyroute2.")}
    assert not parts & {"ndb", "ipdb", "iproute", "ethtool", "nslink"}


def test_messages_are_found_in_a_version_of_pyroute2_that_wants_to_be_imported_whole():
    broken = "import types; messages._bare = lambda: types.ModuleType('pyroute2')"
    assert "pyroute2.ndb.main" in loaded(broken)


def test_messages_are_found_where_pyroute2_is_there_already():
    assert "pyroute2.ndb.main" in loaded("import pyroute2")


def modules_of_a_pod(folder: Path, verb: str, api: Server) -> set[str]:
    """What a call of the meta plugin for a pod with three networks, whose plugins are executed, has loaded."""
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin" / "none").write_text('#!/bin/sh\ntest $CNI_COMMAND = DEL || echo \'{"cniVersion":"1.0.0"}\'\n')
    (folder / "bin" / "none").chmod(0o755)
    network = {"cniVersion": "1.0.0", "name": "n", "type": "none"}
    annotations = {"k8s.v1.cni.cncf.io/networks": "a,b,c"}
    api.objects["/api/v1/namespaces/d/pods/p"] = {"metadata": {"annotations": annotations}}
    api.objects["/api/v1/namespaces/d/pods/p/status"] = {}
    for name in "abc":
        definition = {"spec": {"config": json.dumps(network)}}
        api.objects[f"/apis/k8s.cni.cncf.io/v1/namespaces/d/network-attachment-definitions/{name}"] = definition
    write_kubeconfig(folder / "kubeconfig", api.url, api.token)
    keys = {"binDir": str(folder / "bin"), "cniDir": str(folder / "state"), "kubeconfig": str(folder / "kubeconfig")}
    process = subprocess.run(
        [sys.executable, "-I", "-c", CALL, str(ROOT), "plexus"],
        input=json.dumps({"cniVersion": "1.0.0", "name": "n", "delegates": [network]} | keys),
        env={
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": "c1",
            "CNI_NETNS": f"/proc/{os.getpid()}/ns/net",
            "CNI_NETNS_OVERRIDE": "1",
            "CNI_IFNAME": "eth7",
            "CNI_ARGS": "K8S_POD_NAMESPACE=d;K8S_POD_NAME=p",
            "CNI_PATH": "/x",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stdout
    return set(json.loads(process.stderr.splitlines()[-1]))


@pytest.fixture
def api() -> Iterator[Server]:
    server = Server((200, {}))
    yield server
    server.stop()


def test_the_meta_plugin_imports_neither_the_api_library_nor_yaml_nor_netlink_to_ask_for_networks(
    api: Server, tmp_path: Path
):
    modules = modules_of_a_pod(tmp_path, "ADD", api)
    assert {name.partition(".")[0] for name in modules} & (KERNEL | API | {"filelock"}) == set()
    assert "urllib3" in modules
    assert len(modules) < 367


def test_the_meta_plugin_replays_a_record_without_any_source(api: Server, tmp_path: Path):
    modules_of_a_pod(tmp_path, "ADD", api)
    modules = modules_of_a_pod(tmp_path, "DEL", api)
    assert {name.partition(".")[0] for name in modules} & (KERNEL | API | {"filelock", "urllib3", "http"}) == set()
    assert len(modules) < 300
