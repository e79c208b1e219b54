"""CNI_ARGS, the list of `KEY=VALUE` pairs that a runtime adds to a request (section 2)."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from cni.spec.errors import InvalidEnvironment

LONGEST = 64 * 1024
"""Characters; the kernel takes twice as many for one variable of an executed plugin."""
TRUE = ("1", "true", "True", "TRUE")
FALSE = ("0", "false", "False", "FALSE", "")


def parse(text: str) -> dict[str, str]:
    """Return the pairs of `text`, in its order; a key that comes twice keeps its last value.

    Raises InvalidEnvironment.
    """
    if len(text) > LONGEST:
        reason = f"CNI_ARGS has {len(text)} characters, and {LONGEST} are the most"
        raise InvalidEnvironment("ARGS: too long", reason, id="PLX-TOO-LARGE")
    pairs = {}
    for pair in text.split(";") if text else []:
        key, equals, value = pair.partition("=")
        if not equals or "=" in value:
            raise InvalidEnvironment(f'ARGS: invalid pair "{pair}"', "CNI_ARGS is a list of KEY=VALUE, joined by ;")
        pairs[key] = value
    return pairs


def known(text: str, names: Collection[str]) -> dict[str, str]:
    """Return the pairs whose key is one of `names`; others are refused unless IgnoreUnknown is true.

    Raises InvalidEnvironment.
    """
    pairs = parse(text)
    ignore = ignores_unknown(pairs)
    unknown = [f'"{key}={value}"' for key, value in pairs.items() if key not in names and key != "IgnoreUnknown"]
    if unknown and not ignore:
        raise InvalidEnvironment(f"ARGS: unknown args [{' '.join(unknown)}]", "IgnoreUnknown=1 allows them")
    return {key: value for key, value in pairs.items() if key in names}


def ignores_unknown(pairs: Mapping[str, str]) -> bool:
    """Read IgnoreUnknown. Raises InvalidEnvironment."""
    value = pairs.get("IgnoreUnknown", "")
    if value not in TRUE + FALSE:
        raise InvalidEnvironment(
            f'ARGS: error parsing value of pair "IgnoreUnknown={value}": boolean unmarshal error: invalid input {value}'
        )
    return value in TRUE


def join(pairs: Mapping[str, str]) -> str:
    """The text of `pairs`, as CNI_ARGS holds it."""
    return ";".join(f"{key}={value}" for key, value in pairs.items())
