"""Exit codes, and which error ends with which. Scripts rely on them: a code never changes its meaning."""

from __future__ import annotations

from mainstem.errors import ConfigError, EventRejected, MainstemError, OutcomeUnknown, PermissionDenied, Unavailable

OK = 0
FAILED = 1
USAGE = 2
UNAVAILABLE = 3
UNKNOWN = 4
REJECTED = 5
DENIED = 6
INTERRUPTED = 130

MEANINGS = """\b
Exit codes:
  0    done
  1    failed, or done in part: the report says what is missing
  2    wrong usage, name or setting: nothing was changed
  3    the server is not available: try again later
  4    the outcome is unknown: it may have happened
  5    the event was rejected: never sent
  6    the server refused the credentials or the right
  130  interrupted (Ctrl-C)"""

_CODES = (
    (ConfigError, USAGE),
    (Unavailable, UNAVAILABLE),
    (OutcomeUnknown, UNKNOWN),
    (EventRejected, REJECTED),
    (PermissionDenied, DENIED),
)


def code_of(error: MainstemError) -> int:
    """The exit code of a command that ended with this error."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), FAILED)
