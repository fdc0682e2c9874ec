"""The pure part of the monitor: two looks at a stream become figures, a lag becomes an alert or does not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstem.engine import GroupInfo, StreamInfo, StreamSpec
from mainstem.observability.monitor import EASED, decide, metrics


def group(name: str = "g", **figures: Any) -> GroupInfo:
    given: dict[str, Any] = {
        "lag": 0, "lag_seconds": 0.0, "pending": 0, "members": 1, "lost": 0, "dead": 0, "handled": 0, "failed": 0,
    }  # fmt: skip
    return GroupInfo(name=name, **(given | figures))


def info(*groups: GroupInfo, length: int = 0, added: int = 0, last_ms: int | None = None) -> StreamInfo:
    return StreamInfo(StreamSpec(name="s"), length, added, None, None, last_ms, groups)


def test_figures_of_an_empty_stream() -> None:
    seen = metrics(info(), info(), 1.0)
    assert (seen.stream_name, seen.message_count, seen.consumer_lag, seen.pending) == ("s", 0, 0, 0)
    assert (seen.throughput_per_second, seen.error_rate, seen.last_message_timestamp) == (0.0, 0.0, None)


def test_figures_of_the_stream_are_those_of_its_worst_group() -> None:
    before = info(group("a", handled=10), group("b", handled=0, failed=0), added=100)
    after = info(
        group("a", lag=5, lag_seconds=1.0, pending=2, handled=30, dead=1),
        group("b", lag=50, lag_seconds=9.0, pending=1, handled=6, failed=2, lost=3),
        length=80,
        added=300,
        last_ms=1_700_000_000_500,
    )
    seen = metrics(before, after, 2.0)
    assert (seen.message_count, seen.consumer_lag, seen.consumer_lag_seconds, seen.pending) == (80, 50, 9.0, 3)
    assert seen.throughput_per_second == 100.0
    assert seen.error_rate == 0.25
    assert (seen.lost, seen.dead) == (3, 1)
    assert seen.last_message_timestamp == datetime(2023, 11, 14, 22, 13, 20, 500_000, UTC)
    assert [(each.group, each.handled_per_second) for each in seen.groups] == [("a", 10.0), ("b", 3.0)]


def test_a_lag_that_the_server_cannot_tell_is_none_and_hides_no_other() -> None:
    assert metrics(info(), info(group(lag=None)), 1.0).consumer_lag is None
    assert metrics(info(), info(group("a", lag=None), group("b", lag=4)), 1.0).consumer_lag == 4


COUNT = st.integers(0, 10**9)


@given(COUNT, COUNT, COUNT, COUNT, COUNT, COUNT, st.floats(0, 1e6))
def test_rates_are_never_negative_nor_above_one(
    added: int, added_later: int, handled: int, handled_later: int, failed: int, failed_later: int, seconds: float
) -> None:
    """Also where a group was created anew, or the clock stood still."""
    seen = metrics(
        info(group(handled=handled, failed=failed), added=added),
        info(group(handled=handled_later, failed=failed_later), added=added_later),
        seconds,
    )
    assert seen.throughput_per_second >= 0
    assert 0 <= seen.error_rate <= 1
    assert all(each.handled_per_second >= 0 for each in seen.groups)


def test_an_alert_begins_above_the_limit_and_not_at_it() -> None:
    assert decide("s", group(lag=100), 100, over=False) is None
    alert = decide("s", group(lag=101, lag_seconds=3.0), 100, over=False)
    assert alert is not None
    assert (alert.stream_name, alert.group, alert.lag, alert.max_lag, alert.over) == ("s", "g", 101, 100, True)


def test_what_was_delivered_and_not_settled_counts_as_lag() -> None:
    alert = decide("s", group(lag=0, pending=101), 100, over=False)
    assert alert is not None
    assert alert.lag == 101


def test_a_lag_that_the_server_cannot_tell_is_no_alert() -> None:
    assert decide("s", group(lag=None, pending=10**6), 1, over=False) is None


@given(st.integers(0, 1000), st.lists(st.integers(0, 2000), max_size=50))
def test_alerts_alternate_and_do_not_flap(max_lag: int, lags: list[int]) -> None:
    over, told = False, []
    for lag in lags:
        alert = decide("s", group(lag=lag), max_lag, over)
        if alert is None:
            assert not (not over and lag > max_lag)
            assert not (over and lag <= max_lag * EASED)
            continue
        assert alert.over != over
        assert alert.over == (lag > max_lag)
        assert alert.over or lag <= max_lag * EASED
        over = alert.over
        told.append(over)
    assert told == [at % 2 == 0 for at in range(len(told))]


@pytest.mark.parametrize("lag", range(81, 101))
def test_between_the_two_limits_nothing_is_said(lag: int) -> None:
    assert decide("s", group(lag=lag), 100, over=True) is None
    assert decide("s", group(lag=lag), 100, over=False) is None
