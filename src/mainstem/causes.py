"""Why an event was given up, as it is written into a dead letter. Pure."""

from __future__ import annotations

import hashlib
import os
import socket
import time
import traceback
from collections.abc import Mapping

import msgspec

from mainstem.engine import Delivery

TRACEBACK_LIMIT = 16_000  # characters kept


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON object stored with a dead letter."""

    reason: str
    error: str = ""
    traceback: str = ""
    fingerprint: str = ""  # equal for failures of the same kind at the same place
    attempts: int = 0
    group: str = ""
    handler: str = ""
    stream: str = ""
    partition: int = 0
    position: str = ""
    host: str = ""
    pid: int = 0
    at: float = 0.0  # Unix seconds
    extra: Mapping[str, str] = {}


def cause_of(
    delivery: Delivery,
    error: BaseException | None,
    *,
    position: str,
    reason: str,
    attempts: int,
    group: str,
    handler: str,
) -> bytes:
    """Describe why `delivery`, at the public `position`, is given up after `attempts` attempts."""
    trace = "".join(traceback.format_exception(error)) if error is not None else ""
    cause = Cause(
        reason=reason[:2000],
        error=type(error).__name__ if error is not None else "",
        traceback=trace[-TRACEBACK_LIMIT:],
        fingerprint=fingerprint(error) if error is not None else "",
        attempts=attempts,
        group=group,
        handler=handler,
        stream=delivery.part[0],
        partition=delivery.part[1],
        position=position,
        host=socket.gethostname(),
        pid=os.getpid(),
        at=time.time(),
    )
    return msgspec.json.encode(_printable(cause))


def fingerprint(error: BaseException) -> str:
    """A short hash of the error's type and the places its traceback passes."""
    places = [f"{frame.name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    return hashlib.sha256("\n".join([type(error).__qualname__, *places]).encode()).hexdigest()[:12]


def _printable(cause: Cause) -> Cause:
    """Lone surrogates in messages cannot be stored as UTF-8."""
    return msgspec.structs.replace(
        cause,
        reason=cause.reason.encode("utf-8", "backslashreplace").decode(),
        traceback=cause.traceback.encode("utf-8", "backslashreplace").decode(),
    )
