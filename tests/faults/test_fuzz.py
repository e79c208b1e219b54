"""Whatever anybody writes, asks or sends: an answer in the protocol's form with a right code, and nothing touched.

Each example of hypothesis is some inputs: what it made, and what is left of that when it is cut or changed somewhere.
`--nightly` has fifty times as many examples. Nothing here reaches the kernel, starts a process or writes a file.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cni.kube.objects import NetworkAttachmentDefinition, Pod
from cni.meta import config, identity, places, untrusted
from cni.meta.plan import Planned, plan
from cni.node import launcher
from cni.node.client import Client, Declined, Withdrawn
from cni.plugin import skel
from cni.spec import document, names, netconf
from cni.spec.errors import CNIError
from cni.spec.request import Request
from delegates import config as delegates_config
from ipam import config as ipam_config
from ipam import static_config

NIGHTLY = os.environ.get("PLEXUS_TESTS_NIGHTLY") == "1"
EXAMPLES = 600 * (50 if NIGHTLY else 1)
LONGEST = 5.0
"""Seconds of processor time that one input may take."""
CODES = {1, 2, 4, 5, 6, 7, 8, 11, 50, 102, 104}
"""Of errors that are somebody's fault, or pass; 999 would be a defect."""
COUNTED: Counter[str] = Counter()

fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=not NIGHTLY,
    database=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)

PATHS = ["/etc/cron.d", "../../etc", "unix:///run/x", "file:/x", " /x", "a/../../b", "//x", "/24", "\0", "..", "net.d"]
VALUES_OF_KEYS = ["", "a", "net", "br0", "eth0", "10.0.0.0/24", "10.0.0.5", "fd00::/64", "02:00:00:00:00:01", "1.0.0"]
TYPES = ["bridge", "host-local", "static", "macvlan", "plexus", "multus", "host-device"]
STRANGE = ["\ud800", "x" * 300, "1" * 5000]
TEXTS = st.sampled_from([*VALUES_OF_KEYS, *TYPES, *STRANGE, *PATHS]) | st.text(max_size=12)
OF_NETWORKS = ["name", "type", "cniVersion", "plugins", "ipam", "dataDir", "resolvConf", "subnet", "ranges", "bridge"]
OF_BRIDGES = ["vlan", "vlanTrunk", "minID", "maxID", "id", "mtu", "isGateway", "master", "delegate", "TYPE", "Name"]
OF_PLUGINS = ["args", "cni", "capabilities", "runtimeConfig", "prevResult", "dns", "logFile", "kubeconfig", "IPAM"]
OF_IPAM = ["ips", "mac", "routes", "dst", "gw", "addresses", "address", "gateway", "rangeStart", "re\u017folvConf"]
OF_PODS = [
    "namespace",
    "interface",
    "portMappings",
    "hostPort",
    "containerPort",
    "bandwidth",
    "ingressRate",
    "deviceID",
]
OF_NODES = [
    "delegates",
    "clusterNetwork",
    "defaultNetworks",
    "namespaceIsolation",
    "createBridge",
    "external",
    "policy",
]
OF_RULES = ["namespaces", "vlans", "subnets", "keys", "hostPaths", "cni-args", "default-route", "infiniband-guid"]
GROUPS = (OF_NETWORKS, OF_BRIDGES, OF_PLUGINS, OF_IPAM, OF_PODS, OF_NODES, OF_RULES)
KEYS = st.sampled_from([key for group in GROUPS for key in group])
NUMBERS = st.integers(-2, 5000) | st.sampled_from([0, -1, 2**31, 2**63, 10**400, 1.5, 1e308])
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=10
)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=6)
IPAM = st.sampled_from(
    [
        {"type": "host-local", "subnet": "10.0.0.0/24"},
        {"type": "host-local", "ranges": [[{"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.9"}]]},
        {"type": "static", "addresses": [{"address": "10.0.0.9/24"}]},
        {},
    ]
)
PLUGINS = st.builds(
    lambda base, ipam, more, less: {
        key: value for key, value in ({**base, "ipam": ipam} | more).items() if key != less
    },
    st.sampled_from([{"type": "bridge", "bridge": "br0"}, {"type": "ptp"}, {"type": "none"}, {}]),
    IPAM | OBJECTS,
    OBJECTS,
    KEYS,
)
CONFS = st.builds(lambda plugin, head: {"cniVersion": "1.0.0", "name": "n"} | head | plugin, PLUGINS, OBJECTS)
LISTS = st.builds(
    lambda plugins, head: {"cniVersion": "1.0.0", "name": "n"} | head | {"plugins": plugins},
    st.lists(PLUGINS, max_size=4),
    OBJECTS,
)
ELEMENTS = st.builds(lambda more: {"name": "net"} | more, OBJECTS)
SHORT = st.lists(TEXTS | st.sampled_from(["net@eth1", "a/net", "net@", "@", "/"]), max_size=4).map(",".join)
WRITTEN = st.builds(document.dump, CONFS | LISTS | OBJECTS) | st.text(max_size=40)
ASKED = st.builds(document.dump, st.lists(ELEMENTS, max_size=3)) | SHORT | st.text(max_size=40)
CUTS = st.tuples(st.integers(0, 400), st.sampled_from(list('"\\{}[],:/.0e-\0\ud800\u017f')))


