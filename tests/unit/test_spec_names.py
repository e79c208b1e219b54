"""Names that the specification restricts."""

from collections.abc import Callable

import pytest

from cni.spec import names
from cni.spec.errors import CNIError, InvalidConfiguration, InvalidEnvironment, UnknownContainer

GOOD = ["a", "0", "A.b_c-d", "x" * 300, "a..b", "a--"]
BAD = ["-a", ".a", "_a", "a/b", "a b", "a\n", "a:b", "é", "a\0", "a\ud800", "..", "a%b", "\u0661"]


@pytest.mark.parametrize("validate", [names.validate_container_id, names.validate_network_name])
@pytest.mark.parametrize("name", GOOD)
def test_letters_digits_and_a_little_more_make_a_name(validate: Callable[[str], None], name: str):
    validate(name)


@pytest.mark.parametrize("name", BAD)
def test_anything_else_in_a_container_id_is_an_invalid_environment(name: str):
    with pytest.raises(InvalidEnvironment) as caught:
        names.validate_container_id(name)
    assert (caught.value.msg, caught.value.details) == ("invalid characters in containerID", name)


@pytest.mark.parametrize("name", BAD)
def test_anything_else_in_a_network_name_is_an_invalid_configuration(name: str):
    with pytest.raises(InvalidConfiguration) as caught:
        names.validate_network_name(name)
    assert (caught.value.msg, caught.value.details) == ("invalid characters found in network name", name)


def test_names_must_be_there():
    with pytest.raises(UnknownContainer, match="missing containerID"):
        names.validate_container_id("")
    with pytest.raises(InvalidConfiguration, match="missing network name"):
        names.validate_network_name("")


@pytest.mark.parametrize("name", ["eth0", "123456789012345", "é" * 7, "-", "a.b", "net1@x", "..."])
def test_an_ifname_is_what_linux_takes(name: str):
    names.validate_ifname(name)


@pytest.mark.parametrize(
    ("name", "msg"),
    [
        ("", "interface name is empty"),
        ("1234567890123456", "interface name is too long"),
        ("é" * 8, "interface name is too long"),
        (".", "interface name is . or .."),
        ("..", "interface name is . or .."),
        ("net%d", "interface name contains %"),
        ("%", "interface name contains %"),
        *(
            (f"a{character}b", "interface name contains / or : or whitespace characters")
            for character in "/: \t\n\v\f\r\xa0\u2003\u3000\0"
        ),
    ],
)
def test_another_ifname_is_an_invalid_environment_in_the_references_words(name: str, msg: str):
    with pytest.raises(CNIError) as caught:
        names.validate_ifname(name)
    assert (caught.value.code, caught.value.msg) == (4, msg)


def test_an_ifname_of_bytes_that_are_no_text_is_measured_in_bytes():
    names.validate_ifname("\udcff" * 15)
    with pytest.raises(InvalidEnvironment):
        names.validate_ifname("\udcff" * 16)
