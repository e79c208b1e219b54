"""The page of the benchmarks: medians, ratios round by round, goals reached or not, and what was not measured."""

from xml.etree import ElementTree as ET

import pytest
from measuring import page, svg, table
from measuring.goals import GOALS, THIN
from measuring.rounds import Pace, interleave
from measuring.samples import Ratio, Results, Sample
from measuring.single import ALONE, REFERENCE, SERVED


def begun(load):
    return {"date": "2026-01-02 03:04 UTC", "plexus": "abc", "load": load, "quick": True}


ABOUT = {
    "workloads": {"c": begun(0.2)},
    **dict.fromkeys(("processors", "memory", "kernel", "python", "reference plugins", "multus"), "x"),
    **dict.fromkeys(("kubernetes", "etcd", "containerd", "nft", "iptables"), "x"),
}


def sample(contender, measure, *values, workload="c", point="3"):
    return Sample(workload, point, contender, measure, values)


def results(*samples, **about):
    return Results(ABOUT | about, samples)


def row(text, begin):
    return next(line for line in text.splitlines() if line.startswith(f"| {begin}"))


def test_a_ratio_is_taken_round_by_round():
    ratio = Ratio.of(sample(SERVED, "ADD", 1, 9, 3), sample(THIN, "ADD", 2, 10, 3))
    assert (ratio.least, ratio.median, ratio.most) == (0.5, 0.9, 1)


def test_a_ratio_of_one_round_has_no_spread():
    ratio = Ratio.of(sample(SERVED, "ADD", 1), sample(THIN, "ADD", 2))
    assert (ratio.low, ratio.median, ratio.high) == (0.5, 0.5, 0.5)


def test_results_are_read_as_they_were_written():
    written = results(sample(SERVED, "ADD", 0.1, 0.2))
    assert Results.from_json(written.to_json()) == written


def test_newer_results_take_the_place_of_the_same_workload_alone():
    older = results(sample(SERVED, "ADD", 1), sample(SERVED, "ADD", 2, workload="a", point=""))
    newer = older.replaced_by(results(sample(SERVED, "ADD", 3)))
    assert [(found.workload, found.values) for found in newer.samples] == [("a", (2,)), ("c", (3,))]


def test_the_page_says_which_goals_are_reached_and_which_are_not():
    measured = results(
        sample(SERVED, "ADD", 0.2, 0.2, 0.2),
        sample(THIN, "ADD", 1, 1, 1),
        sample(SERVED, "DEL", 0.9, 0.9, 0.9),
        sample(THIN, "DEL", 1, 1, 1),
    )
    text = page.render(measured)
    reached, missed, unknown = (row(text, begin) for begin in (GOALS[0].text, GOALS[2].text, "burst"))
    assert reached.endswith("| ≤ 0.50 | 0.20 | 0.20 to 0.20 | yes |")
    assert missed.endswith("| ≤ 0.40 | 0.90 | 0.90 to 0.90 | **no** |")
    assert unknown.endswith("| ≤ 0.50 | - |  | not measured |")
    assert f"1 of {len(GOALS)} goals are not reached." in text


def test_the_page_says_of_which_goals_another_run_may_tell_otherwise():
    measured = results(sample(SERVED, "ADD", 0.4, 0.45, 0.6, 0.7), sample(THIN, "ADD", 1, 1, 1, 1))
    assert "The limit lies between the quartiles of 1:" in page.render(measured)


@pytest.mark.parametrize(("load", "told"), [(0.4, False), (5.0, True)])
def test_the_page_says_when_the_machine_was_busy(load, told):
    text = page.render(results(sample(SERVED, "ADD", 1), workloads={"c": begun(load)}))
    assert ("The machine was busy" in text) is told


def test_of_several_peers_the_best_is_the_goals():
    faster, slower = (f"{REFERENCE}, {backend}" for backend in ("iptables", "nftables"))
    measured = results(
        *(sample(name, "ADD", value, workload="b", point="") for name, value in ((SERVED, 1), (faster, 2), (slower, 5)))
    )
    goal = next(goal for goal in GOALS if goal.text.startswith("bridge with ipMasq"))
    found = goal.find(measured)
    assert found is not None
    assert found.value == 0.5


def test_growth_is_the_last_point_by_the_first():
    measured = results(
        *(sample(SERVED, "ADD", value, workload="h", point=point) for point, value in (("1", 2), ("1000", 3)))
    )
    goal = next(goal for goal in GOALS if goal.text.startswith("growth of ours from 1 to"))
    found = goal.find(measured)
    assert found is not None
    assert found.value == 1.5
    assert goal.reached(measured)


def test_a_table_has_medians_with_units_and_ratios_to_each_peer():
    lines = table.of(
        results(
            sample(SERVED, "ADD", 0.01, 0.02, 0.03),
            sample(THIN, "ADD", 0.02, 0.04, 0.06),
            sample(ALONE, "ADD", 1.5, 1.5, 1.5),
            sample(ALONE, "processes", 1),
        ),
        "c",
    )
    assert f"| {SERVED}, 3 NADs | 20.0 ms | - |" in lines
    assert f"| {ALONE}, 3 NADs | 1.50 s | 1 |" in lines
    assert f"| {THIN}, 3 NADs | **0.50** (0.50 to 0.50) |" in lines


def test_each_curve_is_a_plot_that_a_browser_reads():
    points = ("0", "1000", "50000")
    found = results(*(sample(SERVED, "ADD+DEL", 0.01, workload="d", point=point) for point in points))
    plots = page.plots(found)
    assert list(plots) == ["leases.svg"]
    drawing = ET.fromstring(plots["leases.svg"])
    (line,) = drawing.findall("{*}polyline")
    across = [float(point.partition(",")[0]) for point in line.attrib["points"].split()]
    assert across == sorted(set(across))
    assert len(across) == len(points)


def test_what_takes_longer_is_drawn_higher():
    drawing = ET.fromstring(svg.plot("t", "x", "ms", {"one & only": {1: 10, 2: 20}}))
    (line,) = drawing.findall("{*}polyline")
    first, second = (float(point.partition(",")[2]) for point in line.attrib["points"].split())
    assert second < first


def test_every_round_begins_with_another_and_the_first_one_does_not_count(capsys):
    order = []

    def turn(name):
        return lambda number: order.append((number, name)) or {"ADD": float(number)}

    found = interleave("c", {("3", name): turn(name) for name in ("x", "y")}, Pace(rounds=2, seconds=100))
    assert [name for number, name in order if number == 1] == ["y", "x"]
    assert [name for number, name in order if number == 2] == ["x", "y"]
    assert [sample.values for sample in found] == [(1.0, 2.0), (1.0, 2.0)]


def test_rounds_end_when_their_time_is_over_but_there_are_some(capsys):
    found = interleave("c", {("3", "x"): lambda _: {"ADD": 1.0}}, Pace(rounds=50, seconds=0, least=3))
    assert [len(sample.values) for sample in found] == [3]


def test_the_page_says_when_each_workload_was_done_and_how_often():
    text = page.render(results(sample(SERVED, "ADD", 1, 2, 3)))
    assert "| (c) | 2026-01-02 03:04 UTC | abc | 0.2 | 3 (`--quick`) |" in text
