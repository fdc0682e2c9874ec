"""Data to bytes and back, a class a kind: what is kept, what is refused before sending, what cannot be read."""

from __future__ import annotations

import dataclasses
import json
import math
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Literal, TypedDict, Union
from uuid import UUID

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstem.errors import DecodeError, EventRejected
from mainstem.payload import payload_of, type_name


class Tick(msgspec.Struct):
    symbol: str
    price: float


class Buy(msgspec.Struct, tag="buy"):
    amount: int


class Sell(msgspec.Struct, tag="sell"):
    amount: int


@dataclasses.dataclass
class Trade:
    symbol: str
    legs: list[Tick]
    note: str | None = None


class Order(pydantic.BaseModel):
    symbol: str
    amount: int = pydantic.Field(gt=0)
    price: float | None = None


class Row(TypedDict):
    symbol: str
    price: float


class Side(Enum):
    BUY = "buy"


NESTED: dict[str, Any] = {"a": [1, 2.5, None, {"b": "ü"}], "c": True}
TRADE = Trade("A", [Tick("A", 1.0)])
GOOD: list[tuple[Any, Any, Any]] = [
    (None, NESTED, NESTED),
    (dict, NESTED, NESTED),
    (Any, [1, "x"], [1, "x"]),
    (None, None, None),
    (None, "text", "text"),
    (None, 3, 3),
    (None, Tick("A", 1.0), {"symbol": "A", "price": 1.0}),
    (None, Order(symbol="A", amount=1), {"symbol": "A", "amount": 1, "price": None}),
    (None, {"o": Order(symbol="A", amount=1)}, {"o": {"symbol": "A", "amount": 1, "price": None}}),
    (None, {"d": Decimal("1.10")}, {"d": "1.10"}),
    (None, {"t": datetime(2026, 1, 2, tzinfo=UTC)}, {"t": "2026-01-02T00:00:00Z"}),
    (None, {"u": UUID(int=1)}, {"u": "00000000-0000-0000-0000-000000000001"}),
    (None, {"e": Side.BUY}, {"e": "buy"}),
    (None, (1, 2), [1, 2]),
    (None, {"s": {1}}, {"s": [1]}),
    (None, {1: "x"}, {"1": "x"}),
    (None, 2**64 - 1, 2**64 - 1),
    (None, -(2**63), -(2**63)),
    (bytes, b"\x00\xff", b"\x00\xff"),
    (bytes, bytearray(b"ab"), b"ab"),
    (bytes, memoryview(b"ab"), b"ab"),
    (bytes, b"", b""),
    (Tick, Tick("A", 1.0), Tick("A", 1.0)),
    (Tick, {"symbol": "A", "price": 1}, Tick("A", 1.0)),
    (Trade, TRADE, TRADE),
    (Trade, {"symbol": "A", "legs": []}, Trade("A", [])),
    (Order, Order(symbol="A", amount=1), Order(symbol="A", amount=1)),
    (Order, {"symbol": "A", "amount": "1"}, Order(symbol="A", amount=1)),
    (Row, {"symbol": "A", "price": 1.0}, {"symbol": "A", "price": 1.0}),
    (Union[Buy, Sell], Sell(2), Sell(2)),  # noqa: UP007 - written both ways
    (Buy | Sell, {"type": "buy", "amount": 1}, Buy(1)),
    (list[Tick], [Tick("A", 1.0)], [Tick("A", 1.0)]),
    (int, 5, 5),
    (str, "x", "x"),
    (Literal["a", "b"], "a", "a"),
    (datetime, datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)),
]


@pytest.mark.parametrize(("of", "data", "read"), GOOD)
def test_what_is_written_is_read(of: Any, data: Any, read: Any) -> None:
    payload = payload_of(of)
    value, raw = payload.encode(data)
    assert payload.decode(raw) == read
    if of not in (None, dict, Any):
        assert value == read, "the key function and the caller see what a reader will see"
        json.loads(raw) if of is not bytes else None