def variants(text: str, cut: tuple[int, str]) -> Iterator[str]:
    """The text, and what is left of it: cut, with another character somewhere, and inside of far too much."""
    place, character = cut[0] % (len(text) + 1), cut[1]
    yield text
    yield text[:place]
    yield text[:place] + character + text[place + 1 :]
    yield text[:place] + text[place:] * 2
    yield text.replace(":", ": " + "[" * (cut[0] * 5), 1)


class Guard:
    """Sees what a call does to the world: Python tells each file that it opens, and each process."""

    FORBIDDEN = (
        "os.mkdir",
        "os.rename",
        "os.remove",
        "os.link",
        "os.symlink",
        "os.chmod",
        "os.chown",
        "subprocess.Popen",
    )
    FORBIDDEN += ("os.exec", "os.fork", "os.posix_spawn", "os.system", "socket.connect", "socket.bind", "ctypes.dlopen")

    def __init__(self) -> None:
        self.active = False
        self.others: set[int | None] = set()
        """Threads that were there before, such as other tests leave behind."""

        self.seen: list[str] = []
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: Any) -> None:
        if not self.active or threading.get_ident() in self.others:
            return
        if event in self.FORBIDDEN or (event == "open" and writes(arguments[2])):
            self.seen.append(f"{event} {arguments!r}")

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        self.others = {other.ident for other in threading.enumerate()} - {threading.get_ident()}
        self.seen = []
        self.active = True
        try:
            yield
        finally:
            self.active = False
        assert self.seen == []


def writes(flags: Any) -> bool:
    return bool(isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))


GUARD = Guard()


@pytest.fixture(autouse=True)
def _relative_paths_are_below_the_tests_own_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module", autouse=True)
def there_were_enough():
    yield
    assert sum(COUNTED.values()) == 0 or min(COUNTED.values()) > EXAMPLES / 2
    print(dict(COUNTED), sum(COUNTED.values()))


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Have no garbage collected meanwhile: after a hundred thousand examples, that alone takes seconds."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def checked(call: Any, *arguments: Any, kind: str) -> Any:
    """What the call returns; None for an error that the protocol can tell. Anything else fails the test."""
    COUNTED[kind] += 1
    failure = result = None
    begun = time.thread_time()
    with GUARD.watching(), uncollected():
        try:
            result = call(*arguments)
        except CNIError as error:
            failure = error
    assert time.thread_time() - begun < LONGEST
    if failure is not None:
        assert failure.code in CODES, failure
        assert failure.msg
        json.dumps({"msg": failure.msg, "details": failure.details}).encode()
    return result


class Cluster:
    """One pod, and one definition of whatever name."""

    questions_at_once = 1

    def __init__(self, config: str = '{"type": "x"}', **annotations: str) -> None:
        self.config = config
        self.annotations = annotations

    def get_pod(self, namespace: str, name: str, uid: str = "") -> Pod:
        return Pod(namespace=namespace, name=name, uid=uid)

    def find_network(self, namespace: str, name: str) -> NetworkAttachmentDefinition:
        return NetworkAttachmentDefinition(
            namespace=namespace, name=name, config=self.config, annotations=self.annotations
        )


