"""host-local as a plugin: its five verbs over a real directory."""

import os
from pathlib import Path
from typing import Any

import pytest

from cni.spec import convert
from cni.spec.errors import (
    CheckFailed,
    CNIError,
    DecodingFailure,
    InvalidConfiguration,
    IOFailure,
    PluginUnavailable,
    TryAgainLater,
)
from cni.spec.request import Request
from ipam import host_local

VERBS = {
    "ADD": host_local.add,
    "DEL": host_local.delete,
    "CHECK": host_local.check,
    "GC": host_local.gc,
    "STATUS": host_local.status,
}

DAMAGES = (os.mkfifo, lambda path: path.symlink_to("/etc/passwd"), lambda path: path.write_bytes(b"\0?"), os.mkdir)


class Network:
    """A network whose leases are in a folder, to call the plugin about."""

    def __init__(self, folder: Path, **ipam: Any) -> None:
        self.folder = folder / "net"
        self.ipam = {"type": "host-local", "subnet": "10.0.0.0/29", "dataDir": str(folder)} | ipam
        self.extra: dict[str, Any] = {}

    def call(self, verb: str, container_id: str = "c1", ifname: str = "eth0", *, args: str = "", **conf: Any) -> Any:
        request = Request(
            command=verb,
            container_id=container_id,
            ifname=ifname,
            args=args,
            conf={"cniVersion": "1.1.0", "name": "net", "ipam": self.ipam} | self.extra | conf,
        )
        return VERBS[verb](request)

    def refused(self, verb: str, container_id: str = "c1", **conf: Any) -> CNIError:
        with pytest.raises(CNIError) as caught:
            self.call(verb, container_id, **conf)
        return caught.value

    def put(self, name: str, content: str = "") -> None:
        self.folder.mkdir(exist_ok=True)
        (self.folder / name).write_bytes(content.encode())

    @property
    def leases(self) -> dict[str, str]:
        names = os.listdir(self.folder) if self.folder.exists() else []
        return {name: (self.folder / name).read_bytes().decode() for name in names if name[0].isdigit()}


@pytest.fixture
def network(tmp_path: Path) -> Network:
    return Network(tmp_path)


