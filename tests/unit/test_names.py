"""What may be a name, and durations as people write them: by example, and whatever hypothesis finds."""

from __future__ import annotations

import contextlib
import math
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstem.errors import ConfigError, EventRejected
from mainstem.names import group_name, seconds, stream_glob, stream_name

ALLOWED = string.ascii_letters + string.digits + "._:-"


@pytest.mark.parametrize("name", ["a", "market.ticks", "A-1_b:c.d", "9", "a" * 200, "x" * 199 + "."])
def test_good_names_come_back_as_they_are(name: str) -> None:
    assert stream_name(name) == name
    assert group_name(name) == name


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "is empty"),
        ("a" * 201, "longer than 200 bytes"),
        ("é" * 101, "longer than 200 bytes"),
        ("a\x00b", "not allowed"),
        ("a\nb", "not allowed"),
        ("a\n", "not allowed"),
        ("a\x7f", "not allowed"),
        ("{tag}", "not allowed"),
        ("a{}b", "not allowed"),
        ("news.*", "not allowed"),
        ("news.?", "not allowed"),
        ("news.[ab]", "not allowed"),
        ("a..b", "contains '..'"),
        ("..", "contains '..'"),
        ("../etc", "contains '..'"),
        ("a\ud800", "not allowed"),
        ("\udfff" * 80, "longer than 200 bytes"),
        ("größe", "not allowed"),
        ("a b", "not allowed"),
        ("a/b", "not allowed"),
        (".a", "not allowed"),
        ("-a", "not allowed"),
        ("mainstem:streams", "kept for mainstem"),
        ("Mainstem:x", "kept for mainstem"),
    ],
)
@pytest.mark.parametrize("check", [stream_name, group_name])
def test_bad_names_are_refused_in_one_line_that_can_be_printed(check: object, name: str, said: str) -> None:
    assert callable(check)
    with pytest.raises(EventRejected) as caught:
        check(name)
    text = str(caught.value)
    assert said in text
    assert "use letters, digits" in text
    assert text.isascii()
    assert text.isprintable()
    assert len(text) < 250


@pytest.mark.parametrize("name", [None, 5, b"ticks", ["a"]])
def test_a_name_is_text(name: object) -> None:
    with pytest.raises(EventRejected, match=f"is text, not {type(name).__name__}"):
        stream_name(name)  # type: ignore[arg-type]


@given(st.text(st.characters(codec=None), max_size=210))
def test_a_name_is_accepted_exactly_when_it_follows_the_rule(name: str) -> None:
    fine = (
        0 < len(name) <= 200
        and all(letter in ALLOWED for letter in name)
        and name[0] not in "._:-"
        and ".." not in name
        and not name.lower().startswith("mainstem:")
    )
    try:
        assert stream_name(name) == name
        accepted = True
    except EventRejected:
        accepted = False
    assert accepted == fine


@given(st.text(ALLOWED, min_size=1, max_size=200))
def test_whatever_is_accepted_needs_no_escaping_anywhere(name: str) -> None:
    try:
        stream_name(name)
    except EventRejected:
        return
    assert not set(name) & set("{}[]*?/\\ \"'\n\r")


@pytest.mark.parametrize("glob", ["*", "news.*", "a?c", "?", "market.*.ticks"])
def test_patterns_may_be_wild(glob: str) -> None:
    assert stream_glob(glob) == glob


@pytest.mark.parametrize("glob", ["", "[ab]", "{a}", "a..*", "*\n", "\ud800*", "*" * 201])
def test_bad_patterns_are_refused(glob: str) -> None:
    with pytest.raises(EventRejected, match="pattern name"):
        stream_glob(glob)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("250us", 0.00025), ("250ms", 0.25), ("30s", 30.0), ("1.5s", 1.5), ("5m", 300.0), ("2h", 7200.0),
        ("7d", 604800.0), ("1w", 604800.0), (" 30 s ", 30.0), ("0s", 0.0),
    ],
)  # fmt: skip
def test_durations_as_text(text: str, expected: float) -> None:
    assert seconds(text, "x") == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "30", "s", "-5s", "1e3s", "5 minutes", "5S", "1h30m", "nan", "infs", "5s\n5s"])
def test_bad_durations_name_the_setting_and_how_to_write_it(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        seconds(text, "timeout")
    assert f"timeout={text!r} is not a duration" in str(caught.value)
    assert "30s" in str(caught.value)


@pytest.mark.parametrize("value", [-1, -0.001, math.nan, math.inf, -math.inf, True, False])
def test_bad_numbers_are_no_durations(value: float) -> None:
    with pytest.raises(ConfigError, match="is not a duration"):
        seconds(value, "lease")


@given(st.floats(min_value=0, max_value=1e15))
def test_numbers_are_seconds(value: float) -> None:
    assert seconds(value, "x") == value


@given(st.text(max_size=30))
def test_any_text_is_a_finite_duration_or_a_config_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert 0 <= seconds(text, "x") < math.inf
