"""What a call of a plugin may import: start-up is most of the time that a call without the daemon takes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cni.plugin import invoke

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


def imported(plugin: str, verb: str, folder: Path) -> set[str]:
    """The packages that a successful call has loaded by its end."""
    ipam = {"type": "host-local", "subnet": "10.0.0.0/24", "dataDir": str(folder)}
    process = subprocess.run(
        [sys.executable, "-I", "-c", CALL, str(ROOT), plugin],
        input=json.dumps({"cniVersion": "1.1.0", "name": "n", "ipam": ipam}),
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
    return {name.partition(".")[0] for name in json.loads(process.stderr.splitlines()[-1])}


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


@pytest.mark.parametrize("verb", ["DEL", "GC"])
def test_static_has_nothing_to_give_back_and_needs_no_models_for_that(verb: str, tmp_path: Path):
    assert not imported("static", verb, tmp_path) & (KERNEL | API | MODELS)


def test_the_protocol_imports_only_the_standard_library():
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import cni.plugin.skel; print(*sys.modules)"
    process = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    packages = {name.partition(".")[0] for name in process.stdout.split()}
    assert packages - sys.stdlib_module_names <= {"cni", "__main__"} | added_by_the_environment()


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
