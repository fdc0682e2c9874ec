"""
The small language of `--where`: `data.price > 500 and key in ["AAPL", "MSFT"]`. A pure parser and a pure evaluator;
nothing is ever executed, and an expression of bounded length cannot take unbounded time or depth.

    expression  := all ("or" all)*          all := one ("and" one)*         one := "not" one | comparison
    comparison  := value [("==" | "!=" | "<" | "<=" | ">" | ">=" | "in" | "not in") value]
    value       := literal | path | "(" expression ")"        literal := number | text | true | false | null | [values]
    path        := name ("." name | "[" (number | text) "]")*          its first name is a field of the event

What is not there is null. Values of different kinds are unequal, and neither is less than the other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeGuard, cast

from mainstem.errors import ConfigError

FIELDS = ("id", "type", "source", "time", "key", "data", "metadata", "stream", "position", "recorded")
LONGEST = 4096  # characters
DEEPEST = 50  # parentheses, lists and nots inside one another

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
    | (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<name>[^\W\d][\w-]*)
    | (?P<sign>==|!=|<=|>=|<|>|\(|\)|\[|\]|\.|,)
    )""",
    re.VERBOSE,
)
_CONSTANTS = {"true": True, "false": False, "null": None}
_WORDS = {"and", "or", "not", "in"}


@dataclass(frozen=True, slots=True)
class Literal:
    """A value written down."""

    value: Any


