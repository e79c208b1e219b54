"""The rows about the configuration: what is read of it, what is refused, and what reaches the plugins and the log."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from meta_node import Situation
from vectors import cases

from cni.meta import config, selection
from cni.plugin import log
from cni.plugin.ledger import Ledger, Record
from cni.spec import args, netconf
from cni.spec.errors import CNIError

ROWS = cases.load("multus_conf")


def rows(kind):
    found = [pytest.param(row["given"], row["expected"][kind], id=row["id"]) for row in ROWS if kind in row["expected"]]
    return pytest.mark.parametrize(("given", "expected"), found)


@rows("conf")
def test_a_configuration_is_read_as_the_row_says(given, expected, tmp_path):
    conf = config.parse(Situation(given, tmp_path).request())
    read = {key: getattr(conf, key) for key in expected}
    assert {key: _plain(value) for key, value in read.items()} == expected


@rows("error")
def test_what_is_wrong_is_refused_as_the_row_says(given, expected, tmp_path):
    with pytest.raises(CNIError) as caught:
        Situation(given, tmp_path).plan()

    assert expected["text"] in str(caught.value)
    assert (caught.value.code, caught.value.id) == (expected["code"], expected["id"])


@rows("attachments")
def test_each_network_is_asked_for_what_the_row_says(given, expected, tmp_path):
    entries = Situation(given, tmp_path).plan()
    assert [[entry.network, entry.ifname, entry.runtime_config] for entry in entries] == expected


@rows("args")
def test_the_last_networks_arguments_hold_what_the_pod_asks(given, expected, tmp_path):
    pairs = args.parse(Situation(given, tmp_path).plan()[-1].args)
    assert {key: pairs[key] for key in expected} == expected


@rows("all_args")
def test_the_arguments_for_plugins_are_those_of_the_row(given, expected, tmp_path):
    assert [entry.args for entry in Situation(given, tmp_path).plan()] == [expected]


@rows("default-route")
def test_the_gateways_asked_for_are_those_of_the_row(given, expected, tmp_path):
    text = given["pod"]["networks"]
    read = [chosen.default_route for chosen in selection.parse(text, selection.NETWORKS, "test")]
    assert [None, *(gateways if gateways is None else [str(one) for one in gateways] for gateways in read)] == expected


@rows("stdin")
def test_plugins_read_the_whole_of_their_configuration_at_add_and_after(given, expected, tmp_path):
    entry = Situation(given, tmp_path).plan()[-1]
    assert _stdin(entry) == expected

    ledger = Ledger(str(tmp_path / "containers"))
    ledger.write(Record(container_id="c1", ifname="eth0", netns="/n", entries=(entry,)))

    assert _stdin(ledger.find("c1", "eth0").entries[0]) == expected


@rows("log")
def test_the_log_is_kept_as_the_row_says(given, expected, tmp_path):
    config.parse(Situation(given, tmp_path).request())
    assert asdict(log.read(given["conf"]).backups) == expected


def _plain(value):
    if isinstance(value, frozenset):
        return sorted(value)
    return list(value) if isinstance(value, tuple) else value


def _stdin(entry):
    """What each plugin of the network reads, without what is empty."""
    conf = netconf.parse(entry.conf)
    read = [conf.conf_for(plugin, runtime_config=entry.runtime_config) for plugin in conf.plugins]
    return [{key: value for key, value in plugin.items() if value != ""} for plugin in read]
