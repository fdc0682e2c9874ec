"""The language of `tail --where`: what it reads, what it means, and that nothing else can happen."""

from __future__ import annotations

import contextlib
import json
import operator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstem.cli.where import DEEPEST, LONGEST, Both, Compare, Items, Literal, Node, Not, Path, holds, parse
from mainstem.errors import ConfigError

EVENT: dict[str, Any] = {
    "type": "tick",
    "key": "AAPL",
    "source": "feed",
    "time": "2026-01-31T09:30:00+00:00",
    "data": {
        "price": 501.5,
        "size": 10,
        "tags": ["hot", "us"],
        "odd name": 1,
        "open": True,
        "none": None,
        "by": {"id": 7},
    },
    "metadata": {"user_id": "u1"},
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data.price > 500", True),
        ("data.price > 501.5", False),
        ("data.price >= 501.5", True),
        ("data.size == 10", True),
        ("data.size == 10.0", True),
        ("data.size != 10", False),
        ("data.size < 1e3", True),
        ("data.size <= -1", False),
        ("500 < data.price", True),
        ('key == "AAPL"', True),
        ("key == 'AAPL'", True),
        ('key in ["AAPL", "MSFT"]', True),
        ('key not in ["AAPL", "MSFT"]', False),
        ('"hot" in data.tags', True),
        ('"AP" in key', True),
        ('"price" in data', True),
        ('not key == "AAPL"', False),
        ("not not data.open", True),
        ("data.open", True),
        ("data.open == true", True),
        ("data.open == 1", False),
        ("data.none", False),
        ("data.none == null", True),
        ("data.missing == null", True),
        ("data.missing.deeper == null", True),
        ("data.missing > 0", False),
        ("data.missing < 0", False),
        ("data.price > 'a'", False),
        ("data.tags > 1", False),
        ("data.size", True),
        ("0", True),
        ("false or data.size == 10", True),
        ("false and false or true", True),
        ("false and (false or true)", False),
        ("true or false and false", True),
        ("data['odd name'] == 1", True),
        ("data.tags[0] == 'hot'", True),
        ("data.tags[-1] == 'us'", True),
        ("data.tags[2] == null", True),
        ("data.by.id == 7", True),
        ("metadata.user_id == 'u1'", True),
        ("time > '2026-01-31'", True),
        ("data.by == null", False),
        ("type == 'ti\\'ck'", False),
    ],
)
def test_meaning(text: str, expected: bool) -> None:
    assert holds(parse(text), EVENT) is expected


@pytest.mark.parametrize(
    ("text", "at", "says"),
    [
        ("", 1, "expected a value, found the end"),
        ("price > 500", 1, "data.price?"),
        ("data.price >", 13, "expected a value"),
        ("data.price > 500 500", 18, "expected and, or, or the end"),
        ("data.price = 500", 12, "cannot be read"),
        ("(data.price", 12, "expected ')'"),
        ("data.", 6, "a name after '.'"),
        ("data[price]", 6, "whole number or a text"),
        ("data[1.5]", 6, "whole number or a text"),
        ("key not 'a'", 9, "'in' after 'not'"),
        ("and", 1, "expected a value"),
        ("__import__('os')", 1, "no field of an event"),
        ("data.price > 'a", 14, "cannot be read"),
        ("1 < 2 < 3", 7, "expected and, or, or the end"),
    ],
)
def test_what_cannot_be_read_is_shown_where_it_goes_wrong(text: str, at: int, says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse(text)
    assert f"at character {at}:" in str(raised.value)
    assert says in str(raised.value)


def test_length_and_depth_are_bounded() -> None:
    assert holds(parse("(" * DEEPEST + "true" + ")" * DEEPEST), {})
    for text in ("(" * (DEEPEST + 1) + "true" + ")" * (DEEPEST + 1), "not " * 1000 + "true", "1 == " + "1" * LONGEST):
        with pytest.raises(ConfigError):
            parse(text)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ConfigError):
        holds(parse(text), EVENT)


TOKENS = st.sampled_from(
    [
        "data",
        "key",
        ".",
        "price",
        "[",
        "]",
        "(",
        ")",
        ",",
        "0",
        "-1",
        '"a"',
        "and",
        "or",
        "not",
        "in",
        "==",
        "<",
        "null",
        " ",
    ]
)


@given(st.lists(TOKENS, max_size=20))
def test_any_row_of_tokens_is_read_or_refused(tokens: list[str]) -> None:
    with contextlib.suppress(ConfigError):
        holds(parse(" ".join(tokens)), EVENT)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**9), 10**9),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.text(max_size=8),
)
NAMES = st.from_regex(r"[a-z_][a-z0-9_-]{0,6}", fullmatch=True)
PATHS = st.builds(
    lambda steps: Path(("data", *steps)),
    st.lists(st.one_of(NAMES, st.integers(-3, 3), st.text(max_size=5)), max_size=3),
)
LEAVES: st.SearchStrategy[Node] = st.one_of(
    st.builds(Literal, SCALARS),
    PATHS,
    st.builds(lambda each: Items(tuple(each)), st.lists(st.builds(Literal, SCALARS), max_size=3)),
)
SIGNS = st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "in", "not in"])


def _grown(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    return st.one_of(
        st.builds(Compare, SIGNS, LEAVES, LEAVES),
        st.builds(Not, inner),
        st.builds(
            lambda sign, parts: Both(sign, tuple(parts)),
            st.sampled_from(["and", "or"]),
            st.lists(inner, min_size=2, max_size=3),
        ),
    )


EXPRESSIONS = st.recursive(LEAVES, _grown, max_leaves=12)


def written(node: Node) -> str:
    """The expression as a person would write it, with every parenthesis."""
    match node:
        case Literal(value):
            return (
                json.dumps(value, ensure_ascii=False).replace("\\n", "\n")
                if isinstance(value, str)
                else json.dumps(value)
            )
        case Path(steps):
            return str(steps[0]) + "".join(_step(step) for step in steps[1:])
        case Items(values):
            return "[" + ", ".join(map(written, values)) + "]"
        case Compare(sign, left, right):
            return f"{written(left)} {sign} {written(right)}"
        case Not(part):
            return f"not ({written(part)})"
        case Both(sign, parts):
            return f" {sign} ".join(f"({written(part)})" for part in parts)


def _step(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f"[{_quoted(step)}]"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _plain(node: Node) -> bool:
    match node:
        case Literal(value):
            return not isinstance(value, str) or value.isprintable()
        case Path():
            return True
        case Items(parts) | Both(_, parts):
            return all(_plain(part) for part in parts)
        case Compare(_, left, right):
            return _plain(left) and _plain(right)
        case Not(part):
            return _plain(part)


@given(EXPRESSIONS.filter(_plain))
def test_what_is_written_is_read_back(node: Node) -> None:
    assert parse(written(node)) == node


ORDERS = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@given(
    st.integers() | st.floats(allow_nan=False),
    st.integers() | st.floats(allow_nan=False),
    st.sampled_from(sorted(ORDERS)),
)
def test_numbers_compare_as_in_python(left: float, right: float, sign: str) -> None:
    assert holds(Compare(sign, Literal(left), Literal(right)), {}) is ORDERS[sign](left, right)


@given(EXPRESSIONS, st.dictionaries(NAMES, SCALARS, max_size=3))
def test_not_is_the_opposite(node: Node, data: dict[str, Any]) -> None:
    event = {"data": data}
    assert holds(Not(node), event) is (not holds(node, event))
