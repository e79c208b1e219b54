"""The command: what to do, and where the results go."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from measuring import facts, page, places, stages, table
from measuring.catalogue import WORKLOADS
from measuring.places import ROOT, Unavailable
from measuring.samples import Results

RESULTS = ROOT / "docs" / "benchmarks" / "results.json"
ABOUT = """\
Compare plexus, with and without its daemon, with the reference plugins and with Multus, thin and thick: on this
machine, in turns, in namespaces of their own. Root is needed, and an environment with what the tests need. What
Kubernetes, the reference plugins and Multus consist of is built once, which takes Go and some minutes. Without
letters, everything is done.
"""


def main() -> None:
    """Be the command."""
    options = _parser().parse_args()
    if options.inside:
        stages.inside()
        return
    if options.render:
        _render(_load(options.results), options)
        return
    if os.geteuid() != 0:
        sys.exit("bench/run needs root, for namespaces")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench/run: stopped"))  # and everything is tidied up
    try:
        results = _run(options)
    except Unavailable as error:
        sys.exit(f"bench/run: {error}")
    if options.page:
        _render(results, options)


def _parser() -> argparse.ArgumentParser:
    letters = "\n".join(f"  {letter}  {workload.title}" for letter, workload in WORKLOADS.items())
    parser = argparse.ArgumentParser(
        prog="bench/run",
        description=ABOUT,
        epilog=f"workloads:\n{letters}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("letters", metavar="LETTER", nargs="*", help="which workloads to do (default all)")
    parser.add_argument("--quick", action="store_true", help="few rounds, and small bursts")
    parser.add_argument("--commit", metavar="COMMIT", default="", help="compare what was committed, not what is here")
    parser.add_argument("--keep", action="store_true", help="keep the results of the workloads that are not done")
    parser.add_argument("--page", action="store_true", help="write docs/benchmarks.md and its plots, too")
    parser.add_argument("--render", action="store_true", help="only write these, from the results that are there")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, metavar="FILE", help="where results go (default %(default)s)"
    )
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser


def _run(options: argparse.Namespace) -> Results:
    letters, path, quick = options.letters or list(WORKLOADS), options.results, options.quick
    if unknown := sorted(set(letters) - set(WORKLOADS)):
        sys.exit(f"bench/run: there is no workload {', '.join(unknown)}, only {', '.join(WORKLOADS)}")
    results = Results(facts.gather())
    older = _load(path) if options.keep and path.exists() else results
    with tempfile.TemporaryDirectory(prefix="plexus-bench") as directory:
        found = places.prepare(Path(directory), options.commit)
        for letter in letters:
            print(f"({letter}) {WORKLOADS[letter].title}", file=sys.stderr, flush=True)  # noqa: T201
            results.about["workloads"][letter] = facts.begin(options.commit, quick=quick)
            samples = stages.run(letter, found, quick=quick)
            results = replace(results, samples=(*results.samples, *samples))
            print("\n".join(table.of(results, letter)), flush=True)  # noqa: T201
            _save(older.replaced_by(results), path)
    return older.replaced_by(results)


def _save(results: Results, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(results.to_json())


def _load(path: Path) -> Results:
    return Results.from_json(path.read_text())


def _render(results: Results, options: argparse.Namespace) -> None:
    directory = options.results.parent
    (directory.parent / "benchmarks.md").write_text(page.render(results))
    for name, plot in page.plots(results).items():
        (directory / name).write_text(plot)
