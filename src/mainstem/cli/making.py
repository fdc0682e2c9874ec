"""From one line of input to one event, or `EventRejected` with the reason: pure, so a broken line stops no other."""

from __future__ import annotations

import base64
import binascii
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from mainstem.engine import StreamSpec
from mainstem.errors import EventRejected
from mainstem.event import NO_METADATA, Metadata, StreamEvent, new_id, now

_NAMESPACE = uuid.UUID("6b0d1f6e-5c0a-5d6f-9b55-0f3c5d0c7a11")
_BOM = b"\xef\xbb\xbf"


class EventLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole event as a line, the way `tail -o ndjson` prints it; what the stream it came from gave it is ignored."""

    data: Any
    id: str | None = None
    type: str = ""
    source: str = ""
    time: datetime | None = None
    key: str | None = None
    metadata: Metadata = NO_METADATA
    stream: Any = None
    position: Any = None
    recorded: Any = None
    attempt: Any = None


@dataclass(frozen=True, slots=True)
class Making:
    """What is said on the command line about every event."""

    spec: StreamSpec
    events: bool = False  # lines are whole events, not data alone
    type: str = ""
    source: str = ""
    key: str | None = None
    key_field: str = ""  # path in the data whose value is the key
    origin: str = ""  # the file's path; with it ids are derived, so that a repeat can be recognised


def event_of(raw: bytes | None, number: int, making: Making) -> StreamEvent[Any] | None:
    """The event of a line; None for an empty line. Raises `EventRejected`."""
    if raw is None:
        raise EventRejected("is longer than 16 MiB.")
    raw = raw.removesuffix(b"\r")
    if number == 1:
        raw = raw.removeprefix(_BOM)
    if not raw.strip():
        return None
    named = _derived_id(making, number, raw) if making.origin else new_id()
    if making.events:
        return _whole(_json(raw, EventLine), named, making)
    data = raw if making.spec.type == "bytes" else _json(raw, Any)
    return StreamEvent(id=named, data=data, type=_type(making), source=making.source, key=_key(data, making))


def _whole(line: EventLine, named: str, making: Making) -> StreamEvent[Any]:
    data = _unpacked(line.data) if making.spec.type == "bytes" else line.data
    return StreamEvent(
        id=line.id or named,
        data=data,
        time=line.time or now(),
        type=line.type or _type(making),
        source=line.source or making.source,
        key=line.key if line.key is not None else _key(data, making),
        metadata=line.metadata,
    )


def _json(raw: bytes, of: Any) -> Any:
    try:
        return msgspec.json.decode(raw, type=of)
    except RecursionError:
        raise EventRejected("is nested too deeply.") from None
    except msgspec.ValidationError as error:
        raise EventRejected(f"is not an event: {error} (fields: id type source time key data metadata).") from error
    except (ValueError, msgspec.MsgspecError) as error:
        raise EventRejected(f"is not JSON: {error}.") from error


def _unpacked(data: Any) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise EventRejected(f"carries bytes, so data must be base64: {error}.") from error


def _type(making: Making) -> str:
    """A stream of one named type says what its events are."""
    named = making.spec.type if making.spec.type and making.spec.type != "bytes" else ""
    return making.type or (named if named.isidentifier() else "")


def _key(data: Any, making: Making) -> str | None:
    if not making.key_field:
        return making.key
    value = data
    for step in making.key_field.split("."):
        value = value.get(step) if isinstance(value, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise EventRejected(f"has no text or whole number at {making.key_field!r} to be its key.")
    return str(value)


def _derived_id(making: Making, number: int, raw: bytes) -> str:
    name = f"{making.spec.name}\n{making.origin}\n{number}\n{raw.decode('utf-8', 'backslashreplace')}"
    return str(uuid.uuid5(_NAMESPACE, name))
