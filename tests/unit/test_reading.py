"""Where a read starts, and cursors as text."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any, Literal, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstem import ConfigError
from mainstem.engine import Cursor, Engine, StreamSpec
from mainstem.reading import cursor_at, format_cursor, parse_cursor

QUEUE = StreamSpec(name="s")
KEYED = StreamSpec(name="s", partitions=4096)
POSITIONS = st.from_regex(r"[0-9]{1,15}(-[0-9]{1,6})?", fullmatch=True)


@given(st.dictionaries(st.integers(0, 4095), POSITIONS, min_size=1, max_size=20))
def test_a_cursor_of_a_keyed_stream_survives_its_text(cursor: dict[int, str]) -> None:
    assert parse_cursor(format_cursor(cursor, keyed=True), KEYED) == cursor


@given(POSITIONS)
def test_a_cursor_of_a_queue_is_its_position(position: str) -> None:
    assert format_cursor({0: position}, keyed=False) == position
    assert parse_cursor(position, QUEUE) == {0: position}


@pytest.mark.parametrize("text", ["", ",", "x:5", ":5", "1:", "-1:5", "1:5,", "1.5:3"])
def test_what_is_no_place_is_refused_with_the_choices(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_cursor(text, KEYED)
    assert f"start={text!r} is not a place in a stream: give beginning, end, a position" in str(caught.value)


@pytest.mark.parametrize(("text", "spec"), [("3:5-0", "queue"), ("5-0", "keyed"), ("4096:5-0", "keyed")])
def test_a_place_of_another_kind_of_stream_is_refused(text: str, spec: str) -> None:
    with pytest.raises(ConfigError, match="is not a place in stream 's': it is "):
        parse_cursor(text, KEYED if spec == "keyed" else QUEUE)


class Locator:
    """The one method of an engine that `cursor_at` uses."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    async def locate(self, stream: str, at: Literal["beginning", "end"] | float) -> Cursor:
        self.asked.append(at)
        return {0: "found"}


async def asked(start: Any) -> Any:
    locator = Locator()
    assert await cursor_at(cast(Engine, locator), QUEUE, start) == {0: "found"}
    return locator.asked[0]


@pytest.mark.parametrize("word", ["beginning", "end"])
async def test_words(word: str) -> None:
    assert await asked(word) == word


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("2026-01-31T09:30:00Z", datetime(2026, 1, 31, 9, 30, tzinfo=UTC)),
        ("2026-01-31T09:30:00+02:00", datetime(2026, 1, 31, 7, 30, tzinfo=UTC)),
        ("2026-01-31 09:30:00", datetime(2026, 1, 31, 9, 30, tzinfo=UTC)),
        (datetime(2026, 1, 31, 9, 30, tzinfo=UTC), datetime(2026, 1, 31, 9, 30, tzinfo=UTC)),
    ],
)
async def test_times(start: Any, expected: datetime) -> None:
    assert await asked(start) == expected.timestamp()


@pytest.mark.parametrize(("age", "seconds"), [("2h", 7200), ("250ms", 0.25), ("1w", 604800)])
async def test_ages(age: str, seconds: float) -> None:
    assert await asked(age) == pytest.approx(time.time() - seconds, abs=2)


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ("2 hours ago", "is not a time: write it like 2026-01-31T09:30:00Z"),
        ("2026-13-01T00:00:00Z", "is not a time"),
        ("2y", "is not a duration"),
        ("begin", "is not a duration"),
        ("", "is not a place in a stream"),
        (datetime(2026, 1, 31), "has no time zone: give an aware datetime"),  # noqa: DTZ001
    ],
)
async def test_bad_starts(start: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        await asked(start)
