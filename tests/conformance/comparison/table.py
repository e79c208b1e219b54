"""The table of cases as values: read from cases/*.yaml, and from the vectors that other tests use too."""

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from . import from_vectors
from .columns import OURS, REFERENCES
from .stage import SANDBOX

FOLDER = Path(__file__).parent / "cases"
GENERAL, LEFT_OUT = "general.yaml", "left_out.yaml"
VERBS = ("ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION")
WHO = {"reference": REFERENCES, OURS: (OURS,)} | {name: (name,) for name in REFERENCES}
NO_CNITOOL = "Debian's package has no cnitool"
NO_NEW_VERBS = "speaks CNI up to 1.0.0"


@dataclass(frozen=True, kw_only=True)
class Step:
    """A call of a plugin or of the runtime's command, or something done by hand."""

    label: str
    """How differences name it: the verb, with a number from the second of its kind on."""

    do: str
    """A verb of the protocol; a command of cnitool; `run` or `write` by hand."""

    what: Mapping[str, Any]
    """All else that is written about it."""

    expect: Mapping[str, Any] | None
    """What must come of it; None where nobody answers."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What some of them do otherwise than expected, and why that is so."""

    who: tuple[str, ...]
    why: str
    defect: bool
    """Whether it is wrong; else it is only another way, or said in other words."""

    found: Mapping[str, Any]
    """What is found instead, by path."""

    by_chance: bool = False
    """Whether it is there only sometimes."""


@dataclass(frozen=True, kw_only=True)
class General:
    """A difference that is there wherever there is something to see it by."""

    name: str
    who: tuple[str, ...]
    at: str
    """A pattern of paths, as a shell has them."""

    found: str
    """A regular expression for what is found instead, as text."""

    why: str
    seen_in: str
    """A case that shows it."""

    plugin: str = ""
    """The only plugin that has it."""

    sometimes: bool = False
    """Whether it depends on the machine."""

    def covers(self, case: "Case", who: str, path: str, value: Any) -> bool:
        """Whether this is it."""
        if who not in self.who or self.plugin not in ("", case.plugin):
            return False
        return fnmatchcase(path, self.at) and re.fullmatch(self.found, str(value)) is not None


@dataclass(frozen=True)
class LeftOut:
    """Rows of the inventory that are no case, or a defect that no case shows."""

    rows: tuple[str, ...]
    what: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Case:
    """What happens, what must come of it, and who does otherwise."""

    id: str
    group: str
    title: str
    plugin: str = ""
    conf: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    differences: tuple[Difference, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    """What is in the case's directory from the beginning."""

    plugins: Mapping[str, Any] = field(default_factory=dict)
    """Fake plugins beside the real ones: what they answer, by verb."""

    without: Mapping[str, str] = field(default_factory=dict)
    """Who cannot be asked, and why."""

    needs: tuple[str, ...] = ()
    """Programs that the machine must have."""

    executed: bool = False
    """Whether our executables are asked too, and must do exactly as ours in process."""

    also: tuple[str, ...] = ()
    """Further rows of the inventory that it stands for."""

    @property
    def rows(self) -> set[str]:
        """The rows of the inventory that it stands for: first its id without what tells it from its like."""
        match = re.match(r"[A-Z]+\d+", self.id)
        return {*([match[0]] if match else []), *self.also}

    @property
    def sandboxes(self) -> tuple[str, ...]:
        """The namespaces it needs beside the host's."""
        if not self.plugin and not any(step.what.get("in") for step in self.steps):
            return ()
        if self.plugin in ("host-local", "static"):
            return ()
        used = (role for step in self.steps for role in (step.what.get("in"), step.what.get("sandbox")))
        return tuple(sorted({SANDBOX, *(role for role in used if role and role != "host")}))

    def listed(self, who: str) -> dict[str, Any]:
        """What is known of `who`: what is found instead of the expected, by path."""
        return {path: value for entry in self.differences if who in entry.who for path, value in entry.found.items()}

    def passed_by(self, who: str) -> bool | None:
        """Whether it does what is expected, or None where it is not asked."""
        if who in self.without:
            return None
        return not any(entry.defect for entry in self.differences if who in entry.who)


@functools.cache
def cases() -> dict[str, Case]:
    """All cases by their id."""
    found = [
        _case(path.stem, data)
        for path in sorted(FOLDER.glob("*.yaml"))
        if path.name not in (GENERAL, LEFT_OUT)
        for data in from_vectors.completed(path.stem, yaml.safe_load(path.read_text()) or [])
    ]
    assert len({case.id for case in found}) == len(found), "two cases of one id"
    return {case.id: case for case in found}


@functools.cache
def general() -> tuple[General, ...]:
    """The differences that are no single case's."""
    return tuple(
        General(
            **data | {"who": WHO[data["who"]], "found": str(data.get("found", "(?s).*")), "why": _told(data["why"])}
        )
        for data in yaml.safe_load((FOLDER / GENERAL).read_text())
    )


@functools.cache
def inventory() -> tuple[str, ...]:
    """The rows that were collected of what the reference does, of which each is a case or left out."""
    rows: str = _left_out()["rows"]
    return tuple(rows.split())


@functools.cache
def left_out() -> tuple[LeftOut, ...]:
    """What is no case here."""
    return tuple(
        LeftOut(tuple(data.get("rows", "").split()), data.get("what", ""), _told(data["why"]))
        for data in _left_out()["left_out"]
    )


@functools.cache
def _left_out() -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load((FOLDER / LEFT_OUT).read_text())
    return data


def _case(group: str, data: Mapping[str, Any]) -> Case:
    given = dict(data)
    steps = tuple(_steps(given.pop("steps")))
    differences = tuple(_difference(entry) for entry in given.pop("differences", ()))
    without = _without(given, steps) | given.pop("without", {})
    given.pop("since", None)
    given |= {key: tuple(given.get(key, ())) for key in ("needs", "also")}
    return Case(group=group, steps=steps, differences=differences, without=without, **given)


def _steps(written: list[Any]) -> Iterator[Step]:
    seen: dict[str, int] = {}
    for entry in written:
        what = {"do": entry} if isinstance(entry, str) else dict(entry)
        do = what.pop("do", None) or ("write" if "write" in what else "run")
        seen[do] = seen.get(do, 0) + 1
        label = do if seen[do] == 1 else f"{do}#{seen[do]}"
        answered = do not in ("run", "write")
        yield Step(label=label, do=do, what=what, expect=_expected(what.pop("expect", {})) if answered else None)


def _expected(written: Mapping[str, Any]) -> dict[str, Any]:
    """What is written, and that a call succeeds unless an error is expected."""
    if "msg" in written or "rc" in written:
        return {"rc": 1} | dict(written)
    return {"rc": 0, "code": None, "msg": None} | dict(written)


def _difference(data: Mapping[str, Any]) -> Difference:
    return Difference(
        who=WHO[data["who"]],
        why=_told(data["why"]),
        defect=data.get("defect", False),
        by_chance=data.get("by_chance", False),
        found=data["found"],
    )


def _told(text: str) -> str:
    """The text in one line."""
    return " ".join(text.split())


def _without(data: Mapping[str, Any], steps: tuple[Step, ...]) -> dict[str, str]:
    """Who lacks what the case is about."""
    if any(step.expect is not None and step.do not in VERBS for step in steps):
        return {REFERENCES[0]: NO_CNITOOL}
    if data.get("since") == "1.1.0" or any(step.do in ("GC", "STATUS") for step in steps):
        return {REFERENCES[0]: NO_NEW_VERBS}
    return {}
