"""With the capabilities that the unit leaves it, the daemon serves launchers that have all of them."""

import configparser
import json
import os
import subprocess
from pathlib import Path

import node_daemon
import pytest
from comparison import columns
from installed import tools
from throwaway import throwaway_host

UNIT = Path(__file__).parents[2] / "deploy" / "systemd" / "plexus.service"
SANDBOX = "sandbox"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")


def taken() -> list[str]:
    """What the unit takes away, as setpriv(1) names it, of what that has heard of."""
    unit = configparser.ConfigParser(interpolation=None)
    unit.read(UNIT)
    names = unit["Service"]["CapabilityBoundingSet"].lstrip("~").replace("\\", " ").lower().split()
    known = subprocess.run(["setpriv", "--list-caps"], capture_output=True, text=True, check=True).stdout.split()
    found = [name.removeprefix("cap_") for name in names if name.removeprefix("cap_") in known]
    assert len(found) > 10
    return found


def test_systemd_knows_every_word_of_the_units():
    tools("systemd-analyze")
    units = [str(UNIT), str(UNIT.with_suffix(".socket"))]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    complaints = (done.stdout + done.stderr).splitlines()
    assert [line for line in complaints if "/opt/plexus/current/bin/plexus is not executable" not in line] == []


def test_the_units_capabilities_do_for_a_bridge_with_masquerading(tmp_path: Path):
    tools("ip", "nft", "unshare", "nsenter", "setpriv")
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    columns.install(bin_dir, columns.DEPENDENT)
    ipam = {"type": "host-local", "dataDir": str(tmp_path / "leases"), "ranges": [[{"subnet": "10.1.0.0/16"}]]}
    conf = {"cniVersion": "1.1.0", "name": "net", "type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": True}
    without = ["setpriv", "--bounding-set", ",".join(f"-{name}" for name in taken())]
    with throwaway_host() as host, node_daemon.running(bin_dir, before=[*host.command(), *without]) as daemon:
        sandbox = host.namespace(SANDBOX)

        def call(verb: str, **keys: object) -> str:
            environ = {
                "CNI_COMMAND": verb,
                "CNI_CONTAINERID": "c1",
                "CNI_NETNS": sandbox.path,
                "CNI_IFNAME": "eth0",
                "CNI_PATH": str(bin_dir),
            }
            return host.run(str(bin_dir / "bridge"), stdin=json.dumps(conf | {"ipam": ipam} | keys), environ=environ)

        result = json.loads(call("ADD"))
        call("CHECK", prevResult=result)
        assert sandbox.links() == ["eth0", "lo"]
        call("DEL")
        assert sandbox.links() == ["lo"]
        assert (daemon.begun("ADD"), daemon.begun("CHECK"), daemon.begun("DEL")) == (1, 1, 1)
        bounding = Path(f"/proc/{daemon.pid}/status").read_text().partition("CapBnd:\t")[2].split()[0]
        assert int(bounding, 16) & (1 << 22 | 1 << 25) == 0  # CAP_SYS_BOOT, CAP_SYS_TIME
