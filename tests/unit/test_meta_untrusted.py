"""What no definition, and no pod, may say: paths of the host, plugins by path, more than anybody needs."""

from __future__ import annotations

import json

import pytest
from meta_node import Node

from cni.meta import networks, untrusted
from cni.spec import args
from cni.spec.errors import CNIError, InvalidConfiguration


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path)


def define(node, config, request):
    """Have the pod ask for a network of this configuration, and no other."""
    for path in node.manifests.iterdir():
        path.unlink()
    node.define("a", config)
    node.run(networks=json.dumps([{"name": "a"} | (request or {})]))


def refused(node, config, request=None, **conf):
    define(node, config, request)
    with pytest.raises(CNIError) as caught:
        node.plan(**conf)
    return caught.value


def accepted(node, config, request=None, **conf):
    define(node, config, request)
    return node.plan(**conf)[1]


HOST_LOCAL = {"type": "host-local", "subnet": "10.0.0.0/24"}
BRIDGE = {"cniVersion": "1.0.0", "type": "bridge", "ipam": HOST_LOCAL}
HOSTILE = {
    "leases anywhere": BRIDGE | {"ipam": HOST_LOCAL | {"dataDir": "/etc/cron.d"}},
    "leases where kube-ovn has its socket": BRIDGE
    | {"ipam": HOST_LOCAL | {"dataDir": "/run/openvswitch/kube-ovn-daemon.sock"}},
    "leases below others": BRIDGE | {"ipam": HOST_LOCAL | {"dataDir": "/var/lib/cni/networks/other"}},
    "leases above": BRIDGE | {"ipam": HOST_LOCAL | {"dataDir": "../../etc"}},
    "leases below the working directory": BRIDGE | {"ipam": HOST_LOCAL | {"dataDir": "etc"}},
    "leases in the working directory": BRIDGE | {"ipam": HOST_LOCAL | {"dataDir": "."}},
    "a key in capitals": BRIDGE | {"ipam": HOST_LOCAL | {"DATADIR": "etc"}},
    "a key that only Go folds": BRIDGE | {"ipam": HOST_LOCAL | {"re\u017folvConf": "etc/shadow"}},
    "the same key twice": BRIDGE | {"IPAM": HOST_LOCAL | {"dataDir": "/etc"}},
    "a file that is read": BRIDGE | {"ipam": HOST_LOCAL | {"resolvConf": "/etc/shadow"}},
    "another kubeconfig": {"type": "x", "ipam": {"type": "y", "kubernetes": {"kubeconfig": "/srv/kubeconfig"}}},
    "a log": {"type": "x", "logFile": "/etc/passwd"},
    "a log in snake case": {"type": "x", "log_file": "etc/passwd"},
    "a socket": {"type": "x", "socket_file": "unix:/run/docker.sock"},
    "a socket with a host": {"type": "x", "endpoint": "unix://run/docker.sock"},
    "a URL that is a file": {"type": "x", "source": "file:///etc/shadow"},
    "a directory of configurations": {"type": "x", "confDir": "net.d"},
    "another state": {"type": "x", "cniDir": "state"},
    "another place for plugins": {"type": "x", "binDir": "bin"},
    "any absolute path": {"type": "x", "foo": "/bin/sh"},
    "two slashes": {"type": "x", "foo": "//bin/sh"},
    "after a space": {"type": "x", "foo": " /bin/sh"},
    "a climbing one": {"type": "x", "foo": "a/../../b"},
    "a list": {"type": "x", "files": ["a", "/b"]},
    "far inside": {"type": "x", "a": [[{"b": [{"c": "/d"}]}]]},
    "device information": {"type": "x", "runtimeConfig": {"CNIDeviceInfoFile": "/etc/x"}},
    "a key that is a path": {"type": "tuning", "sysctl": {"net/../../kernel/core_pattern": "|x"}},
    "a later plugin": {"name": "a", "plugins": [{"type": "x"}, {"type": "y", "foo": "/bin/sh"}]},
    "an array of ranges": BRIDGE | {"ipam": HOST_LOCAL | {"ranges": [[{"subnet": "/etc"}]]}},
}


@pytest.mark.parametrize("config", HOSTILE.values(), ids=HOSTILE)
def test_a_definition_that_names_a_path_of_the_host_is_refused(node, config):
    error = refused(node, config)
    assert (error.code, error.id) == (7, "PLX-HOST-PATH")
    assert 'NetworkAttachmentDefinition "test/a"' in str(error)
    assert "`hostPaths`" in error.details


