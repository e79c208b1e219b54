"""Rules as iptables prints them."""

import ipaddress

import pytest

from cni.linux.iptables import Rule

PRINTED = (
    r'-A POSTROUTING -s 10.1.2.2/32 -m comment --comment "name: \"net\" id: \"c1\"" -j CNI-2bbe0c48b91a7d1b8a6753a8'
)


def test_a_rule_is_read_as_iptables_prints_it():
    rule = Rule(PRINTED)

    assert rule.source == ipaddress.ip_network("10.1.2.2/32")
    assert rule.destination is None
    assert (rule.target, rule.comment) == ("CNI-2bbe0c48b91a7d1b8a6753a8", 'name: "net" id: "c1"')


def test_a_rule_is_deleted_by_the_words_it_was_printed_in():
    assert Rule(PRINTED).deletion == PRINTED.replace("-A POSTROUTING", "-D POSTROUTING")


@pytest.mark.parametrize(
    ("line", "destination", "target"),
    [
        ("-A CNI-x -d 10.1.2.0/24 -j ACCEPT", "10.1.2.0/24", "ACCEPT"),
        ("-A CNI-x ! -d ff00::/8 -j MASQUERADE", "ff00::/8", "MASQUERADE"),
        ("-A CNI-x -m comment --comment ours", None, ""),
    ],
)
def test_what_a_rule_does_not_say_it_has_not(line: str, destination: str | None, target: str):
    rule = Rule(line)

    assert rule.destination == (ipaddress.ip_network(destination) if destination else None)
    assert (rule.source, rule.target) == (None, target)
