"""A plugin that goes on when whoever executed it is killed: what it makes is undone all the same."""

import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from installed import launchers, tools
from node_daemon import until
from throwaway import Host, throwaway_host

IMPATIENT = "from cni.plugin import underway\nunderway.PATIENCE = 0.2\n"
SLOW = """#!/bin/sh
echo "begin $CNI_COMMAND" >>{directory}/calls
if [ $CNI_COMMAND = ADD ]; then echo $PPID >{directory}/caller.tmp; mv {directory}/caller.tmp {directory}/caller
read go <{directory}/go-on; fi
echo "end $CNI_COMMAND" >>{directory}/calls
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")


@pytest.fixture
def host() -> Iterator[Host]:
    tools("unshare", "nsenter", "ip")
    with throwaway_host() as host:
        yield host


class Killed:
    """An ADD that is killed while its plugin is at work, which goes on when it is let."""

    def __init__(self, host: Host, directory: Path, *, before: str = "") -> None:
        self.host = host
        self.directory = directory
        self.launcher = launchers(directory, on_a_host=False, before=before) / "plexus"
        self.sandbox = host.namespace("sandbox")
        (directory / "slow").write_text(SLOW.format(directory=directory))
        (directory / "slow").chmod(0o755)
        os.mkfifo(directory / "go-on")
        delegate = {"cniVersion": "1.0.0", "name": "slow", "type": "slow"}
        self.conf = {"cniVersion": "1.0.0", "name": "plexus", "type": "plexus", "binDir": str(directory)}
        self.conf |= {"cniDir": f"{directory}/state", "delegates": [delegate]}
        with ThreadPoolExecutor(1) as threads:
            adding = threads.submit(self.call, "ADD")
            until((directory / "caller").exists)
            host.run("kill", "-9", (directory / "caller").read_text().strip())
            # The launcher's own streams are held by nobody but itself, so this does not wait for the plugin.
            assert adding.result().returncode != 0

    def call(self, verb: str) -> CompletedProcess[str]:
        environ = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": "c1",
            "CNI_NETNS": self.sandbox.path,
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(self.directory),
        }
        return self.host.call(str(self.launcher), stdin=json.dumps(self.conf), environ=environ)

    def go_on(self) -> None:
        (self.directory / "go-on").write_text("now\n")

    @property
    def calls(self) -> list[str]:
        return (self.directory / "calls").read_text().splitlines()

    @property
    def records(self) -> list[str]:
        return [path.name for path in (self.directory / "state" / "containers").iterdir()]


def test_delete_waits_for_it(host: Host, tmp_path: Path):
    killed = Killed(host, tmp_path)
    with ThreadPoolExecutor(1) as threads:
        deleting = threads.submit(killed.call, "DEL")
        time.sleep(0.7)  # if it did not wait, it would begin to delete now
        assert killed.calls == ["begin ADD"]
        killed.go_on()
        assert deleting.result().returncode == 0
    assert killed.calls == ["begin ADD", "end ADD", "begin DEL", "end DEL"]
    assert killed.records == []


def test_delete_is_to_come_again_where_it_does_not_end(host: Host, tmp_path: Path):
    killed = Killed(host, tmp_path, before=IMPATIENT)

    refused = killed.call("DEL")

    assert json.loads(refused.stdout)["code"] == 11
    assert "PLX-PLUGIN-RUNNING" in refused.stdout
    assert killed.calls == ["begin ADD"]
    assert killed.records == ["c1@eth0.json"]
    killed.go_on()
    until(lambda: "end ADD" in killed.calls)
    until(lambda: killed.call("DEL").returncode == 0)
    assert killed.calls == ["begin ADD", "end ADD", "begin DEL", "end DEL"]
    assert killed.records == []
