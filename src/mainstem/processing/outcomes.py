"""What a handler may raise to decide its event's fate."""

from __future__ import annotations

from collections.abc import Mapping

from mainstem.names import seconds


class Outcome(Exception):
    """A decision about an event, raised by its handler."""


class RetryLater(Outcome):
    """Try again after some seconds; counts as an attempt."""

    def __init__(self, after: float | str, reason: str = "") -> None:
        self.after = seconds(after, "after")
        super().__init__(reason or f"the handler asked to be called again after {self.after:g} s")


class Reject(Outcome):
    """Give the event up at once: it goes to the group's dead letters with this reason."""


class Skip(Outcome):
    """Acknowledge the event without a result."""


class BatchFailed(Outcome):
    """Some events of a batch failed: `{position: error}`. The others count as handled."""

    def __init__(self, failures: Mapping[str, BaseException]) -> None:
        self.failures = dict(failures)
        super().__init__(f"{len(self.failures)} of a batch failed")