@dataclass(frozen=True, slots=True)
class Path:
    """A place in the event."""

    steps: tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Items:
    """A list of values."""

    values: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Compare:
    """Two values and what is asked of them."""

    sign: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite."""

    part: Node


@dataclass(frozen=True, slots=True)
class Both:
    """All parts ("and") or one of them ("or") must hold."""

    sign: str
    parts: tuple[Node, ...]


Node: TypeAlias = Literal | Path | Items | Compare | Not | Both


def parse(text: str) -> Node:
    """Read an expression, or raise `ConfigError` that shows where it goes wrong."""
    if len(text) > LONGEST:
        raise ConfigError(f"--where is {len(text):,} characters long, at most {LONGEST:,} are allowed: shorten it.")
    return _Parser(text).whole()


def holds(node: Node, event: Mapping[str, Any]) -> bool:
    """Whether the expression is true of an event; a value alone holds unless it is missing, null or false."""
    return _true(_value(node, event))


def _value(node: Node, event: Mapping[str, Any]) -> Any:
    match node:
        case Literal(value):
            return value
        case Path(steps):
            return _found(event, steps)
        case Items(values):
            return [_value(each, event) for each in values]
        case Not(part):
            return not holds(part, event)
        case Both("and", parts):
            return all(holds(each, event) for each in parts)
        case Both(_, parts):
            return any(holds(each, event) for each in parts)
        case Compare(sign, left, right):
            return _COMPARES[sign](_value(left, event), _value(right, event))


def _found(event: Mapping[str, Any], steps: tuple[str | int, ...]) -> Any:
    here: Any = event
    for step in steps:
        if isinstance(step, str) and isinstance(here, Mapping):
            here = cast("Mapping[str, Any]", here).get(step)
        elif isinstance(step, int) and _is_list(here):
            here = here[step] if -len(here) <= step < len(here) else None
        else:
            return None
    return here


def _true(value: Any) -> bool:
    return value is not None and value is not False


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, bool) != isinstance(right, bool):
        return False  # in Python True == 1
    return bool(left == right)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def ordered(left: Any, right: Any) -> bool:
        if isinstance(left, bool) or isinstance(right, bool):
            return False
        numbers = isinstance(left, int | float) and isinstance(right, int | float)
        return (numbers or (isinstance(left, str) and isinstance(right, str))) and compare(left, right)

    return ordered


def _in(left: Any, right: Any) -> bool:
    if isinstance(right, str):
        return isinstance(left, str) and left in right
    if isinstance(right, Mapping):
        return isinstance(left, str) and left in cast("Mapping[str, Any]", right)
    return _is_list(right) and any(_equal(left, each) for each in right)


def _is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


_COMPARES: dict[str, Callable[[Any, Any], bool]] = {
    "==": _equal,
    "!=": lambda left, right: not _equal(left, right),
    "<": _ordered(lambda left, right: left < right),
    "<=": _ordered(lambda left, right: left <= right),
    ">": _ordered(lambda left, right: left > right),
    ">=": _ordered(lambda left, right: left >= right),
    "in": _in,
    "not in": lambda left, right: not _in(left, right),
}


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # number, text, name, sign, end
    text: str
    at: int


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            raise _wrong(text, len(text) - len(text[at:].lstrip()), "cannot be read")
        kind = str(match.lastgroup)
        yield _Token(kind, match[kind], match.start(kind))
        at = match.end()
    yield _Token("end", "", len(text))


class _Parser:
    """Recursive descent, one method a rule."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(_tokens(text))
        self._at = 0
        self._depth = 0

    def whole(self) -> Node:
        node = self._any()
        if self._next.kind != "end":
            raise self._unexpected("and, or, or the end")
        return node

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _any(self) -> Node:
        parts = [self._all()]
        while self._took("or"):
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else Both("or", tuple(parts))

    def _all(self) -> Node:
        parts = [self._one()]
        while self._took("and"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else Both("and", tuple(parts))

    def _one(self) -> Node:
        if not self._took("not"):
            return self._comparison()
        self._deeper()
        node = Not(self._one())
        self._depth -= 1
        return node

    def _comparison(self) -> Node:
        left = self._single()
        sign = self._sign()
        return left if sign is None else Compare(sign, left, self._single())

    def _sign(self) -> str | None:
        if self._next.kind == "sign" and self._next.text in _COMPARES:
            return self._take().text
        if self._took("in"):
            return "in"
        if self._took("not"):
            if not self._took("in"):
                raise self._unexpected("'in' after 'not'")
            return "not in"
        return None

    def _single(self) -> Node:
        token = self._next
        if token.kind == "number":
            return Literal(_number(self._take().text))
        if token.kind == "text":
            return Literal(_unquoted(self._take().text))
        if token.kind == "name" and token.text in _CONSTANTS:
            return Literal(_CONSTANTS[self._take().text])
        if token.kind == "name" and token.text not in _WORDS:
            return self._path()
        if token.text in ("(", "["):
            return self._enclosed(self._take().text)
        raise self._unexpected("a value")

    def _enclosed(self, opening: str) -> Node:
        self._deeper()
        node = self._any() if opening == "(" else Items(tuple(self._listed()))
        closing = ")" if opening == "(" else "]"
        if not self._took(closing):
            raise self._unexpected(repr(closing))
        self._depth -= 1
        return node

    def _listed(self) -> Iterator[Node]:
        if self._next.text == "]" and self._next.kind == "sign":
            return
        yield self._single()
        while self._took(","):
            yield self._single()

    def _path(self) -> Path:
        first = self._take()
        if first.text not in FIELDS:
            raise _wrong(
                self._text,
                first.at,
                f"{first.text!r} is no field of an event ({', '.join(FIELDS)}): data.{first.text}?",
            )
        steps: list[str | int] = [first.text]
        while True:
            if self._took("."):
                if self._next.kind != "name":
                    raise self._unexpected("a name after '.'")
                steps.append(self._take().text)
            elif self._took("["):
                steps.append(self._index())
            else:
                return Path(tuple(steps))

    def _index(self) -> str | int:
        token = self._take()
        if token.kind not in ("number", "text") or (token.kind == "number" and not token.text.lstrip("-").isdigit()):
            raise _wrong(self._text, token.at, "expected a whole number or a text in [ ]")
        if not self._took("]"):
            raise self._unexpected("']'")
        return int(token.text) if token.kind == "number" else _unquoted(token.text)

    def _took(self, text: str) -> bool:
        if self._next.text != text or self._next.kind not in ("name", "sign"):
            return False
        self._at += 1
        return True

    def _take(self) -> _Token:
        token = self._next
        if token.kind != "end":
            self._at += 1
        return token

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > DEEPEST:
            raise _wrong(self._text, self._next.at, f"is nested more than {DEEPEST} deep")

    def _unexpected(self, wanted: str) -> ConfigError:
        found = repr(self._next.text) if self._next.kind != "end" else "the end"
        return _wrong(self._text, self._next.at, f"expected {wanted}, found {found}")


def _wrong(text: str, at: int, what: str) -> ConfigError:
    shown = text if len(text) <= 80 else text[max(0, at - 40) : at + 40]
    return ConfigError(f"--where {shown!r}: at character {at + 1}: {what}; write for example data.price > 500.")


def _number(text: str) -> int | float:
    return int(text) if text.lstrip("-").isdigit() else float(text)


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[1]), text[1:-1], flags=re.DOTALL)


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
