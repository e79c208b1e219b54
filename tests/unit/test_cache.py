"""libcni's cache: what we write it reads, what it wrote we read, and what nobody can read is named."""

import base64
import json
import stat
from pathlib import Path
from typing import Any

import pytest

from cni.plugin.cache import Cache, DamagedCache, Remembered
from cni.plugin.chain import Attachment
from cni.spec import convert, netconf
from cni.spec.errors import CNIError, InvalidConfiguration, InvalidEnvironment, IOFailure

WRITTEN_BY_CNITOOL = Path(__file__).parents[1] / "vectors" / "libcni_cache"
"""By cnitool 1.3.0: `add` of a bridge and tuning with CNI_ARGS and CAP_ARGS."""

TEXT = '{ "name": "net", "cniVersion": "1.0.0",\n"plugins": [{"type": "a"}] }\n'
NETWORK = netconf.parse_list(TEXT)
ATTACHMENT = Attachment(
    container_id="c1",
    ifname="eth0",
    netns="/run/netns/ü",
    args="IgnoreUnknown=1;K8S_POD_NAME=vm",
    runtime_config={"mac": "02:00:00:00:00:01"},
)
RESULT = convert.decode(
    {"interfaces": [{"name": "eth0", "sandbox": "/run/netns/ü"}], "ips": [{"address": "10.0.0.2/24", "interface": 0}]},
    "1.0.0",
)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(str(tmp_path / "cni"))


def find(cache: Cache, network: str = "net", **key: str) -> Remembered | None:
    return cache.find(network, Attachment(**{"container_id": "c1", "ifname": "eth0"} | key))


def path_of(cache: Cache, name: str = "net-c1-eth0") -> Path:
    return Path(cache.directory) / name


