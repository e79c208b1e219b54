"""Find what is otherwise than expected, or otherwise than in the reference, and strike out what the table lists."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from . import table
from .columns import OURS
from .reference import NEW
from .table import Case

Found = Mapping[str, Any]
"""What came of each step, by label."""


@dataclass(frozen=True)
class Deviation:
    """One value that is not as it should be."""

    who: str
    path: str
    expected: Any
    found: Any

    def __str__(self) -> str:
        return f"{self.who}: {self.path}: expected {_shown(self.expected)}, found {_shown(self.found)}"


def complaints(case: Case, found: Mapping[str, Found]) -> list[str]:
    """What the table does not say of what each of them did, and what it says that is not so."""
    unexplained = [str(deviation) for deviation in unlisted(case, found)]
    return [*unexplained, *(line for who in found for line in _untrue(case, who, found))]


def unlisted(case: Case, found: Mapping[str, Found]) -> list[Deviation]:
    """The deviations that neither the case nor the general differences explain."""
    alone = [deviation for who in found for deviation in against_expected(case, who, found[who])]
    unexplained = [deviation for deviation in alone if not _is_known(case, (deviation.who,), deviation, found)]
    pairs = [deviation for deviation in against_reference(found) if not _is_known(case, (OURS, NEW), deviation, found)]
    told = {deviation.path for deviation in unexplained}
    return unexplained + [deviation for deviation in pairs if deviation.path not in told]


def general_in(case: Case, found: Mapping[str, Found]) -> set[str]:
    """The names of the general differences that are seen here."""
    alone = [deviation for who in found for deviation in against_expected(case, who, found[who])]
    return {
        entry.name
        for deviation in alone + against_reference(found)
        for who in (deviation.who, NEW)
        for entry in table.general()
        if who in found and entry.covers(case, who, deviation.path, value_at(found[who], deviation.path))
    }


def against_expected(case: Case, who: str, found: Found) -> list[Deviation]:
    """Where a column is not as the case wants it."""
    return [
        Deviation(who, path, expected, value)
        for step in case.steps
        if step.expect is not None
        for path, expected, value in _beside(step.expect, found[step.label], step.label, whole=False)
    ]


def against_reference(found: Mapping[str, Found]) -> list[Deviation]:
    """Where ours is not as the newest reference, in all that can be seen; nothing where that is not at hand."""
    if OURS not in found or NEW not in found:
        return []
    everything = _beside(found[NEW], found[OURS], "", whole=True)
    return [Deviation(OURS, path, theirs, ours) for path, theirs, ours in everything]


def same(one: Found, other: Found) -> list[str]:
    """Where two are not exactly alike."""
    return [f"{path}: {a!r} is not {b!r}" for path, a, b in _beside(one, other, "", whole=True)]


def value_at(found: Any, path: str) -> Any:
    """The value at a path; None where there is none. Keys may have dots in them."""
    if not path:
        return found
    if isinstance(found, list):
        head, _, rest = path.partition(".")
        return value_at(found[int(head)], rest) if head.isdigit() and int(head) < len(found) else None
    if not isinstance(found, Mapping):
        return None
    keys = [key for key in found if path == key or path.startswith(f"{key}.")]
    return value_at(found[max(keys, key=len)], path[len(max(keys, key=len)) + 1 :]) if keys else None


def _beside(expected: Any, found: Any, path: str, *, whole: bool) -> Iterator[tuple[str, Any, Any]]:
    """Each place in which the two are different; unless `whole`, what is not expected may be anything."""
    if isinstance(expected, Mapping) and found is None and not whole:
        found = {}
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        keys = [*expected, *(key for key in found if key not in expected)] if whole else list(expected)
        for key in keys:
            yield from _beside(expected.get(key), found.get(key), f"{path}.{key}".lstrip("."), whole=whole)
        if whole and ".result" in path and _order(expected, found) != _order(found, expected):
            yield f"{path}.(order of keys)", _order(expected, found), _order(found, expected)
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for index, (one, other) in enumerate(zip(expected, found, strict=True)):
            yield from _beside(one, other, f"{path}.{index}", whole=whole)
    elif not _fits(expected, found, whole=whole):
        yield path, expected, found


def _order(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The keys that both have, in the order of one."""
    return [key for key in one if key in other]


def _fits(expected: Any, found: Any, *, whole: bool) -> bool:
    """Whether it is what is expected; in the table, "^" is anything that is there, and "^…" a regular expression."""
    if not whole and expected == "^":
        return found is not None
    if not whole and isinstance(expected, str) and expected.startswith("^"):
        return isinstance(found, str) and re.fullmatch(expected[1:], found, re.DOTALL) is not None
    return bool(expected == found)


def _is_known(case: Case, whose: Iterable[str], deviation: Deviation, found: Mapping[str, Found]) -> bool:
    for who in whose:
        if any(_is_within(deviation.path, path) for path in case.listed(who)):
            return True
        value = value_at(found[who], deviation.path)
        if any(entry.covers(case, who, deviation.path, value) for entry in table.general()):
            return True
    return False


def _untrue(case: Case, who: str, found: Mapping[str, Found]) -> Iterator[str]:
    """What is listed of a column and is not, or is no longer, so."""
    compared = against_expected(case, who, found[who])
    if who in (OURS, NEW):
        compared += against_reference(found)
    for entry in case.differences:
        # Of the older reference only what is expected is known, not all else that the newest shows.
        complete = NEW in found and (who in (OURS, NEW) or entry.who == (who,)) and not entry.by_chance
        for path, value in entry.found.items() if who in entry.who else ():
            actual = value_at(found[who], path)
            if list(_beside(value, actual, path, whole=False)):
                yield f"{who}: {path}: {_shown(value)} is listed, found {_shown(actual)}"
            elif complete and not any(_is_within(deviation.path, path) for deviation in compared):
                yield f"{who}: {path}: is listed, and is no difference (any more)"


def _is_within(path: str, listed: str) -> bool:
    return path == listed or path.startswith(f"{listed}.")


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
