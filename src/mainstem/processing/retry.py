"""When a failed attempt is tried again: the policy, and the decision as a pure function."""

from __future__ import annotations

import random
from dataclasses import dataclass

from mainstem.errors import ConfigError
from mainstem.names import seconds
from mainstem.processing.outcomes import Reject, RetryLater


@dataclass(frozen=True, slots=True)
class RetryAfter:
    """Try again after this many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Move the event to the dead letters."""

    reason: str


class Retry:
    """At most `attempts` attempts, crashes included; between them `base` doubling up to `cap`, with full jitter.

    Full jitter: a uniform draw from 0 to the step ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
    """

    __slots__ = ("attempts", "base", "cap")

    def __init__(self, attempts: int = 5, *, base: float | str = "200ms", cap: float | str = "30s") -> None:
        self.attempts = attempts
        self.base = seconds(base, "base")
        self.cap = seconds(cap, "cap")
        if isinstance(attempts, bool) or attempts < 1:
            raise ConfigError(f"attempts={attempts!r} of Retry must be at least 1: the first attempt counts.")
        if self.cap < self.base:
            raise ConfigError(f"cap={cap!r} of Retry is below base={base!r}: the pauses could not grow.")

    def __repr__(self) -> str:
        return f"Retry({self.attempts}, base={self.base!r}, cap={self.cap!r})"

    def step(self, attempt: int) -> float:
        """The longest pause after this failed attempt, in seconds."""
        return min(self.cap, self.base * 2.0 ** min(attempt - 1, 60))


def next_step(attempt: int, error: BaseException, policy: Retry, draw: float) -> RetryAfter | GiveUp:
    """Choose what follows a failed attempt; `draw` is the jitter, from 0 to 1."""
    if isinstance(error, Reject):
        return GiveUp(_said(error) or "rejected by the handler")
    if attempt >= policy.attempts:
        return GiveUp(f"{type(error).__name__}: {_said(error)}")
    if isinstance(error, RetryLater):
        return RetryAfter(error.after)
    return RetryAfter(policy.step(attempt) * draw)


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - an error's __str__ is a stranger's code
        return "(its text cannot be had)"


def jitter() -> float:
    """A draw for `next_step`."""
    return random.random()
