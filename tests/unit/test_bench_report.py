"""The report of `mainstem bench`: medians, ratios, goals, and that nothing unmeasured counts as met."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console

from mainstem.bench import report
from mainstem.bench.report import Goal, Result, Spread, against, alone, as_json, best, failed, shown, spread, summary
from mainstem.bench.works import BARE, KEYED, LIMIT, OURS, QUEUE, RAW, REDIS, SINGLE, TYPED, works

FIELDS = {"work", "ours", "peer", "ratio", "goal", "met", "ours_min", "ours_max", "peer_min", "peer_max", "unit"}


def test_a_spread_is_the_median_with_least_and_greatest() -> None:
    assert spread([{"rate": 30.0}, {"rate": 10.0}, {"rate": 20.0}], "rate") == Spread(20.0, 10.0, 30.0, 3)


def test_a_spread_skips_runs_without_the_figure() -> None:
    assert spread([{"rate": 5.0}, {"other": 1.0}], "rate") == Spread(5.0, 5.0, 5.0, 1)
    assert spread([{"other": 1.0}], "rate") is None
    assert spread([], "rate") is None


@pytest.mark.parametrize(
    ("goal", "figure", "met"),
    [
        (Goal(">=", 0.9), 0.9, True),
        (Goal(">=", 0.9), 0.899, False),
        (Goal("<=", 0.5), 0.5, True),
        (Goal("<=", 0.5), 0.501, False),
        (Goal("<", 1.0), 1.0, False),
        (Goal("<", 1.0), 0.999, True),
    ],
)
def test_a_goal_bounds_a_figure(goal: Goal, figure: float, met: bool) -> None:
    assert goal.met_by(figure) is met


def test_the_ratio_is_of_medians_and_decides_the_goal() -> None:
    result = against(
        "w", Spread(200, 150, 210, 3), Spread(40, 30, 90, 3), unit="events/s", peer_name="p", goal=Goal(">=", 4)
    )
    assert (result.ours, result.peer, result.ratio, result.goal, result.met) == (200, 40, 5.0, ">= 4", True)
    assert (result.ours_min, result.ours_max, result.peer_min, result.peer_max) == (150, 210, 30, 90)
    slower = against("w", Spread(100, 90, 110, 3), Spread(40, 30, 90, 3), unit="", peer_name="p", goal=Goal(">=", 4))
    assert (slower.ratio, slower.met) == (2.5, False)


def test_a_figure_alone_is_judged_by_itself() -> None:
    assert alone("w", Spread(2.5, 2.0, 4.0, 3), unit="us", goal=Goal("<=", 3)).met is True
    assert alone("w", Spread(3.5, 2.0, 4.0, 3), unit="us", goal=Goal("<=", 3)).met is False
    assert alone("w", Spread(3.5, 2.0, 4.0, 3), unit="us").met is None


def test_what_was_not_measured_never_counts_as_met() -> None:
    goal = Goal(">=", 4)
    some = Spread(1, 1, 1, 1)
    assert against("w", None, some, unit="", peer_name="p", goal=goal).met is False
    assert against("w", some, None, unit="", peer_name="p", goal=goal).met is False
    assert alone("w", None, unit="", goal=goal).met is False
    assert failed("w", "it broke").met is None
    assert failed("w", "it broke").ours is None


def test_the_best_peer_is_the_one_with_the_highest_median() -> None:
    runs = {"a": [{"rate": 9.0}, {"rate": 1.0}, {"rate": 2.0}], "b": [{"rate": 3.0}], "c": []}
    assert best(runs, "rate", ("a", "b", "c")) == "b"
    assert best({}, "rate", ("a", "b")) == "a"


def test_the_json_has_the_promised_fields() -> None:
    result = alone("w", Spread(2.5, 2.0, 4.0, 3), unit="us")
    read = msgspec.json.decode(as_json([result], {"python": "3.x"}))
    assert read["settings"] == {"python": "3.x"}
    assert set(read["results"][0]) >= FIELDS
    assert read["results"][0]["ours"] == 2.5
    assert read["results"][0]["peer"] is None


def test_the_summary_names_every_goal_that_was_not_met() -> None:
    met, missed = (
        alone("good", Spread(1, 1, 1, 1), unit="", goal=Goal("<=", 3)),
        alone("bad", None, unit="", goal=Goal("<=", 3), note="broke"),
    )
    assert summary([met, missed]) == ["bad: broke", "1 of 2 goals met; NOT met: bad"]
    assert summary([met]) == ["1 of 1 goals met."]


def test_the_table_says_no_where_a_goal_is_not_met() -> None:
    out = io.StringIO()
    slow = alone("slow thing", Spread(9, 9, 9, 1), unit="us", goal=Goal("<=", 3))
    report.print_table([slow], {"python": "3.x"}, Console(file=out, width=120))
    text = out.getvalue()
    assert "python: 3.x" in text
    assert "slow thing [us]" in text
    assert "NO" in text


@pytest.mark.parametrize(
    ("value", "text"), [(123456.7, "123,457"), (250.04, "250.0"), (0.59412, "0.594"), (12.345, "12.3"), (0.0, "0")]
)
def test_figures_are_shown_with_digits_that_say_something(value: float, text: str) -> None:
    assert shown(value) == text


def judged(work: str, **runs: list[dict[str, float]]) -> dict[str, Result]:
    """The results of one work, by their names, as its judge makes them from such runs."""
    chosen = next(one for one in works() if one.name == work)
    empty: dict[str, list[dict[str, float]]] = {side.name: [] for side in chosen.sides}
    return {result.work: result for result in chosen.judge({**empty, **runs})}


def test_end_to_end_is_compared_with_the_better_way_to_run_faststream() -> None:
    lines = judged(
        "end-to-end",
        **{OURS: [{"rate": 90_000.0}], REDIS: [{"rate": 30_000.0}], LIMIT: [{"rate": 210_000.0}]},
        **{TYPED: [{"rate": 10_000.0}], BARE: [{"rate": 20_000.0}], SINGLE: [{"rate": 2_000.0}]},
    )
    batch = lines["end to end against FastStream batch"]
    assert (batch.peer_name, batch.ratio, batch.met) == (BARE, 4.5, False)
    assert lines["end to end against redis-py"].met is True
    assert [line.met for name, line in lines.items() if "100,000" in name] == [False]


def test_the_absolute_goal_applies_only_where_the_limit_is_high_enough() -> None:
    lines = judged("end-to-end", **{OURS: [{"rate": 90_000.0}], LIMIT: [{"rate": 150_000.0}]})
    floor = next(line for name, line in lines.items() if "100,000" in name)
    assert floor.met is None
    assert "does not apply" in floor.note


def test_keyed_mode_fails_when_order_was_not_kept() -> None:
    fast = {"rate": 200.0, "server_cpu_us": 1.0, "aof_bytes": 500.0}
    slow = {"rate": 100.0, "server_cpu_us": 4.0, "aof_bytes": 900.0}
    kept = judged("keyed", **{KEYED: [{**fast, "disorder": 0.0}], QUEUE: [slow]})
    lost = judged("keyed", **{KEYED: [{**fast, "disorder": 2.0}], QUEUE: [slow]})
    assert kept["keyed, out of order"].met is True
    assert lost["keyed, out of order"].met is False
    assert kept["keyed (16 partitions, 10,000 keys), rate"].ratio == 2.0


def test_own_overhead_is_our_time_less_that_of_the_raw_client() -> None:
    lines = judged("overhead", **{OURS: [{"cpu_us": 4.0}, {"cpu_us": 6.0}], RAW: [{"cpu_us": 1.0}, {"cpu_us": 1.5}]})
    own = lines["own overhead in a batch handler"]
    assert (own.ours, own.ours_min, own.ours_max, own.met) == (3.75, 3.0, 4.5, False)


def test_growth_is_judged_against_the_smallest_size() -> None:
    cost = {"1,000 entries": 5.0, "100,000 entries": 5.4, "1,000,000 entries": 6.0}
    lines = judged("entries", **{size: [{"publish": value}] for size, value in cost.items()})
    assert lines["publish at 100,000 entries"].met is True
    assert lines["publish at 1,000,000 entries"].met is False
    assert lines["publish at 1,000,000 entries"].ratio == pytest.approx(1.2)
    assert lines["describe at 1,000,000 entries"].met is False  # was not measured


def test_small_runs_leave_the_largest_sizes_out_and_full_ones_go_further() -> None:
    def sizes(**how: bool) -> list[int]:
        return [side.size for work in works(**how) if work.name == "entries" for side in work.sides]

    assert sizes() == [1_000, 100_000, 1_000_000]
    assert sizes(small=True) == [1_000, 100_000]
    assert sizes(full=True) == [1_000, 100_000, 10_000_000]


def test_memory_names_the_events_it_was_measured_with() -> None:
    run = {"handled": 50_000.0, "rss_start_mb": 50.0, "rss_end_mb": 60.0}
    lines = judged("memory", **{OURS: [run]})
    assert (lines["RSS after 50,000 events"].ratio, lines["RSS after 50,000 events"].met) == (1.2, False)