BAD: list[tuple[Any, Any, str]] = [
    (None, {"x": object()}, "object"),
    (None, {"x": lambda: 0}, "function"),
    (None, {"x": 1j}, "complex"),
    (None, b"raw", "bytes are not JSON: declare the stream with bytes"),
    (None, "\ud800", "surrogates not allowed"),
    (None, {"a": ["\udfff"]}, "surrogates not allowed"),
    (None, {"\ud800": 1}, "surrogates not allowed"),
    (None, math.nan, "data is NaN or infinite"),
    (None, {"a": math.inf}, "data.a is NaN or infinite"),
    (None, {"a": [1, {"b": -math.inf}]}, "data.a[1].b is NaN or infinite"),
    (None, {"a": (math.nan,)}, "data.a[0] is NaN or infinite"),
    (None, {"a": {math.nan}}, "data.a[0] is NaN or infinite"),
    (None, Tick("A", math.nan), "data.price is NaN or infinite"),
    (None, Trade("A", [Tick("A", math.inf)]), "data.legs[0].price is NaN or infinite"),
    (None, Order(symbol="A", amount=1, price=math.nan), "data.price is NaN or infinite"),
    (bytes, "text", "carries bytes, not str"),
    (bytes, {"a": 1}, "carries bytes, not dict"),
    (Tick, Tick("A", math.nan), "data.price is NaN or infinite"),
    (Tick, Tick("A", "dear"), "Expected `float`, got `str` - at `$.price`"),  # type: ignore[arg-type]
    (Tick, {"symbol": "A"}, "missing required field `price`"),
    (Tick, Trade("A", []), "this stream carries Tick, not Trade"),
    (Tick, 5, "this stream carries Tick, not int: 5"),
    (Tick, None, "this stream carries Tick, not NoneType"),
    (Tick, [Tick("A", 1.0)], "this stream carries Tick, not list"),
    (Trade, Trade("A", [Tick("A", math.nan)]), "data.legs[0].price is NaN or infinite"),
    (Trade, {"symbol": 5, "legs": []}, "Expected `str`, got `int` - at `$.symbol`"),
    (Order, {"symbol": "A", "amount": 0}, "data is not a valid Order"),
    (Order, {"symbol": "A"}, "data is not a valid Order"),
    (Order, Order(symbol="A", amount=1, price=math.inf), "data.price is NaN or infinite"),
    (Order, Order.model_construct(symbol="A", amount=-1), "data is not a valid Order"),
    (Order, 5, "data is not a valid Order"),
    (Row, {"symbol": "A"}, "missing required field `price`"),
    (Buy | Sell, Tick("A", 1.0), "data is not a valid"),
    (Buy | Sell, {"type": "hold"}, "Invalid value 'hold'"),
    (list[Tick], [5], "Expected `object`, got `int`"),
    (int, "5", "Expected `int`, got `str`"),
]  # fmt: skip


@pytest.mark.parametrize(("of", "data", "said"), BAD)
def test_what_cannot_be_sent_is_refused_in_one_line(of: Any, data: Any, said: str) -> None:
    with pytest.raises(EventRejected) as caught:
        payload_of(of).encode(data)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_data_that_contains_itself_is_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(EventRejected, match="cannot be encoded as JSON: maximum recursion depth"):
        payload_of(None).encode(circle)


READERS: list[Any] = [None, bytes, Tick, Trade, Order, Row, Buy | Sell, list[Tick], int, datetime]


@pytest.mark.parametrize("of", READERS, ids=str)
@given(raw=st.binary(max_size=60) | st.text(max_size=30).map(lambda t: json.dumps(t).encode()))
def test_any_bytes_are_data_or_a_decode_error(of: Any, raw: bytes) -> None:
    try:
        payload_of(of).decode(raw)
    except DecodeError as error:
        assert str(error).startswith("the stored data is not")  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017


@pytest.mark.parametrize("of", [r for r in READERS if r is not bytes], ids=str)
@pytest.mark.parametrize(
    "raw", [b"", b"{", b"\xff\xfe", b"nul", b"[" * 100_000, b'"\\ud800"', b"NaN", b'{"symbol":', b"1 2", b"\x00"]
)
def test_broken_json_is_a_decode_error(of: Any, raw: bytes) -> None:
    with pytest.raises(DecodeError):
        payload_of(of).decode(raw)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_json_comes_back_equal(data: Any) -> None:
    payload = payload_of(None)
    assert payload.decode(payload.encode(data)[1]) == data


@given(JSON, st.sampled_from([math.nan, math.inf, -math.inf]), st.integers(0, 4))
def test_nan_is_found_wherever_it_is(around: Any, bad: float, depth: int) -> None:
    data: Any = {"here": bad}
    for _ in range(depth):
        data = [around, {"in": data}]
    with pytest.raises(EventRejected, match="NaN or infinite"):
        payload_of(None).encode(data)


@pytest.mark.parametrize("text", ["null", "a null b", "NaN", "Infinity"])
def test_the_words_themselves_are_text(text: str) -> None:
    payload = payload_of(None)
    assert payload.decode(payload.encode({"a": text, "b": None})[1]) == {"a": text, "b": None}


@pytest.mark.parametrize(
    ("of", "name"),
    [(None, None), (dict, None), (Any, None), (bytes, "bytes"), (Tick, "Tick"), (Buy, "buy"), (Trade, "Trade"),
     (Order, "Order"), (Row, "Row"), (Union[Buy, Sell], "buy|sell"), (int, "int")],  # noqa: UP007
)  # fmt: skip
def test_the_name_that_is_stored_with_the_stream(of: Any, name: str | None) -> None:
    assert payload_of(of).type == name


@pytest.mark.parametrize(
    ("data", "name"),
    [({}, "event"), (5, "event"), (None, "event"), (b"", "event"), (Tick("A", 1.0), "Tick"), (Buy(1), "buy"),
     (TRADE, "Trade"), (Order(symbol="A", amount=1), "Order")],
)  # fmt: skip
def test_the_default_type_of_an_event(data: object, name: str) -> None:
    assert type_name(data) == name
