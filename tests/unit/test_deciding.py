"""Pure decisions of `processing`: retry, flow, causes, ids of outputs, what a handler may look like."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstem import BatchFailed, ConfigError, Context, Metadata, Received, Reject, Retry, RetryLater, Skip, StreamEvent
from mainstem.causes import TRACEBACK_LIMIT, Cause, cause_of, fingerprint
from mainstem.engine import Delivery, Record
from mainstem.processing.flow import LARGEST, Flow
from mainstem.processing.outputs import output_of
from mainstem.processing.retry import GiveUp, RetryAfter, jitter, next_step
from mainstem.processing.subscription import wants_context

DRAW = st.floats(0, 1)
SECONDS = st.floats(0, 1e6)

# Retry


@given(st.integers(1, 100), SECONDS, SECONDS, st.integers(1, 200), DRAW)
def test_a_pause_is_within_its_step_and_the_cap(
    attempts: int, base: float, more: float, attempt: int, draw: float
) -> None:
    policy = Retry(attempts, base=base, cap=base + more)
    step = next_step(attempt, ValueError("x"), policy, draw)
    if attempt >= attempts:
        assert step == GiveUp("ValueError: x")
    else:
        assert isinstance(step, RetryAfter)
        assert 0 <= step.seconds <= min(policy.cap, policy.base * 2.0 ** min(attempt - 1, 60))


@given(st.integers(1, 50), DRAW)
def test_there_are_exactly_as_many_attempts_as_the_policy_says(attempts: int, draw: float) -> None:
    policy, attempt = Retry(attempts), 1
    while isinstance(next_step(attempt, ValueError(), policy, draw), RetryAfter):
        attempt += 1
    assert attempt == attempts


@given(st.integers(1, 20), DRAW)
def test_steps_double_up_to_the_cap(attempt: int, draw: float) -> None:
    policy = Retry(base="100ms", cap="2s")
    assert policy.step(attempt) == min(2.0, 0.1 * 2 ** (attempt - 1))
    assert policy.step(10_000) == 2.0


def test_reject_ends_it_at_once_and_retry_later_says_when() -> None:
    policy = Retry(3)
    assert next_step(1, Reject("bad symbol"), policy, 0.5) == GiveUp("bad symbol")
    assert next_step(1, Reject(), policy, 0.5) == GiveUp("rejected by the handler")
    assert next_step(2, RetryLater("5m"), policy, 0.0) == RetryAfter(300.0)
    assert next_step(3, RetryLater("5m"), policy, 0.0) == GiveUp(
        "RetryLater: the handler asked to be called again after 300 s"
    )


def test_a_draw_is_a_share() -> None:
    draws = [jitter() for _ in range(1000)]
    assert 0 <= min(draws) < 0.1 < 0.9 < max(draws) <= 1


@pytest.mark.parametrize("attempts", [0, -1, True, False])
def test_a_policy_without_attempts_is_refused(attempts: int) -> None:
    with pytest.raises(ConfigError, match=r"attempts=.* of Retry must be at least 1: the first attempt counts"):
        Retry(attempts)


def test_a_cap_below_the_base_is_refused() -> None:
    with pytest.raises(ConfigError, match="cap='1s' of Retry is below base='2s'"):
        Retry(base="2s", cap="1s")
    with pytest.raises(ConfigError, match="base='soon' is not a duration"):
        Retry(base="soon")


@pytest.mark.parametrize("after", ["soon", -1, float("nan")])
def test_retry_later_checks_its_time(after: Any) -> None:
    with pytest.raises(ConfigError, match="is not a duration"):
        RetryLater(after)


# Flow


@given(st.integers(1, 500), st.lists(st.tuples(st.floats(0.0, 5.0), st.integers(0, 100_000)), max_size=30))
def test_the_window_is_bounded_and_gives_every_runner_work(concurrency: int, steps: list[tuple[float, int]]) -> None:
    flow, now, total = Flow(concurrency), 100.0, 0
    for elapsed, finished in steps:
        now, total = now + elapsed, total + finished
        flow.finished(now, total)
        assert 2 * concurrency <= flow.window <= max(LARGEST, 2 * concurrency)


def test_a_slow_worker_leaves_events_to_others_and_a_fast_one_reads_ahead() -> None:
    slow, fast = Flow(1), Flow(1)
    for tick in range(1, 20):
        slow.finished(100.0 + tick, tick)
        fast.finished(100.0 + tick, tick * 10_000)
    assert slow.window == 2
    assert fast.window == LARGEST


# Causes


def delivery() -> Delivery:
    return Delivery(("ticks", 3), "17-0", Record(b"i", b"t", b"s", b"", b"", b"{}", b""), 0)


def failure(text: str = "boom") -> ValueError:
    try:
        raise ValueError(text)
    except ValueError as error:
        return error


def cause(error: BaseException | None, reason: str = "why") -> Cause:
    raw = cause_of(delivery(), error, reason=reason, attempts=4, group="g", handler="h", position="3:17-0")
    return msgspec.json.decode(raw, type=Cause)


def test_a_cause_tells_where_from_and_why() -> None:
    told = cause(failure())
    assert (told.reason, told.error, told.attempts, told.group, told.handler) == ("why", "ValueError", 4, "g", "h")
    assert (told.stream, told.partition, told.position) == ("ticks", 3, "3:17-0")
    assert "raise ValueError(text)" in told.traceback
    assert told.pid > 0
    assert told.at > 1_700_000_000


def test_a_cause_without_an_error() -> None:
    told = cause(None, "its worker ended 5 times")
    assert (told.error, told.traceback, told.fingerprint) == ("", "", "")


@given(st.text(st.characters(codec=None), max_size=50))
def test_any_message_can_be_stored(text: str) -> None:
    assert isinstance(cause(failure(text), text).reason, str)


def test_a_cause_is_bounded() -> None:
    raw = cause_of(
        delivery(),
        failure("x" * 1_000_000),
        reason="r" * 1_000_000,
        attempts=1,
        group="g",
        handler="h",
        position="3:17-0",
    )
    assert len(raw) < TRACEBACK_LIMIT * 2 + 5000


def test_failures_of_one_kind_at_one_place_have_one_fingerprint() -> None:
    assert fingerprint(failure("a")) == fingerprint(failure("b"))
    assert fingerprint(failure("a")) != fingerprint(KeyError("a"))


# Outputs


def received(id: str = "in-1", **more: Any) -> Received[Any]:
    return Received(data=1, id=id, stream="ticks", position="1", recorded_ms=0, **more)


def test_the_same_input_and_handler_give_the_same_id(  # a repeat is recognised
) -> None:
    first = msgspec.structs.asdict(output_of(received(), {"a": 1}, *names("h")))
    again = msgspec.structs.asdict(output_of(received(attempt=3), {"a": 2}, *names("h")))
    other = msgspec.structs.asdict(output_of(received("in-2"), {"a": 1}, *names("h")))
    sibling = msgspec.structs.asdict(output_of(received(), {"a": 1}, *names("other")))
    assert first["id"] == again["id"]
    assert len({first["id"], other["id"], sibling["id"]}) == 3


def names(handler: str) -> tuple[Any, ...]:
    """The arguments of `output_of` behind the result; the group is one of them where it has a place."""
    import inspect

    return ("g", handler) if "group" in inspect.signature(output_of).parameters else (handler,)


def test_an_output_continues_the_chain() -> None:
    first = output_of(received(), "x", *names("h"))
    assert (first.metadata.correlation_id, first.metadata.causation_id) == ("in-1", "in-1")
    later = output_of(received(metadata=Metadata(correlation_id="root", user_id="u")), "x", *names("h"))
    assert (later.metadata.correlation_id, later.metadata.causation_id) == ("root", "in-1")
    assert later.metadata.user_id == "u"


def test_an_event_that_is_one_already_stays_as_it_is() -> None:
    made: StreamEvent[Any] = StreamEvent(data=1, id="mine")
    assert output_of(received(), made, *names("h")) is made


# Handlers


async def takes_event(event: Received[Any]) -> None: ...
async def takes_context(event: Received[Any], context: Context) -> None: ...
def sync_event(event: Received[Any]) -> None: ...
async def with_option(event: Received[Any], verbose: bool = False) -> None: ...
async def anything(*arguments: Any) -> None: ...
async def none() -> None: ...
async def three(event: Received[Any], context: Context, more: int) -> None: ...
async def named_only(event: Received[Any], *, needed: int) -> None: ...


class Handler:
    async def __call__(self, event: Received[Any], context: Context) -> None: ...

    def method(self, event: Received[Any]) -> None: ...


@pytest.mark.parametrize(
    ("handler", "context"),
    [(takes_event, False), (takes_context, True), (sync_event, False), (with_option, False), (anything, False),
     (Handler(), True), (Handler().method, False), (functools.partial(takes_context), True), (print, False)],
)  # fmt: skip
def test_a_second_parameter_is_the_context(handler: Callable[..., Any], context: bool) -> None:
    assert wants_context(handler) == context


@pytest.mark.parametrize("handler", [none, three, named_only])
def test_a_handler_that_cannot_take_an_event_is_refused(handler: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match=f"handler '{handler.__name__}' must take the event, and may take a Context"):
        wants_context(handler)


def test_outcomes_say_what_they_are() -> None:
    assert str(BatchFailed({"1": ValueError()})) == "1 of a batch failed"
    assert isinstance(Skip(), Exception)
