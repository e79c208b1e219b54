"""docs/benchmarks.md and its plots, made of the results."""

from __future__ import annotations

from measuring import svg, table
from measuring.catalogue import WORKLOADS
from measuring.goals import GOALS, Found, Goal
from measuring.samples import Results
from measuring.single import SERVED

BUSY = 2.5
"""The load average from which on others have worked, too: a workload makes some load itself."""
PLOTS = {
    "nads.svg": ("c", "ADD", "ADD of a pod, by its NADs", "NADs"),
    "leases.svg": ("d", "ADD+DEL", "host-local ADD and DEL, by the leases there are", "leases"),
    "ports.svg": ("h", "ADD", "ADD of bridge and host-local, by the bridge's ports", "ports of the bridge"),
}
BEGIN = """\
# Benchmarks

Written by `bench/run --page`; do not edit. All who are compared work on one machine in one run, in turns, each
round beginning with another one, so that whatever else the machine does slows all of them. **Ratios are taken
round by round**, ours by the peer's: 0.5 is half the time; told are the median and the quartiles. Times are of
this machine, and no more than a hint. A call is a whole process, from its start to its end, as a runtime sees it.
Processor time is that of ADD and DEL together, with the daemon's share and the plugins that are executed, without
what the kernel does later by itself.

- *ours, daemon* is plexus with `plexus daemon`, *ours, no daemon* the same without
- Multus executes the reference plugins
- all reach the same kube-apiserver by the same account; nobody masquerades but in (b)
"""
HOW = """\
`bench/run --help` tells what can be chosen; `bench/run --quick c` takes a minute or two. All samples are in
[results.json](benchmarks/results.json).
"""


def render(results: Results) -> str:
    """The page."""
    done = [letter for letter in WORKLOADS if results.of(letter)]
    parts = [BEGIN, *_about(results), "## Goals", "", *_goals(results), "", *_honest(results), "## Figures", "", HOW]
    for letter in done:
        parts += table.of(results, letter)
        parts += [f"![{text}](benchmarks/{name})\n" for name, (whose, _, text, _) in PLOTS.items() if whose == letter]
    return "\n".join(parts).rstrip() + "\n"


def plots(results: Results) -> dict[str, str]:
    """The plots that there are samples for, by file name."""
    drawn = {}
    for name, (workload, measure, title, across) in PLOTS.items():
        curves: dict[str, dict[float, float]] = {}
        for sample in results.of(workload):
            if sample.measure == measure:
                curves.setdefault(sample.contender, {})[float(sample.point)] = sample.median * 1000
        if curves:
            drawn[name] = svg.plot(f"{title} (median)", across, "ms", curves)
    return drawn


def _about(results: Results) -> list[str]:
    about = results.about
    versions = ", ".join(
        f"{name} {about[name]}" for name in ("reference plugins", "multus", "kubernetes", "etcd", "containerd")
    )
    lines = [
        f"- {about['processors']}, {about['memory']}, Linux {about['kernel']}",
        f"- Python {about['python']}, {versions}, nft {about['nft']}, iptables {about['iptables']}",
        "",
        "| workload | when | plexus | load average as it began | rounds |",
        "|---|---|---|---|---|",
        *(_begun(results, letter) for letter in about["workloads"]),
        "",
    ]
    if max(done["load"] for done in about["workloads"].values()) > BUSY:
        lines += [
            "**The machine was busy with something else**: times are longer than need be, and ratios noisier.",
            "",
        ]
    return lines


def _begun(results: Results, letter: str) -> str:
    done = results.about["workloads"][letter]
    rounds = sorted({len(sample.values) for sample in results.of(letter) if sample.contender == SERVED})
    told = " to ".join(str(number) for number in dict.fromkeys((rounds[0], rounds[-1]))) if rounds else "-"
    few = " (`--quick`)" if done["quick"] else ""
    return f"| ({letter}) | {done['date']} | {done['plexus']} | {done['load']} | {told}{few} |"


def _goals(results: Results) -> list[str]:
    lines = ["| what | goal | found | quartiles | reached |", "|---|---|---|---|---|"]
    for goal in GOALS:
        found = goal.find(results)
        spread = f"{table.figure(found.spread[0])} to {table.figure(found.spread[1])}" if found and found.spread else ""
        reached = {True: "yes", False: "**no**", None: "not measured"}[goal.reached(results)]
        lines.append(f"| {goal.text} | ≤ {_told(goal, goal.limit)} | {_found(goal, found)} | {spread} | {reached} |")
    return lines


def _found(goal: Goal, found: Found | None) -> str:
    return _told(goal, found.value) if found else "-"


def _told(goal: Goal, value: float) -> str:
    if goal.unit == "s":
        return table.time(value)
    if goal.unit:
        return f"{value:.0f} {goal.unit}"
    return table.figure(value)


def _honest(results: Results) -> list[str]:
    """What is not reached, and what is not certain."""
    missed = [goal for goal in GOALS if goal.reached(results) is False]
    uncertain = [goal for goal in GOALS if _is_uncertain(goal, goal.find(results))]
    told = f"{len(missed)} of {len(GOALS)} goals are not reached." if missed else "No goal that was measured is missed."
    if uncertain:
        told += f" The limit lies between the quartiles of {len(uncertain)}: another run may tell otherwise of these."
    return [told, *_widest(results), ""]


def _is_uncertain(goal: Goal, found: Found | None) -> bool:
    return bool(found and found.spread and found.spread[0] <= goal.limit <= found.spread[1])


def _widest(results: Results) -> list[str]:
    """How far the ratios of one goal lie apart at most."""
    spreads = [found.spread for goal in GOALS if (found := goal.find(results)) and found.spread]
    if not spreads:
        return []
    low, high = max(spreads, key=lambda spread: spread[1] / spread[0])
    return [f"The noisiest of the ratios above has its quartiles at {table.figure(low)} and {table.figure(high)}."]
