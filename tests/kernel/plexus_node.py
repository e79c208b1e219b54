"""A host with plexus on it, a pod of its manifests and that pod's sandbox, and what can be seen of all that."""

from __future__ import annotations

import itertools
import json
import subprocess

from cni.linux import netns
from cni.meta import plugin
from cni.spec.request import Request

MAC = "02:00:00:00:00:05"
KUBEVIRT = [{"name": "multus-br", "namespace": "default", "interface": "pod37a8eec1ce1", "mac": MAC}]


class Node:
    """A host with plexus' directories, one pod of its manifests, and that pod's sandbox."""

    def __init__(self, host, sandbox, directory):
        self.host = host
        self.sandbox = sandbox
        self.directory = directory
        self.manifests = directory / "manifests"
        self.manifests.mkdir()
        self.conf = {
            "cniVersion": "1.1.0",
            "name": "plexus",
            "type": "plexus",
            "manifests": str(self.manifests),
            "cniDir": str(directory / "state"),
            "hostPaths": [str(directory)],
            "binDir": str(directory / "bin"),
            "delegates": [self.bridge("cluster", "cni0", "10.244.0.0/24", isDefaultGateway=True, ipMasq=True)],
        }
        self.define("multus-br", self.bridge("multus-br", "multus-bridge", "192.168.100.0/24"))

    def bridge(self, name, bridge, subnet, **keys):
        ipam = {"type": "host-local", "dataDir": str(self.directory / "leases"), "subnet": subnet}
        return {"cniVersion": "1.0.0", "name": name, "type": "bridge", "bridge": bridge, "ipam": ipam} | keys

    def define(self, name, conf):
        data = {
            "kind": "NetworkAttachmentDefinition",
            "metadata": {"name": name},
            "spec": {"config": conf if isinstance(conf, str) else json.dumps(conf)},
        }
        (self.manifests / f"nad-{name}.json").write_text(json.dumps(data))

    def run(self, networks):
        text = networks if isinstance(networks, str) else json.dumps(networks)
        metadata = {"name": "vm", "annotations": {"k8s.v1.cni.cncf.io/networks": text}}
        (self.manifests / "pod.json").write_text(json.dumps({"kind": "Pod", "metadata": metadata}))

    def request(self, command, **changes):
        changes = {
            "container_id": "c1",
            "netns": self.sandbox.path,
            "ifname": "eth0",
            "args": "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=vm",
        } | changes
        return Request(command=command, environ={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, **changes).with_conf(
            self.conf | changes.get("conf", {})
        )

    def add(self, **changes):
        return netns.run_inside(self.host.path, lambda: plugin.add(self.request("ADD", **changes)))

    def delete(self, **changes):
        netns.run_inside(self.host.path, lambda: plugin.delete(self.request("DEL", **changes)))

    def check(self):
        netns.run_inside(self.host.path, lambda: plugin.check(self.request("CHECK")))

    def collect(self, *valid):
        keys = {"cni.dev/valid-attachments": [{"containerID": cid, "ifname": ifname} for cid, ifname in valid]}
        request = self.request("GC")
        netns.run_inside(self.host.path, lambda: plugin.gc(request.with_conf({**request.conf, **keys})))

    def state(self):
        """Everything an attachment can leave: links but bridges, addresses, routes, rules, leases, records, status."""
        return {
            "host links": sorted(name for name in links(self.host.path) if not name.startswith(("cni", "multus"))),
            "sandbox links": sorted(links(self.sandbox.path)),
            "routes": read(self.sandbox.path, "ip", "-json", "route"),
            "bridge addresses": addresses(self.host.path),
            "rules": rules(self.host.path),
            "files": sorted(str(path.relative_to(self.directory)) for path in self.state_files()),
        }

    def state_files(self):
        paths = itertools.chain((self.directory / "leases").rglob("*"), (self.directory / "state").rglob("*"))
        # host-local's memory of where it was, and of where to look; not of who has what
        kept = ("lock", "last_reserved_ip.0", ".index")
        return [path for path in paths if path.is_file() and not path.name.endswith(kept)]

    @property
    def record(self):
        return self.directory / "state" / "containers" / "c1@eth0.json"

    @property
    def status(self):
        return json.loads((self.directory / "state" / "network-status" / "default" / "vm.json").read_text())


def read(path, *command):
    output = subprocess.run(["nsenter", f"--net={path}", *command], check=True, capture_output=True, text=True).stdout
    return json.loads(output or "[]")


def links(path):
    return [link["ifname"] for link in read(path, "ip", "-json", "link")]


def addresses(path):
    found = read(path, "ip", "-json", "-4", "address")
    return [(link["ifname"], entry["local"]) for link in found for entry in link["addr_info"] if link["ifname"] != "lo"]


def rules(path):
    ruleset = read(path, "nft", "-j", "list", "ruleset")["nftables"]
    return [entry["rule"]["comment"] for entry in ruleset if "comment" in entry.get("rule", {})]
