"""Devices of ResourceClaims, from an API server that answers as told; each object is asked for once."""

from __future__ import annotations

import logging
from urllib.parse import quote

import pytest
from api_server import Server, write_kubeconfig
from vectors import cases

from cni.kube.api import ApiServer
from cni.kube.claims import CLAIM, DEVICE_ID, RESOURCE_NAME, SLICES
from cni.kube.connection import Connection
from cni.kube.kubelet import Kubelet
from cni.meta import devices
from cni.meta.networks import Network
from cni.meta.wanted import Wanted
from cni.spec import document, netconf
from cni.spec.errors import CNIError, InvalidConfiguration

ROWS = {name: row for name, row in cases.by_id("multus_devices").items() if "given" in row}
FOUND, REFUSED, TAKEN = (
    [pytest.param(row, id=row["id"]) for row in ROWS.values() if "slices" in row["given"] and kind in row["expected"]]
    for kind in ("devices", "error", "taken")
)
EXTENDED = "extended"


class Cluster:
    """An API server that has one pod, its claims and its node's slices."""

    def __init__(self, given, server, directory):
        self.server = server
        self.directory = directory
        made, named = given.get("claims", {}), given.get("named", {})
        spec = {"nodeName": "node1", "resourceClaims": [{"name": name} for name in made]}
        spec["resourceClaims"] += [{"name": name, "resourceClaimName": name} for name in named]
        statuses = [{"name": name, "resourceClaimName": name} for name in made] + [{"name": "not-needed"}]
        status = {"resourceClaimStatuses": statuses}
        for name, results in (made | named).items():
            self._claim(name, results)
        if extended := given.get("extended"):
            self._claim(EXTENDED, extended["results"])
            mappings = [
                {"containerName": "c", "requestName": request, "resourceName": resource}
                for request, resource in extended["mappings"].items()
            ]
            status["extendedResourceClaimStatus"] = {"resourceClaimName": EXTENDED, "requestMappings": mappings}
        metadata = {"name": "vm", "namespace": "vms", "uid": "u1"}
        pod = {"metadata": metadata, "spec": spec, "status": status}
        server.objects["/api/v1/namespaces/vms/pods/vm"] = pod
        self._slices(given["slices"])
        write_kubeconfig(directory / "kubeconfig", server.url, "good")
        self.api = ApiServer(Connection(str(directory / "kubeconfig")), deadline=20)

    def _claim(self, name, results):
        keys = ("request", "driver", "pool", "device", "adminAccess")
        told = [dict(zip(keys, result, strict=False)) for result in results or ()]
        if results is not None:
            status = {"allocation": {"devices": {"results": told}}} if told else {}
            self.server.objects[CLAIM.format("vms", name)] = {"status": status}

    def _slices(self, slices):
        for driver in {told["driver"] for told in slices} | {"d"}:
            items = [_slice(told) for told in slices if told["driver"] == driver]
            path = SLICES.format(quote(f"spec.nodeName=node1,spec.driver={driver}"))
            self.server.objects[path] = {"items": items}

    def asked(self):
        paths = [path for _, path, *_ in self.server.requests]
        return {
            "claims": sum("/resourceclaims/" in path for path in paths),
            "slices": sum("/resourceslices" in path for path in paths),
        }


def _slice(told):
    names = {"resourceName": RESOURCE_NAME, "deviceID": DEVICE_ID}
    described = [
        {"name": name, "attributes": {names[key]: {"string": value} for key, value in attributes.items()}}
        for name, attributes in told["devices"].items()
    ]
    pool = {"name": told["pool"], "generation": told.get("generation", 1), "resourceSliceCount": 1}
    return {"spec": {"driver": told["driver"], "pool": pool, "nodeName": "node1", "devices": described}}


def _remember(directory, checkpoint):
    path = directory / "device-plugins" / "kubelet_internal_checkpoint"
    path.parent.mkdir()
    path.write_text(document.dump(checkpoint))


@pytest.fixture
def cluster(tmp_path):
    server = Server()
    yield lambda given: Cluster(given, server, tmp_path)
    server.stop()