def damage(cache: Cache, content: bytes, name: str = "net-c1-eth0") -> Path:
    path = path_of(cache, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_what_is_saved_is_found(cache: Cache):
    cache.save(NETWORK, ATTACHMENT, RESULT)

    found = find(cache)

    assert found is not None
    assert (found.network, found.attachment, found.config) == ("net", ATTACHMENT, TEXT)
    assert found.get_result() == RESULT


def test_the_file_is_as_libcni_writes_it(cache: Cache):
    cache.save(NETWORK, ATTACHMENT, RESULT)

    text = path_of(cache).read_text()

    assert "\n" not in text
    data = json.loads(text)
    assert list(data.items()) == [
        ("kind", "cniCacheV1"),
        ("containerId", "c1"),
        ("config", base64.b64encode(TEXT.encode()).decode()),
        ("ifName", "eth0"),
        ("networkName", "net"),
        ("netns", "/run/netns/ü"),
        ("cniArgs", [["IgnoreUnknown", "1"], ["K8S_POD_NAME", "vm"]]),
        ("capabilityArgs", {"mac": "02:00:00:00:00:01"}),
        (
            "result",
            {
                "cniVersion": "1.0.0",
                "interfaces": [{"name": "eth0", "sandbox": "/run/netns/ü"}],
                "ips": [{"address": "10.0.0.2/24", "interface": 0}],
            },
        ),
    ]


def test_only_root_may_read_it_and_no_temporary_file_stays(cache: Cache):
    cache.save(NETWORK, ATTACHMENT, RESULT)

    assert stat.S_IMODE(Path(cache.directory).stat().st_mode) == 0o700
    assert stat.S_IMODE(path_of(cache).stat().st_mode) == 0o600
    assert [path.name for path in Path(cache.directory).iterdir()] == ["net-c1-eth0"]


def test_what_is_empty_is_left_out(cache: Cache):
    cache.save(NETWORK, Attachment(container_id="c1", ifname="eth0"), RESULT)
    assert not json.loads(path_of(cache).read_text()).keys() & {"netns", "cniArgs", "capabilityArgs"}


def test_a_single_configuration_is_cached_as_the_list_it_stands_for(cache: Cache):
    cache.save(netconf.parse('{"name": "net", "cniVersion": "1.0.0", "type": "a", "x": 1}'), ATTACHMENT, RESULT)

    found = find(cache)

    assert found is not None
    assert json.loads(found.config) == {
        "cniVersion": "1.0.0",
        "name": "net",
        "plugins": [{"name": "net", "cniVersion": "1.0.0", "type": "a", "x": 1}],
    }


def test_a_path_that_is_not_utf8_comes_back_as_it_was(cache: Cache):
    netns = b"/run/netns/\xff".decode(errors="surrogateescape")
    cache.save(NETWORK, Attachment(container_id="c1", ifname="eth0", netns=netns), RESULT)

    found = find(cache)

    assert found is not None
    assert found.attachment.netns == netns


def test_what_cnitool_wrote_is_found():
    cache = Cache(str(WRITTEN_BY_CNITOOL))

    found = find(cache, "demo", container_id="cnitool-9539caf00070aeae0bd6")

    assert found is not None
    assert found.attachment == Attachment(
        container_id="cnitool-9539caf00070aeae0bd6",
        ifname="eth0",
        netns="/run/netns/pod",
        args="IgnoreUnknown=1;K8S_POD_NAME=vm",
        runtime_config={"mac": "02:11:22:33:44:55"},
    )
    assert [netconf.plugin_type(plugin) for plugin in netconf.parse_list(found.config).plugins] == ["bridge", "tuning"]
    assert [interface.name for interface in found.get_result().interfaces] == ["br-demo", "veth93a60b8d", "eth0"]
    assert list(cache.attachments("demo")) == [found]


def test_what_cnitool_wrote_we_write_the_same(cache: Cache):
    theirs = next(Cache(str(WRITTEN_BY_CNITOOL)).attachments())

    cache.save(netconf.parse_list(theirs.config), theirs.attachment, theirs.get_result())

    assert path_of(cache, Path(theirs.path).name).read_bytes() == Path(theirs.path).read_bytes()


def test_a_bare_result_of_an_old_libcni_is_found(cache: Cache):
    damage(cache, b'{"cniVersion": "0.2.0", "ip4": {"ip": "10.0.0.2/24"}, "dns": {}}')

    found = find(cache)

    assert found is not None
    assert [str(ip.address) for ip in found.get_result().ips] == ["10.0.0.2/24"]
    assert list(cache.attachments()) == []


def test_nothing_is_found_where_nothing_was_saved(cache: Cache):
    assert find(cache) is None
    assert list(cache.attachments()) == []


def test_a_removed_attachment_is_found_no_more_and_may_be_removed_again(cache: Cache):
    cache.save(NETWORK, ATTACHMENT, RESULT)
    cache.remove("net", ATTACHMENT)
    cache.remove("net", ATTACHMENT)
    assert find(cache) is None


def test_two_interfaces_of_a_container_are_two_attachments(cache: Cache):
    for ifname in ("eth0", "net1"):
        cache.save(NETWORK, Attachment(container_id="c1", ifname=ifname), RESULT)
    assert [known.attachment.ifname for known in cache.attachments("net")] == ["eth0", "net1"]


def test_attachments_of_other_networks_are_not_listed(cache: Cache):
    for name in ("net", "net-c1", "other"):
        cache.save(netconf.parse_list(TEXT.replace('"net"', f'"{name}"')), ATTACHMENT, RESULT)

    assert [known.network for known in cache.attachments("net")] == ["net"]
    assert len(list(cache.attachments())) == 3


def v1(**changes: Any) -> bytes:
    data = {
        "kind": "cniCacheV1",
        "containerId": "c1",
        "ifName": "eth0",
        "networkName": "net",
        "result": {"cniVersion": "1.0.0"},
    }
    return json.dumps({key: value for key, value in (data | changes).items() if value is not None}).encode()


DAMAGED = {
    "empty": b"",
    "cut-off": b'{"kind": "cniCacheV1", "containerId": "c',
    "binary": b"\x00\xff\xfe",
    "a-list": b"[]",
    "no-result": v1(result=None),
    "a-result-of-text": v1(result="x"),
    "no-network": v1(networkName=None),
    "a-container-that-is-a-number": v1(containerId=5),
    "config-that-is-not-base64": v1(config="%%%"),
    "config-that-is-not-utf8": v1(config="/////w=="),
    "arguments-that-are-text": v1(cniArgs="K=V"),
    "arguments-of-three": v1(cniArgs=[["a", "b", "c"]]),
    "capabilities-that-are-a-list": v1(capabilityArgs=[1]),
}
MISUNDERSTOOD = {
    "of-a-version-nobody-knows": v1(result={"cniVersion": "9.9.9"}),
    "a-bad-address": v1(result={"cniVersion": "1.0.0", "ips": [{"address": "x"}]}),
    "another-kind": b'{"kind": "cniCacheV2", "cniVersion": "5"}',
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_named(case: str, cache: Cache):
    path = damage(cache, DAMAGED[case])

    with pytest.raises(DamagedCache) as caught:
        find(cache)

    assert caught.value.msg == f'failed to get network "net" cached result: could not read "{path}"'
    assert caught.value.reason
    assert caught.value.code == 6


@pytest.mark.parametrize("case", MISUNDERSTOOD)
def test_a_result_that_cannot_be_understood_is_named(case: str, cache: Cache):
    path = damage(cache, MISUNDERSTOOD[case])
    found = find(cache)
    assert found is not None
    with pytest.raises(DamagedCache, match=str(path)):
        found.get_result()


def test_damaged_and_foreign_files_do_not_hide_the_others(cache: Cache):
    for name, content in DAMAGED.items():
        damage(cache, content, f"net-{name}-eth0")
    (Path(cache.directory) / "net-directory-eth0").mkdir()
    cache.save(NETWORK, ATTACHMENT, RESULT)

    assert [known.attachment.container_id for known in cache.attachments("net")] == ["c1"]


BAD_NAMES: dict[str, tuple[str, dict[str, str], type[CNIError]]] = {
    "network-that-climbs": ("../x", {}, InvalidConfiguration),
    "network-empty": ("", {}, InvalidConfiguration),
    "container-that-climbs": ("net", {"container_id": "../../x"}, InvalidEnvironment),
    "interface-that-climbs": ("net", {"ifname": "../x"}, InvalidEnvironment),
    "interface-empty": ("net", {"ifname": ""}, InvalidEnvironment),
}


@pytest.mark.parametrize("case", BAD_NAMES)
def test_a_bad_name_does_not_become_a_path(case: str, cache: Cache):
    network, key, error = BAD_NAMES[case]
    with pytest.raises(error):
        find(cache, network, **key)


def test_a_cache_that_cannot_be_written_is_an_error(tmp_path: Path):
    (tmp_path / "results").write_text("a file")
    cache = Cache(str(tmp_path))

    with pytest.raises(IOFailure, match="could not create the directory"):
        cache.save(NETWORK, ATTACHMENT, RESULT)
    assert list(cache.attachments()) == []