class TestAdd:
    def test_the_result_has_addresses_routes_and_name_resolution(self, network: Network, tmp_path: Path):
        (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.1\n")
        network.ipam |= {"routes": [{"dst": "0.0.0.0/0"}], "resolvConf": str(tmp_path / "resolv.conf")}
        result = network.call("ADD")
        assert [str(ip.address) for ip in result.ips] == ["10.0.0.2/29"]
        assert [str(route.dst) for route in result.routes] == ["0.0.0.0/0"]
        assert result.dns.nameservers == ("192.0.2.1",)
        assert result.interfaces == ()

    def test_dual_stack_is_one_address_of_each_family(self, network: Network):
        network.ipam |= {"ranges": [[{"subnet": "2001:db8::/64"}]]}
        assert [str(ip.address) for ip in network.call("ADD").ips] == ["10.0.0.2/29", "2001:db8::2/64"]
        assert network.leases == {"10.0.0.2": "c1\r\neth0", "2001:db8::2": "c1\r\neth0"}

    def test_an_address_whose_reservation_a_crash_left_empty_is_given_again(self, network: Network):
        for number in range(3, 7):
            network.put(f"10.0.0.{number}", f"other{number}\r\neth0")
        network.put("10.0.0.2")
        assert [str(ip.address) for ip in network.call("ADD").ips] == ["10.0.0.2/29"]
        assert network.leases["10.0.0.2"] == "c1\r\neth0"

    def test_an_empty_reservation_may_be_asked_for(self, network: Network):
        network.put("10.0.0.5")
        network.call("ADD", args="IP=10.0.0.5")
        assert network.leases == {"10.0.0.5": "c1\r\neth0"}

    def test_a_configuration_that_is_wrong_touches_nothing(self, network: Network, tmp_path: Path):
        network.ipam["subnet"] = "10.0.0.0/31"
        assert isinstance(network.refused("ADD"), InvalidConfiguration)
        assert list(tmp_path.iterdir()) == []

    def test_a_resolv_conf_that_is_not_there_touches_nothing_and_is_told_as_the_reference_does(self, network: Network):
        network.ipam["resolvConf"] = "/nope"
        error = network.refused("ADD")
        assert isinstance(error, IOFailure)
        assert error.msg == "open /nope: no such file or directory"
        assert error.details == "ipam.resolvConf [PLX-IPAM-RESOLVCONF]"
        assert not network.folder.exists()

    def test_no_lease_is_left_when_the_second_set_is_full(self, network: Network):
        network.ipam |= {"ranges": [[{"subnet": "10.1.0.0/30"}]]}
        network.put("10.1.0.2", "other\r\neth0")
        assert isinstance(network.refused("ADD"), TryAgainLater)
        assert network.leases == {"10.1.0.2": "other\r\neth0"}

    def test_the_same_container_may_have_an_address_for_each_interface(self, network: Network):
        network.call("ADD", ifname="eth0")
        network.call("ADD", ifname="net1")
        assert network.leases == {"10.0.0.2": "c1\r\neth0", "10.0.0.3": "c1\r\nnet1"}

    @pytest.mark.parametrize("value", ["a\0b", "\ud800"])
    @pytest.mark.parametrize("key", ["dataDir", "resolvConf"])
    def test_what_cannot_be_a_path_is_refused(self, network: Network, key: str, value: str):
        network.ipam[key] = value
        error = network.refused("ADD")
        assert isinstance(error, InvalidConfiguration)
        assert error.reason.startswith(f"ipam.{key}: ")


class TestDelete:
    def test_every_address_of_the_attachment_is_free_again(self, network: Network):
        network.ipam |= {"ranges": [[{"subnet": "2001:db8::/64"}]]}
        network.call("ADD")
        network.call("ADD", "c2")
        network.call("DEL")
        assert set(network.leases.values()) == {"c2\r\neth0"}

    def test_deleting_twice_or_what_was_never_added_succeeds_and_makes_nothing(self, network: Network):
        network.call("DEL")
        assert not network.folder.exists()
        network.call("ADD")
        network.call("DEL")
        network.call("DEL")
        assert network.leases == {}

    @pytest.mark.parametrize(
        "ipam",
        [
            {"subnet": "10.99.0.0/24"},
            {"subnet": "nonsense"},
            {"subnet": None},
            {"subnet": 7},
            {"ranges": [[]]},
            {"routes": "?"},
            {"resolvConf": "/nope"},
        ],
    )
    def test_it_succeeds_whatever_the_configuration_has_become(self, network: Network, ipam: dict[str, Any]):
        network.call("ADD")
        network.ipam |= ipam
        network.call("DEL", args="NONSENSE")
        assert network.leases == {}

    def test_a_data_dir_that_cannot_be_read_is_the_one_thing_it_needs(self, network: Network):
        network.ipam["dataDir"] = 5
        assert network.refused("DEL").reason == "ipam.dataDir: must be a string, not a number"

    def test_a_reservation_without_ifname_is_taken_for_the_containers(self, network: Network):
        network.put("10.0.0.4", "c1")
        network.put("10.0.0.5", "c2")
        network.call("DEL")
        assert network.leases == {"10.0.0.5": "c2"}

    def test_a_reservation_without_ifname_stays_while_there_is_one_with_it(self, network: Network):
        network.put("10.0.0.4", "c1")
        network.put("10.0.0.5", "c1\r\neth0")
        network.call("DEL")
        assert network.leases == {"10.0.0.4": "c1"}

    @pytest.mark.parametrize("damage", DAMAGES)
    def test_a_damaged_lease_of_another_stops_nobody_and_is_not_given_out(self, damage: Any, network: Network):
        network.call("ADD")
        damage(network.folder / "10.0.0.3")
        network.call("DEL")
        given = [str(network.call("ADD", container_id=f"x{number}").ips[0].address.ip) for number in range(4)]
        assert sorted(given) == ["10.0.0.2", "10.0.0.4", "10.0.0.5", "10.0.0.6"]
        network.call("GC", **{"cni.dev/valid-attachments": []})
        assert os.path.lexists(network.folder / "10.0.0.3"), "who had it may live"

    @pytest.mark.parametrize("damage", DAMAGES[:3])
    def test_a_lease_of_its_own_that_was_replaced_is_released_by_what_its_add_answered(
        self, damage: Any, network: Network
    ):
        result = network.call("ADD")
        (network.folder / "10.0.0.2").unlink()
        damage(network.folder / "10.0.0.2")
        network.call("DEL", prevResult=convert.encode(result, "1.0.0"))
        assert not os.path.lexists(network.folder / "10.0.0.2")

    @pytest.mark.parametrize("content", ["", "?", "c", "c1\r\ne", "c9\r\neth0", "\0" * 70000])
    def test_a_lease_that_was_written_over_is_neither_given_out_nor_collected_and_goes_with_its_owner(
        self, content: str, network: Network
    ):
        network.call("ADD")
        network.call("ADD", container_id="c2")
        (network.folder / "10.0.0.2").write_bytes(content.encode())
        network.call(
            "GC", **{"cni.dev/valid-attachments": [{"containerID": f"c{n}", "ifname": "eth0"} for n in (1, 2)]}
        )
        for number in range(3):
            network.call("ADD", container_id=f"x{number}")
        assert (network.folder / "10.0.0.2").read_bytes() == content.encode()
        assert isinstance(network.refused("ADD", container_id="late"), TryAgainLater)
        network.call("DEL")
        assert not (network.folder / "10.0.0.2").exists()


class TestCheck:
    def test_it_passes_after_add(self, network: Network):
        network.call("ADD")
        network.call("CHECK")

    def test_it_fails_without_any_lease_and_makes_nothing(self, network: Network):
        error = network.refused("CHECK")
        assert isinstance(error, CheckFailed)
        assert error.msg == "host-local: Failed to find address added by container c1"
        assert not network.folder.exists()

    def test_an_address_of_the_result_that_somebody_else_holds_is_named_with_its_holder(self, network: Network):
        network.ipam |= {"ranges": [[{"subnet": "2001:db8::/64"}]]}
        network.call("ADD")
        network.put("10.0.0.2", "thief\r\nnet1")
        result = {"cniVersion": "1.1.0", "ips": [{"address": "10.0.0.2/29"}, {"address": "2001:db8::2/64"}]}
        error = network.refused("CHECK", prevResult=result)
        assert "10.0.0.2 is held by thief net1" in error.reason
        assert "2001:db8::2" not in error.reason

    def test_addresses_of_the_result_that_are_not_ours_are_left_to_others(self, network: Network):
        network.call("ADD")
        ips = [{"address": "10.0.0.2/29"}, {"address": "172.16.0.9/24"}]
        network.call("CHECK", prevResult={"cniVersion": "1.1.0", "ips": ips})


class TestGC:
    def gc(self, network: Network, *valid: tuple[str, str]) -> None:
        entries = [{"containerID": container_id, "ifname": ifname} for container_id, ifname in valid]
        network.call("GC", **{"cni.dev/valid-attachments": entries})

    def test_only_leases_of_valid_attachments_stay(self, network: Network):
        for container_id, ifname in (("c1", "eth0"), ("c1", "net1"), ("c2", "eth0")):
            network.call("ADD", container_id, ifname)
        self.gc(network, ("c1", "net1"), ("c9", "eth0"))
        assert set(network.leases.values()) == {"c1\r\nnet1"}

    def test_a_reservation_without_ifname_stays_while_its_container_is_valid(self, network: Network):
        network.put("10.0.0.4", "c1")
        network.put("10.0.0.5", "c2")
        self.gc(network, ("c1", "net1"))
        assert network.leases == {"10.0.0.4": "c1"}

    def test_what_a_crash_left_is_swept_up_and_the_notes_stay(self, network: Network):
        network.put("10.0.0.4")
        network.put("last_reserved_ip.0", "10.0.0.4")
        self.gc(network)
        assert sorted(os.listdir(network.folder)) == ["last_reserved_ip.0", "lock"]

    def test_it_needs_no_ranges_and_no_directory(self, network: Network):
        network.ipam = {"dataDir": network.ipam["dataDir"]}
        self.gc(network)
        assert not network.folder.exists()

    def test_other_networks_of_the_directory_are_left_alone(self, network: Network, tmp_path: Path):
        network.call("ADD", name="other")
        self.gc(network)
        assert (tmp_path / "other" / "10.0.0.2").exists()

    @pytest.mark.parametrize(
        "entries", [0, 5, "", "c1", {}, False, [5], [None], {"containerID": "c1"}, [{"containerID": "c1"}]]
    )
    def test_a_list_of_valid_attachments_that_is_none_frees_nothing(self, network: Network, entries: Any):
        network.call("ADD")
        assert isinstance(network.refused("GC", **{"cni.dev/valid-attachments": entries}), DecodingFailure)
        assert network.leases == {"10.0.0.2": "c1\r\neth0"}


class TestStatus:
    def test_it_passes_before_the_first_add_and_makes_nothing(self, network: Network):
        network.call("STATUS")
        assert not network.folder.exists()

    def test_a_full_set_is_unavailable_and_told_with_network_and_range(self, network: Network):
        for number in range(5):
            network.call("STATUS")
            network.call("ADD", f"c{number}")
        error = network.refused("STATUS")
        assert isinstance(error, PluginUnavailable)
        assert error.msg == 'network "net": no IP addresses available in range set: 10.0.0.1-10.0.0.6'
        assert error.details.startswith(f'5 of 5 addresses are in use in "{network.folder}"; ')
        network.call("DEL", "c3")
        network.call("STATUS")

    def test_one_full_set_of_several_is_enough(self, network: Network):
        network.ipam |= {"ranges": [[{"subnet": "10.1.0.0/30"}]]}
        network.call("ADD")
        assert "10.1.0.1-10.1.0.2" in network.refused("STATUS").msg

    def test_what_a_crash_left_counts_as_free(self, network: Network):
        network.ipam["subnet"] = "10.0.0.0/30"
        network.put("10.0.0.2")
        network.call("STATUS")

    def test_a_range_of_2_to_the_96_is_no_work(self, network: Network):
        network.ipam["subnet"] = "2001:db8::/32"
        network.call("STATUS")

    def test_a_configuration_that_add_would_refuse_is_refused(self, network: Network):
        network.ipam["subnet"] = "10.0.0.0/31"
        assert isinstance(network.refused("STATUS"), InvalidConfiguration)
