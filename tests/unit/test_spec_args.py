"""CNI_ARGS."""

import pytest

from cni.spec import args
from cni.spec.errors import InvalidEnvironment

KUBELET = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=virt-launcher-vm;K8S_POD_INFRA_CONTAINER_ID=c1"


def refused(text: str, *known: str) -> str:
    with pytest.raises(InvalidEnvironment) as caught:
        args.known(text, known)
    return caught.value.msg


def test_pairs_are_read_in_order_and_written_back():
    assert list(args.parse(KUBELET)) == [
        "IgnoreUnknown",
        "K8S_POD_NAMESPACE",
        "K8S_POD_NAME",
        "K8S_POD_INFRA_CONTAINER_ID",
    ]
    assert args.join(args.parse(KUBELET)) == KUBELET


@pytest.mark.parametrize(("text", "pairs"), [("", {}), ("A=", {"A": ""}), ("A=1;A=2", {"A": "2"}), ("=x", {"": "x"})])
def test_odd_lists_are_read_as_the_reference_reads_them(text: str, pairs: dict[str, str]):
    assert args.parse(text) == pairs


@pytest.mark.parametrize(("text", "pair"), [("A", "A"), ("A=1;", ""), ("A=1=2", "A=1=2"), (";", ""), ("A=1;;B=2", "")])
def test_what_is_no_pair_is_named(text: str, pair: str):
    assert refused(text) == f'ARGS: invalid pair "{pair}"'


def test_unknown_keys_are_all_named():
    assert refused("A=1;IP=10.0.0.1;B=2", "IP") == 'ARGS: unknown args ["A=1" "B=2"]'


@pytest.mark.parametrize("yes", ["1", "true", "True", "TRUE"])
def test_unknown_keys_are_left_out_where_that_is_asked_for(yes: str):
    assert args.known(f"A=1;IP=10.0.0.1;IgnoreUnknown={yes}", ("IP",)) == {"IP": "10.0.0.1"}


@pytest.mark.parametrize("no", ["0", "false", "False", "FALSE", ""])
def test_ignore_unknown_may_say_no(no: str):
    assert "unknown args" in refused(f"A=1;IgnoreUnknown={no}")


def test_keys_are_told_apart_by_case():
    assert refused("ip=10.0.0.1;ignoreunknown=1", "IP") == 'ARGS: unknown args ["ip=10.0.0.1" "ignoreunknown=1"]'


def test_ignore_unknown_must_be_a_boolean():
    assert refused("IgnoreUnknown=yes") == (
        'ARGS: error parsing value of pair "IgnoreUnknown=yes": boolean unmarshal error: invalid input yes'
    )