@pytest.mark.parametrize("config", HOSTILE.values(), ids=HOSTILE)
def test_escapes_of_json_hide_no_path(node, config):
    text = json.dumps(config).replace("/", r"\u002f").replace("..", r"\u002e\u002E")
    assert refused(node, text).id == "PLX-HOST-PATH"


def test_the_error_says_where_the_path_stands(node):
    chain = {"name": "a", "plugins": [{"type": "x"}, BRIDGE | {"ipam": HOST_LOCAL | {"dataDir": "/etc"}}]}
    assert '"plugins[1].ipam.dataDir" names "/etc" on the host' in str(refused(node, chain))


def test_a_path_as_long_as_a_definition_does_not_fill_the_error(node):
    assert len(str(refused(node, {"type": "x", "f" * 20_000: "/" + "x" * 20_000}))) < 700


USUAL = {
    "leases where they are anyhow": BRIDGE | {"ipam": HOST_LOCAL | {"dataDir": "/var/lib/cni/networks"}},
    "whereabouts with its kubeconfig": {
        "type": "macvlan",
        "ipam": {
            "type": "whereabouts",
            "range": "192.168.2.0/24",
            "kubernetes": {"kubeconfig": "/etc/cni/net.d/whereabouts.d/whereabouts.kubeconfig"},
        },
    },
    "kube-ovn": {
        "type": "kube-ovn",
        "server_socket": "/run/openvswitch/kube-ovn-daemon.sock",
        "provider": "a.default.ovn",
    },
    "a bridge": BRIDGE | {"ipam": HOST_LOCAL | {"routes": [{"dst": "0.0.0.0/0", "gw": "10.0.0.1"}], "dataDir": ""}},
    "whereabouts": {
        "type": "macvlan",
        "master": "eth0.100",
        "ipam": {"type": "whereabouts", "range": "192.168.2.225-192.168.2.230/28", "node_slice_size": "/22"},
    },
    "a server": {"type": "x", "url": "https://etcd.example/v3", "server": "http://[::1]:2379/", "ip": "fe80::1/64"},
    "tuning": {"type": "tuning", "sysctl": {"net.core.somaxconn": "500", "net/ipv4/conf/eth0/forwarding": "1"}},
    "devices": {"type": "sriov", "deviceID": "0000:03:02.3", "resourceName": "intel.com/sriov"},
    "names": {"type": "x", "profile": "gold", "zone": "a.b..c", "netAttachDefName": "ns/name", "dst": "::/0"},
}


@pytest.mark.parametrize("config", USUAL.values(), ids=USUAL)
def test_a_definition_without_paths_is_taken(node, config):
    assert accepted(node, config).ifname == "net1"


@pytest.mark.parametrize(
    ("allowed", "named", "taken"),
    [
        ("/var/lib/leases", "/var/lib/leases", True),
        ("/var/lib/leases", "/var/lib/leases/", True),
        ("/var/lib/leases/", "//var/lib/./leases/a", True),
        ("/run/ovs/db.sock", "unix:/run/ovs/db.sock", True),
        ("/run/ovs/db.sock", "unix:///run/ovs/db.sock", True),
        ("/", "/anything", True),
        ("/var/lib/leases", "/var/lib/leases2", False),
        ("/var/lib/leases", "/var/lib", False),
        ("/var/lib/leases", "/var/lib/leases/../x", False),
        ("/var/lib/leases", "var/lib/leases", False),
        ("/var/lib/leases", "unix:var/lib/leases", False),
        ("/", "..", False),
    ],
)
def test_the_nodes_configuration_opens_a_path_and_what_is_below(node, allowed, named, taken):
    config = {"type": "x", "dataDir": named}
    if taken:
        assert accepted(node, config, hostPaths=["/nowhere", allowed]).conf
    else:
        assert refused(node, config, hostPaths=["/nowhere", allowed]).id == "PLX-HOST-PATH"


@pytest.mark.parametrize("wrong", ["leases", "/a/../b", "", 5])
def test_what_opens_a_path_is_absolute(node, wrong):
    with pytest.raises(InvalidConfiguration, match=r"hostPaths\[0\]"):
        node.plan(args="", hostPaths=[wrong])