OWN = {"name": "cluster", "type": "x", "cniVersion": "1.0.0"}
NODE = {"name": "plexus", "delegates": [OWN], "confDir": "etc", "cniDir": "state", "manifests": "manifests"}
POLICY = [
    {"namespaces": ["d"], "plugins": ["bridge", "host-local"], "vlans": [5], "subnets": ["10.0.0.0/8"], "keys": ["*"]}
]


def planned(
    source: Cluster, asked: str, args: str = "K8S_POD_NAMESPACE=d;K8S_POD_NAME=p", **keys: Any
) -> list[Planned]:
    request = Request(command="ADD", container_id="c", ifname="eth0", netns="none", conf=NODE | keys)
    conf = config.parse(request)
    pod = Pod(namespace="d", name="p", annotations={"k8s.v1.cni.cncf.io/networks": asked})
    return plan(conf, request, identity.parse(args), pod, source)  # type: ignore[arg-type]


def assert_harmless(attachments: list[Planned]) -> None:
    """What a plugin would be given names no file, no plugin by path, and no interface that cannot be."""
    for attachment in attachments[1:]:
        names.validate_ifname(attachment.entry.ifname)
        conf = netconf.parse(attachment.entry.conf)
        names.validate_network_name(conf.name)
        for plugin in conf.plugins:
            assert "/" not in netconf.plugin_type(plugin)
            assert_no_paths(plugin)


def assert_no_paths(value: Any, depth: int = 0) -> None:
    """Written once more, in the plainest way."""
    assert depth <= untrusted.DEEPEST + 4  # and `args`, `cni` of the pod
    if isinstance(value, dict):
        for below in value.values():
            assert_no_paths(below, depth + 1)
    elif isinstance(value, list):
        for below in value:
            assert_no_paths(below, depth + 1)
    elif isinstance(value, str):
        text = value.strip()
        assert not text.startswith("/") or text[1:].isdigit(), value
        assert "/../" not in f"/{text}/", value
        assert not text.startswith(("unix:", "file:")), value


@fuzzed
@given(ASKED, CUTS)
def test_an_annotation_is_read_or_refused(text, cut):
    for written in variants(text, cut):
        assert_harmless(checked(planned, Cluster(), written, kind="annotation") or [])


@fuzzed
@given(WRITTEN, CUTS, st.booleans(), st.text(max_size=10))
def test_a_definition_is_read_or_refused(text, cut, limited, granted):
    keys = {"policy": POLICY, "namespaceIsolation": True} if limited else {}
    for written in variants(text, cut):
        source = Cluster(written, **{"plexus/allowed-namespaces": granted})
        assert_harmless(
            checked(lambda source=source: planned(source, "other/net,net", **keys), kind="definition") or []
        )
        assert_harmless(checked(lambda source=source: planned(source, "net", **keys), kind="definition") or [])


@fuzzed
@given(CONFS, st.text(max_size=30) | st.sampled_from(["IP=10.0.0.9", "MAC=x", "IgnoreUnknown=1;IP=1;GATEWAY=x"]))
def test_the_configuration_of_a_built_in_plugin_is_read_or_refused(conf, args):
    request = Request(command="ADD", container_id="c", ifname="eth0", netns="none", args=args, conf=conf)
    for read in (delegates_config.bridge, delegates_config.veth, ipam_config.parse, static_config.parse):
        checked(read, request, kind="built-in")


@fuzzed
@given(OBJECTS, st.lists(OBJECTS, max_size=2), OBJECTS)
def test_the_nodes_configuration_is_read_or_refused(keys, rules, rule):
    conf = {"name": "plexus", "delegates": [OWN]} | keys
    for written in (conf, conf | {"policy": rules}, conf | {"policy": [{"namespaces": ["*"]} | rule]}):
        request = Request(command="ADD", container_id="c", ifname="eth0", netns="none", conf=written)
        checked(config.parse, request, kind="node")
        checked(places.parse, request, kind="node")


