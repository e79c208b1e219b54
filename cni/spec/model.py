"""The one way that outside data becomes typed values: frozen pydantic models with forgiving keys and strict values.

As in Go's decoder, keys match in any case, unknown keys are left alone, and null leaves the default; but a value of
the wrong type is an error that names its JSON path.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import pydantic
from pydantic.alias_generators import to_camel

from cni.spec.document import kind
from cni.spec.errors import InvalidConfiguration

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPInterface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
KINDS = {"model_type": "an object", "dict_type": "an object", "tuple_type": "a list", "list_type": "a list"}
"""What JSON calls what pydantic wants, by the type of its error."""
T = TypeVar("T")
M = TypeVar("M", bound="Model")


class InvalidAddress(ValueError):
    """A text is no address, or no network, in the words of the reference plugins."""


def parse_address(text: str) -> IPAddress:
    """An address without a prefix length. Raises InvalidAddress."""
    try:
        if "%" not in text:
            return ipaddress.ip_address(text)
    except ValueError:
        pass
    raise InvalidAddress(f"invalid IP address: {text}")


def parse_cidr(text: str) -> IPInterface:
    """An address with a prefix length; host bits are kept. Raises InvalidAddress."""
    address, slash, length = text.partition("/")
    try:
        if slash and length.isascii() and length.isdigit() and "%" not in address:
            return ipaddress.ip_interface(text)
    except ValueError:
        pass
    raise InvalidAddress(f"invalid CIDR address: {text}")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be a string, not {kind(value)}")
    return value


def _address(value: Any) -> IPAddress:
    return value if isinstance(value, IPAddress) else parse_address(_text(value))


def _cidr(value: Any) -> IPInterface:
    return value if isinstance(value, IPInterface) else parse_cidr(_text(value))


Address = Annotated[IPAddress, pydantic.PlainValidator(_address)]
CIDR = Annotated[IPInterface, pydantic.PlainValidator(_cidr)]
Many = Annotated[tuple[T, ...], pydantic.Strict(False)]
"""A JSON list, as a tuple."""


class Model(pydantic.BaseModel):
    """Base of everything read from JSON: keys in camelCase unless a field says otherwise."""

    model_config = pydantic.ConfigDict(
        frozen=True,
        strict=True,
        extra="ignore",
        alias_generator=to_camel,
        populate_by_name=True,
        arbitrary_types_allowed=True,
    )

    @pydantic.model_validator(mode="before")
    @classmethod
    def _fold_keys(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        aliases = _aliases(cls)
        folded = {}
        for key, value in data.items():
            name = aliases.get(key.lower()) or (key if key in cls.model_fields else None)
            if name is not None and value is not None:
                folded[name] = value
        return folded


@functools.cache
def _aliases(model: type[Model]) -> Mapping[str, str]:
    """The key of each field, by that key in small letters."""
    return {(field.alias or name).lower(): field.alias or name for name, field in model.model_fields.items()}


class InvalidField(InvalidConfiguration):
    """One value of a configuration is wrong: `path` is where, `problem` is what."""

    def __init__(self, what: str, path: str, problem: str) -> None:
        super().__init__(f"could not read {what}", f"{path}: {problem}" if path else problem, id="PLX-CONF")
        self.path = path
        self.problem = problem


def parse(model: type[M], data: Mapping[str, Any], what: str) -> M:
    """Read `data` as a `model`.

    Raises InvalidField, naming the first value that is wrong and its path in `what`; its cause is the ValueError of
    whoever refused the value, for example an InvalidAddress.
    """
    try:
        return model.model_validate(data)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        cause = first.get("ctx", {}).get("error", error)
        raise InvalidField(what, _path(first["loc"]), _problem(first)) from cause
    except UnicodeEncodeError as error:  # JSON can write one half of a pair, which is no character
        half = ascii(error.object[error.start : error.end]).strip("'")
        raise InvalidField(what, "", f"a text in it has {half}, which is no character: leave it out") from error


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.lstrip(".")


def _problem(error: Any) -> str:
    if error["type"] in ("value_error", "assertion_error"):
        return str(error["msg"]).split(", ", 1)[-1]
    if error["type"] == "missing":
        return "is missing"
    if error["type"] in KINDS:
        return f"must be {KINDS[error['type']]}, not {_shown(error['input'])}"
    message = (
        str(error["msg"])
        .removeprefix("Input ")
        .replace("should be", "must be")
        .replace("valid ", "")
        .replace("a i", "an i")
    )
    return f"{message}, not {_shown(error['input'])}"


def _shown(value: Any) -> str:
    if value is None:
        return kind(value)
    text = repr(value)
    return text if len(text) <= 60 else kind(value)
