"""Run the comparison by hand: `python -m tests.conformance.comparison [CASE…]` prints what the table does not explain.

With `--write` it writes docs/conformance.md afterwards, unless there is something that the table does not explain.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parent
sys.path[:0] = [str(FOLDER.parents[2]), str(FOLDER.parents[1]), str(FOLDER.parent)]

from comparison import columns, document, judge, table  # noqa: E402 - only now can it be found
from comparison.play import play_all  # noqa: E402


def main() -> int:
    """Run the cases; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.comparison", description=__doc__)
    parser.add_argument("case", nargs="*", help="ids, or how they begin (default: all)")
    parser.add_argument("--write", action="store_true", help="write docs/conformance.md")
    parser.add_argument("--show", action="store_true", help="print all that was seen")
    options = parser.parse_args()
    complaints = 0
    with tempfile.TemporaryDirectory() as directory:
        present = columns.present(Path(directory))
        for case in table.cases().values():
            if not options.case or case.id.startswith(tuple(options.case)):
                complaints += _run(case, present, Path(directory), show=options.show)
        for column in present.values():
            column.close()
    if options.write and not complaints:
        document.PATH.write_text(document.render())
    return 1 if complaints else 0


def _run(case: table.Case, present: dict[str, columns.Column], directory: Path, *, show: bool) -> int:
    """Print what is wrong with a case; how much."""
    found = play_all(case, present, directory)
    again = [found.pop(who) for who in columns.AGAIN if who in found]
    if show:
        print(json.dumps(found, indent=1, ensure_ascii=False))
    wrong = judge.complaints(case, found)
    wrong += [line for seen in again for line in judge.same(found[columns.OURS], seen)]
    for line in wrong:
        print(f"{case.id}: {line}")
    print(_proposal(judge.unlisted(case, found)), end="")
    return len(wrong)


def _proposal(unlisted: list[judge.Deviation]) -> str:
    """What to write into the table if the deviations are as they should be; the reason is the writer's."""
    by_column: dict[str, dict[str, Any]] = {}
    for deviation in unlisted:
        by_column.setdefault(deviation.who, {})[deviation.path] = deviation.found
    entries = [{"who": who, "why": "?", "found": found} for who, found in by_column.items()]
    return yaml.safe_dump({"differences": entries}, sort_keys=False, width=200) if entries else ""


if __name__ == "__main__":
    sys.exit(main())
