"""What may be a name of a stream or a group, and durations as people write them. Pure checks; no I/O."""

from __future__ import annotations

import re
from typing import cast

from mainstem.errors import ConfigError, EventRejected

STREAM_NAME_LIMIT = 200  # bytes; leaves room for suffixes within Kafka's 249 and Redis key conventions
_STREAM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*\Z")
_GLOB = re.compile(r"[A-Za-z0-9*?][A-Za-z0-9._:*?-]*\Z")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s|m|h|d|w)\Z")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_ALLOWED = "use letters, digits, '.', '_', '-' and ':', starting with a letter or digit, at most 200 bytes"


def stream_name(name: str) -> str:
    """Return the name, or raise `EventRejected` saying what is wrong with it."""
    return _checked("stream", name, _STREAM)


def group_name(name: str) -> str:
    """Return the name of a consumer group, or raise `EventRejected`."""
    return _checked("group", name, _STREAM)


def stream_glob(glob: str) -> str:
    """Return a pattern of stream names (`*` and `?` are wild), or raise `EventRejected`."""
    return _checked("pattern", glob, _GLOB)


def seconds(value: float | str, what: str) -> float:
    """Read a duration: seconds as a number, or text such as "250ms", "30s", "5m", "2h", "7d".

    Raises `ConfigError` for anything else, and for negative or infinite values.
    """
    if isinstance(value, str):
        match = _DURATION.match(value.strip())
        if match is None:
            raise ConfigError(f"{what}={value!r} is not a duration: write for example 250ms, 30s, 5m, 2h or 7d.")
        value = float(match[1]) * _SECONDS[match[2]]
    given = cast(object, value)
    if not isinstance(given, (int, float)) or isinstance(given, bool) or not 0 <= given < float("inf"):
        raise ConfigError(f"{what}={value!r} is not a duration: give seconds as a number >= 0, or text such as '30s'.")
    return float(given)


def _checked(what: str, name: object, pattern: re.Pattern[str]) -> str:
    if not isinstance(name, str):
        raise EventRejected(f"a {what} name is text, not {type(name).__name__}: {_ALLOWED}.")
    problem = _problem(name, pattern)
    if problem:
        raise EventRejected(f"{what} name {_shown(name)} {problem}: {_ALLOWED}.")
    return name


def _problem(name: str, pattern: re.Pattern[str]) -> str:
    if not name:
        return "is empty"
    if len(name.encode("utf-8", "surrogatepass")) > STREAM_NAME_LIMIT:
        return f"is longer than {STREAM_NAME_LIMIT} bytes"
    if ".." in name:
        return "contains '..'"
    if name.lower().startswith("mainstem:"):
        return "begins with 'mainstem:', which is kept for mainstem itself"
    if not pattern.match(name):
        return "contains a character that is not allowed"
    return ""


def _shown(name: str) -> str:
    text = ascii(name)
    return text if len(text) <= 60 else text[:57] + "...'"
