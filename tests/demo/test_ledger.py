"""The demo's check on itself must catch what it is there for."""

from __future__ import annotations

import random

import pytest

from mainstem.demo.ledger import REMEMBERED, Latencies, Ledger, digest

IDS = [digest(f"event-{number}") for number in range(1000)]


def told(published: list[int], handled: list[int]) -> Ledger:
    """A ledger that was told both in one shuffled order."""
    ledger = Ledger()
    calls = [(ledger.publish, (identity,)) for identity in published]
    calls += [(ledger.handle, (identity, 1000)) for identity in handled]  # type: ignore[list-item]
    random.shuffle(calls)
    for call, arguments in calls:
        call(*arguments)
    return ledger


def test_all_published_and_handled_once_is_right_in_any_order() -> None:
    ledger = told(IDS, IDS)
    verdict = ledger.verdict()
    assert (verdict.published, verdict.handled, verdict.lost, verdict.duplicated) == (1000, 1000, 0, 0)
    assert ledger.under_way == 0


def test_a_planted_loss_is_caught() -> None:
    verdict = told(IDS, IDS[:500] + IDS[501:]).verdict()
    assert (verdict.published, verdict.handled, verdict.lost, verdict.duplicated) == (1000, 999, 1, 0)


def test_a_planted_duplicate_is_caught() -> None:
    verdict = told(IDS, [*IDS, IDS[7], IDS[7], IDS[8]]).verdict()
    assert (verdict.published, verdict.handled, verdict.lost, verdict.duplicated) == (1000, 1000, 0, 3)


def test_a_duplicate_does_not_hide_a_loss() -> None:
    verdict = told(IDS, [*IDS[1:], IDS[1]]).verdict()  # as many handlings as events
    assert (verdict.handled, verdict.lost, verdict.duplicated) == (999, 1, 1)


def test_an_event_stored_twice_under_one_id_must_be_handled_once_and_may_not_be_twice() -> None:
    verdict = told([*IDS, IDS[0]], [*IDS, IDS[0]]).verdict()
    assert (verdict.published, verdict.lost, verdict.duplicated) == (1000, 0, 1)


def test_what_was_certainly_not_stored_is_not_lost_and_what_may_be_stored_is_not_either() -> None:
    ledger = Ledger()
    for identity in IDS[:4]:
        ledger.publish(identity)
    ledger.take_back(IDS[0])
    ledger.doubt(IDS[1])
    ledger.doubt(IDS[2])
    ledger.handle(IDS[2], 1)
    ledger.handle(IDS[3], 1)
    verdict = ledger.verdict()
    assert (verdict.published, verdict.handled, verdict.lost, verdict.duplicated) == (2, 2, 0, 0)
    assert verdict.unknown == 1


def test_its_memory_is_that_of_the_events_under_way() -> None:
    ledger = Ledger()
    for number in range(REMEMBERED + 1000):
        ledger.publish(number)
        ledger.handle(number, 1)
    assert ledger.under_way == 0
    assert len(ledger._open) == 0
    assert len(ledger._recent) == REMEMBERED
    assert ledger.verdict().handled == REMEMBERED + 1000


def test_quantiles_are_within_three_percent() -> None:
    latencies = Latencies()
    for us in range(1, 100_001):
        latencies.add(us)
    assert latencies.quantile_ms(0.50) == pytest.approx(50.0, rel=0.03)
    assert latencies.quantile_ms(0.99) == pytest.approx(99.0, rel=0.03)


def test_a_latency_beyond_all_measure_is_counted_and_none_is_zero() -> None:
    latencies = Latencies()
    assert latencies.quantile_ms(0.99) == 0.0
    latencies.add(2**40)
    assert latencies.count == 1
    assert latencies.quantile_ms(0.5) > 1_000_000


def test_the_last_seconds_are_a_difference_of_copies() -> None:
    latencies = Latencies()
    latencies.add(100)
    earlier = latencies.copy()
    latencies.add(20_000)
    assert latencies.since(earlier).count == 1
    assert latencies.since(earlier).quantile_ms(0.5) == pytest.approx(20, rel=0.03)
    assert latencies.merged(latencies).count == 4