def test_what_the_node_says_itself_may_name_its_paths(node):
    own = {"cniVersion": "1.0.0", "name": "own", "type": "x", "logFile": "/var/log/x"}
    (node.conf_dir / "a.conf").write_text(json.dumps(own | {"name": "a"}))
    node.define("a", "")
    node.define("main", own, namespace="kube-system")
    node.run(networks="a")

    assert len(node.plan(delegates=[own])) == 2
    assert len(node.plan(delegates=[], clusterNetwork="main")) == 2


def test_the_definition_that_the_node_names_is_checked_where_a_pod_selects_it(node):
    node.define("main", {"type": "x", "logFile": "/var/log/x"}, namespace="kube-system")
    for selected in ({"networks": "kube-system/main"}, {"default_network": "main"}):
        node.run(**selected)
        with pytest.raises(InvalidConfiguration) as caught:
            node.plan(delegates=[], clusterNetwork="main")
        assert caught.value.id == "PLX-HOST-PATH"


@pytest.mark.parametrize(
    "asked", [{"cni-args": {"dataDir": "x"}}, {"cni-args": {"a": ["/x"]}}, {"deviceID": "../../x"}]
)
def test_a_pod_can_name_no_path_either(node, asked):
    error = refused(node, {"type": "x", "capabilities": {"deviceID": True}}, asked)
    assert (error.code, error.id) == (7, "PLX-HOST-PATH")
    assert 'what the pod asks of network "test/a"' in str(error)


@pytest.mark.parametrize("kind", ["../../bin/sh", "/bin/sh", "a/b", "..", ".", "x\0"])
def test_a_plugin_is_no_path_wherever_it_is_named(node, kind):
    for config in ({"type": kind}, {"type": "x", "ipam": {"type": kind}}, {"type": "x", "delegate": {"TYPE": kind}}):
        assert refused(node, config).id == "PLX-PLUGIN-TYPE"


@pytest.mark.parametrize("kind", ["plexus", "multus"])
def test_the_meta_plugin_is_nobodys_delegate(node, kind):
    for config in ({"type": kind}, {"type": "x", "ipam": {"type": kind}}, {"type": "x", "delegates": [{"type": kind}]}):
        assert refused(node, config).id == "PLX-RECURSION"


def nested(depth, inner=1):
    return f'{{"type": "x", "a": {"[" * depth}{inner}{"]" * depth}}}'


def test_a_definition_is_bounded_in_length_in_depth_and_in_plugins(node):
    plugin = {"type": "x"}
    chain = {"name": "a", "plugins": [plugin] * untrusted.LONGEST_CHAIN}
    for enough in (chain, nested(untrusted.DEEPEST - 1), {"type": "x", "a": "b" * (untrusted.LONGEST - 100)}):
        accepted(node, enough)
    for too_much in (
        chain | {"plugins": [*chain["plugins"], plugin]},
        nested(untrusted.DEEPEST),
        nested(900),
        {"type": "x", "a": "b" * untrusted.LONGEST},
    ):
        error = refused(node, too_much)
        assert (error.code, error.id) == (7, "PLX-TOO-LARGE")


@pytest.mark.parametrize("depth", [985, 990, 995, 1000, 20_000])
def test_a_definition_that_is_nested_without_end_is_an_error_like_others(node, depth):
    assert refused(node, nested(depth)).code in (6, 7)


def test_what_a_pod_asks_is_bounded_in_depth_and_number(node):
    deep = json.loads("[" * 900 + "]" * 900)
    assert refused(node, {"type": "x"}, {"cni-args": {"a": deep}}).id == "PLX-TOO-LARGE"
    many = [f"10.0.0.{number}" for number in range(65)]
    assert refused(node, {"type": "x"}, {"ips": many}).id == "PLX-ANNOTATION"
    ports = [{"hostPort": port, "containerPort": port} for port in range(1, 1026)]
    assert refused(node, {"type": "x"}, {"portMappings": ports}).id == "PLX-ANNOTATION"


def test_a_name_that_no_file_could_have_is_refused_before_anything_is_made(node):
    accepted(node, {"name": "n" * networks.LONGEST_NAME, "type": "x"})
    error = refused(node, {"name": "n" * (networks.LONGEST_NAME + 1), "type": "x"})
    assert (error.code, error.id) == (7, "PLX-TOO-LARGE")


def test_arguments_are_bounded():
    args.parse("A=" + "b" * (args.LONGEST - 2))
    with pytest.raises(CNIError) as caught:
        args.parse("A=" + "b" * args.LONGEST)
    assert (caught.value.code, caught.value.id) == (4, "PLX-TOO-LARGE")
