"""JSON objects that we read a little of and pass on whole.

A network configuration belongs to whoever wrote it: we keep the raw mapping, look single keys up in it, and derive new
ones. Keys match whatever their case, and of two that differ only in case the last counts, as in the Go decoder that
all other CNI programs use.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from cni.spec.errors import DecodingFailure

Document = Mapping[str, Any]


def decode(text: bytes | str, what: str) -> dict[str, Any]:
    """Parse one JSON object; `null` is the empty one. Raises DecodingFailure, which says where `what` is broken."""
    value = decode_any(text, what)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise DecodingFailure(f"could not decode {what}", f"it must be a JSON object, not {kind(value)}")
    return value


def decode_any(text: bytes | str, what: str) -> Any:
    """Parse any JSON value. Raises DecodingFailure, which says where `what` is broken."""
    try:
        source = text.decode() if isinstance(text, bytes) else text
        return json.loads(source, parse_constant=_refuse)
    except UnicodeDecodeError as error:
        raise DecodingFailure(f"could not decode {what}", f"byte {error.start} is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise DecodingFailure(f"could not decode {what}", _where(error)) from error
    except RecursionError as error:
        raise DecodingFailure(f"could not decode {what}", "it is nested too deeply") from error
    except ValueError as error:
        raise DecodingFailure(f"could not decode {what}", str(error)) from error


def encode(document: Document) -> bytes:
    """One line with sorted keys, as libcni writes the configuration for each plugin."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(errors="replace")


def dump(value: Any) -> str:
    """One line of JSON, keys in their own order."""
    return json.dumps(value, ensure_ascii=False)


def lookup(document: Document, key: str) -> Any:
    """The value of `key` in any case; None when it is absent or null."""
    found = document.get(key)
    if len(document) > 1 or found is None:
        folded, length = key.casefold(), len(key)
        for name, value in document.items():
            # The length first: most keys differ in it, and none that differs is the same to Go, which folds single
            # characters: the long s and the sign for kelvin are letters to it.
            if len(name) == length and value is not None and name.casefold() == folded:
                found = value
    return found


def derive(document: Document, **changes: Any) -> dict[str, Any]:
    """A copy of `document` with these keys set, or left out where the value is None."""
    folded = {key.casefold() for key in changes}
    kept = {key: value for key, value in document.items() if key.casefold() not in folded}
    return kept | {key: value for key, value in changes.items() if value is not None}


def kind(value: Any) -> str:
    """What JSON calls `value`, with its article."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _where(error: json.JSONDecodeError) -> str:
    if not error.doc.strip():
        return "it is empty"
    if error.pos >= len(error.doc.rstrip()):
        return f"it ends too early, at line {error.lineno}, column {error.colno}: {error.msg}"
    near = error.doc[max(error.pos - 20, 0) : error.pos + 20].replace("\n", " ")
    return f"line {error.lineno}, column {error.colno}: {error.msg}, near `{near.strip()}`"


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