@pytest.mark.parametrize("row", FOUND)
def test_the_devices_of_claims_are_those_of_the_row(row, cluster):
    made = cluster(row["given"])
    pod = made.api.get_pod("vms", "vm")

    assert made.api.claimed_devices(pod, row["given"]["resources"]) == row["expected"]["devices"]
    assert made.asked() == row["expected"]["asked"]


@pytest.mark.parametrize("row", REFUSED)
def test_claims_that_cannot_be_used_are_told_as_the_row_says(row, cluster):
    made = cluster(row["given"])
    pod = made.api.get_pod("vms", "vm")

    with pytest.raises(CNIError) as caught:
        made.api.claimed_devices(pod, row["given"]["resources"])
    expected = row["expected"]["error"]
    assert expected["text"] in str(caught.value)
    assert (caught.value.code, caught.value.id) == (expected["code"], expected["id"])


@pytest.mark.parametrize("row", TAKEN)
def test_networks_take_the_kubelets_devices_and_then_those_of_claims(row, cluster, tmp_path):
    made = cluster(row["given"])
    _remember(tmp_path, row["given"]["checkpoint"])
    network = Network("vms/sriov", netconf.parse('{"name": "n", "type": "sriov"}'), "intel.com/sriov")
    wanted = [Wanted(network)] * row["given"]["networks"]

    taken = devices.allot(wanted, made.api.get_pod("vms", "vm"), "u1", Kubelet(str(tmp_path)), made.api)

    assert taken == row["expected"]["taken"]
    assert made.asked() == row["expected"]["asked"]


def test_a_device_that_is_for_no_network_is_told_in_the_log(cluster, caplog):
    made = cluster({"claims": {"gpu": [["g", "d", "p", "x"]]}, "slices": []})

    with caplog.at_level(logging.WARNING):
        assert made.api.claimed_devices(made.api.get_pod("vms", "vm"), ["r/one"]) == {}
    assert 'device "x" of driver "d", pool "p" of claim "gpu" is for no network' in caplog.text


def test_claims_that_we_may_not_read_are_told_at_once(cluster):
    made = cluster({"claims": {"nic": None}, "slices": []})
    pod = made.api.get_pod("vms", "vm")
    made.server.answers = [(403, {"message": "resourceclaims.resource.k8s.io is forbidden"})]

    with pytest.raises(InvalidConfiguration, match="is forbidden") as caught:
        made.api.claimed_devices(pod, ["r/one"])
    assert caught.value.id == "PLX-API-REFUSED"


@pytest.mark.parametrize(("resource", "offered"), [("r/one", True), ("r/two", False)])
def test_a_resource_is_claimable_where_a_driver_offers_it_on_the_node(cluster, resource, offered):
    told = {"driver": "d", "pool": "p", "devices": {"x": {}, "y": {"resourceName": "r/one", "deviceID": "1"}}}
    made = cluster({"slices": [told]})
    made.server.objects[SLICES.format(quote("spec.nodeName=node1"))] = {"items": [_slice(told)]}

    assert made.api.is_claimable(made.api.get_pod("vms", "vm"), resource) is offered


def test_no_resource_is_claimable_where_the_api_server_has_no_slices(cluster):
    made = cluster({"slices": []})

    assert made.api.is_claimable(made.api.get_pod("vms", "vm"), "r/one") is False


def test_a_pod_that_has_no_claim_for_a_claimable_device_is_told(cluster, tmp_path):
    told = {"driver": "d", "pool": "p", "devices": {"y": {"resourceName": "r/one", "deviceID": "1"}}}
    made = cluster({"slices": [told]})
    made.server.objects[SLICES.format(quote("spec.nodeName=node1"))] = {"items": [_slice(told)]}
    _remember(tmp_path, {"Data": {}})
    network = Network("vms/sriov", netconf.parse('{"name": "n", "type": "sriov"}'), "r/one")

    with pytest.raises(InvalidConfiguration, match="the pod has none") as caught:
        devices.allot([Wanted(network)], made.api.get_pod("vms", "vm"), "u1", Kubelet(str(tmp_path)), made.api)
    assert caught.value.id == "PLX-DEVICE-MISSING"


def test_a_pod_without_claims_costs_no_request(cluster):
    made = cluster({"slices": []})
    pod = made.api.get_pod("vms", "vm")

    assert made.api.claimed_devices(pod, ["r/one"]) == {}
    assert made.asked() == {"claims": 0, "slices": 0}