ENVIRONMENTS = st.dictionaries(
    st.sampled_from(
        ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH", "LD_PRELOAD"]
    ),
    st.sampled_from(["ADD", "CHECK", "STATUS", "VERSION", "x", "eth0", "none", "../../x", "a" * 5000, "\udc80", "K=V"])
    | st.text(max_size=20),
    max_size=7,
)
PAIRS = st.lists(
    st.tuples(
        st.sampled_from(["K8S_POD_NAMESPACE", "K8S_POD_NAME", "K8S_POD_UID", "IgnoreUnknown", "IP", "MAC", "", "X"]),
        TEXTS,
    ),
    max_size=5,
).map(lambda pairs: ";".join(f"{key}={value}" for key, value in pairs))
ASIDE = {"DEL": "x", "GC": "x"}
"""These would do what they are asked, to the machine's own state and links."""


def answered(environ: dict[str, str], stdin: bytes) -> None:
    """Be the plugin for one call, and assert that stdout is the protocol's."""
    stdout, stderr = io.StringIO(), io.StringIO()
    status = skel.run("plexus", environ, io.BytesIO(stdin), stdout, stderr)
    text = stdout.getvalue()
    assert "Traceback" not in text
    text.encode()
    if not environ.get("CNI_COMMAND"):
        return
    answer = json.loads(text) if text else {}
    assert (status == 0) == ("code" not in answer)
    assert status == 0 or (answer["code"] in CODES and answer["msg"]), text


@fuzzed
@given(ENVIRONMENTS, PAIRS | st.text(max_size=20), WRITTEN, CUTS)
def test_a_call_is_answered_in_the_protocols_form(environ, args, text, cut):
    environ = {key: ASIDE.get(value, value) for key, value in environ.items()}
    usual = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c",
        "CNI_NETNS": "none",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": "none",
    }
    text = text.replace("logFile", "logLevel")  # the node's own, which may be any file
    for written in variants(text, cut):
        checked(answered, environ, written.encode(errors="replace"), kind="call")
        conf = document.dump(NODE | {"type": "plexus", "x": written}).encode(errors="replace")
        checked(answered, usual | {"CNI_ARGS": args}, conf, kind="call")


def packed(parts: list[bytes]) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


PARTS = st.lists(st.binary(max_size=20) | st.sampled_from([b"", b"18", b"plexus", b"A=1\0=\0B", b"-5"]), max_size=9)
BODIES = PARTS.map(packed) | st.binary(max_size=60)
HEADS = st.sampled_from([launcher.MAGIC, launcher.MAGIC[:-1] + b"2", b"", b"GET / HTTP/1.1\r\n"])


def sent(data: bytes, descriptors: int) -> None:
    """Have a daemon receive it: it reads a request, or declines; it neither waits nor keeps a descriptor."""
    ours, theirs = socket.socketpair()
    pipes = [os.pipe() for _ in range(descriptors)]
    with ours, theirs:
        client = Client(theirs)
        if data:
            socket.send_fds(ours, [data], [reading for reading, _ in pipes])
        ours.shutdown(socket.SHUT_WR)
        try:
            errand = client.receive()
            assert all(isinstance(value, str) for pair in errand.environ.items() for value in pair)
        except (Declined, Withdrawn, OSError):
            pass
        client.close()
    for descriptor in [end for pipe in pipes for end in pipe]:
        os.close(descriptor)


@fuzzed
@given(HEADS, BODIES, st.integers(-3, 3) | st.sampled_from([2**26 + 1, 2**31]), st.integers(0, 3))
def test_what_comes_to_the_daemons_socket_is_a_request_or_declined(head, body, wrong, descriptors):
    before = len(os.listdir("/proc/self/fd"))
    size = max(len(body) + wrong, 0).to_bytes(4, "big")
    for data in (head + size + body, head + size, head, body, head + len(body).to_bytes(4, "big") + body):
        checked(sent, data, descriptors, kind="socket")
    assert len(os.listdir("/proc/self/fd")) == before
