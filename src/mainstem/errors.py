"""
Every error mainstem raises, named by the question it answers for the caller:

* MainstemError
  - ConfigError            fix your settings
    . Unsupported          this engine cannot; names the engine, the ability and who can
  - Unavailable            it certainly did not happen; try again later
  - OutcomeUnknown         it may or may not have happened; carries the event ids
  - EventRejected          too large, not encodable, bad name: never sent
  - DecodeError            stored bytes that are not the event the reader expects
  - LeaseLost              another worker owns this now; stop, its late results are refused
  - VersionConflict        the stream moved on; reload and decide again
  - PermissionDenied       the credentials or the right to do this are missing

Nothing else belongs here: no policy, no engine names. The engine's own error is kept as ``__cause__``.
"""

from __future__ import annotations

from collections.abc import Sequence


class MainstemError(Exception):
    """Base of every error this package raises; its message is one sentence that says what to do next."""


class ConfigError(MainstemError):
    """Settings, names or specifications that cannot work: fix them before trying again."""


class Unsupported(ConfigError):
    """The engine lacks an ability that the caller asked for; raised before any write."""

    def __init__(self, engine: str, ability: str, instead: str = "") -> None:
        super().__init__(f"the {engine} engine cannot {ability}" + (f"; {instead}" if instead else "."))
        self.engine = engine
        self.ability = ability


class Unavailable(MainstemError):
    """The engine could not do it now, and certainly did not: trying again later is safe."""


class OutcomeUnknown(MainstemError):
    """The reply was lost: the operation may have happened or not. ``ids`` are the event ids it concerns."""

    def __init__(self, message: str, ids: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.ids = tuple(ids)


class EventRejected(MainstemError):
    """The event was refused before it was sent: nothing was stored."""


class DecodeError(MainstemError):
    """Stored bytes are not the event that the reader declared; the bytes themselves are kept."""


class LeaseLost(MainstemError):
    """Another worker owns the event or the partition now; late results of this one are refused."""


class VersionConflict(MainstemError):
    """The stream moved past the version the writer expected: reload and decide again."""

    def __init__(self, stream: str, expected: int, actual: int) -> None:
        super().__init__(f"stream {stream!r} is at version {actual}, not {expected}: reload it and decide again.")
        self.stream = stream
        self.expected = expected
        self.actual = actual


class PermissionDenied(MainstemError):
    """The server refused the credentials or the command."""
