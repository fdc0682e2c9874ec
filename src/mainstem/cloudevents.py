"""CloudEvents 1.0, JSON format, mapped both ways. Dictionaries in and out: no SDK is needed at run time.

Source: CloudEvents specification 1.0.2, "JSON Event Format" and the "Partitioning" extension.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from mainstem.errors import DecodeError, EventRejected
from mainstem.event import Metadata, Scalar, StreamEvent, now
from mainstem.payload import AnyJson

_CHAIN = {
    "correlationid": "correlation_id",
    "causationid": "causation_id",
    "userid": "user_id",
    "traceparent": "traceparent",
    "tracestate": "tracestate",
}
_TEXTS = {*_CHAIN, "partitionkey", "subject", "datacontenttype"}
_OWN = {"specversion", "id", "source", "type", "time", "partitionkey", "datacontenttype", "data", "data_base64"}


def to_cloudevent(event: StreamEvent[Any]) -> dict[str, Any]:
    """Map an event to a CloudEvents 1.0 JSON object; `key` becomes `partitionkey`, and `subject` unless one is given.

    Raises `EventRejected` where CloudEvents has no place for it: an extension name that is not lower-case
    alphanumeric, a fraction as its value, a time without a zone, or an empty `type` or `source`.
    """
    if not event.type or not event.source:
        raise EventRejected(f"event {event.id} needs a type and a source to be a CloudEvent: give both.")
    if event.time.tzinfo is None:
        raise EventRejected(f"time {event.time.isoformat()} of event {event.id} has no time zone: give an aware one.")
    mapped: dict[str, Any] = {"specversion": "1.0", "id": event.id, "source": event.source, "type": event.type}
    mapped["time"] = event.time.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if event.key:
        mapped |= {"partitionkey": event.key, "subject": event.key}
    for name, attribute in _CHAIN.items():
        value = getattr(event.metadata, attribute)
        if value is not None:
            mapped[name] = value
    for name, extension in event.metadata.extensions.items():
        if isinstance(extension, float):
            raise EventRejected(f"extension {name!r} is {extension!r}: CloudEvents has no fractions, send a text.")
        mapped[_extension_name(name)] = extension
    return mapped | _data_of(event.data)


def from_cloudevent(mapped: Mapping[str, Any]) -> StreamEvent[Any]:
    """Map a CloudEvents 1.0 JSON object to an event; unknown attributes become metadata extensions.

    Raises `DecodeError` when a required attribute is missing, or any is malformed. A null means absent.
    """
    mapped = {name: value for name, value in mapped.items() if value is not None}
    if mapped.get("specversion") != "1.0":
        raise DecodeError(f"specversion {mapped.get('specversion')!r} is not CloudEvents 1.0: convert it first.")
    for required in ("id", "source", "type"):
        if not isinstance(mapped.get(required), str) or not mapped[required]:
            raise DecodeError(f"the CloudEvent has no {required!r}: it is required to be a non-empty text.")
    for name, value in mapped.items():
        wanted = str if name in _TEXTS else (str, int, float, bool)
        if name not in ("data", "data_base64") and not isinstance(value, wanted):
            raise DecodeError(f"{name} {value!r:.60} of CloudEvent {mapped['id']!r} is not of its type: send a text.")
    key = mapped.get("partitionkey", mapped.get("subject"))
    chain = {attribute: mapped[name] for name, attribute in _CHAIN.items() if name in mapped}
    extensions: dict[str, Scalar] = {
        name: value
        for name, value in mapped.items()
        if name not in _OWN and name not in _CHAIN and not (name == "subject" and value == key)
    }
    return StreamEvent(
        id=mapped["id"],
        source=mapped["source"],
        type=mapped["type"],
        time=_time_of(mapped),
        key=key,
        data=_payload_of(mapped),
        metadata=Metadata(**chain, extensions=extensions),
    )


def _extension_name(name: str) -> str:
    if not (name.isascii() and name.isalnum() and name == name.lower()) or name in _OWN or name in _CHAIN:
        raise EventRejected(f"extension {name!r} cannot be a CloudEvents attribute: use unused lower-case a-z and 0-9.")
    return name


def _data_of(data: Any) -> dict[str, Any]:
    if data is None:
        return {}
    if isinstance(data, bytes):
        return {"datacontenttype": "application/octet-stream", "data_base64": base64.b64encode(data).decode()}
    _, raw = AnyJson().encode(data)  # refuses what JSON cannot carry
    return {"datacontenttype": "application/json", "data": msgspec.json.decode(raw)}


def _payload_of(mapped: Mapping[str, Any]) -> Any:
    if "data_base64" not in mapped:
        return mapped.get("data")
    try:
        return base64.b64decode(mapped["data_base64"], validate=True)
    except (ValueError, TypeError) as error:
        raise DecodeError(f"data_base64 of CloudEvent {mapped['id']!r} is not base64: {error}.") from error


def _time_of(mapped: Mapping[str, Any]) -> datetime:
    if "time" not in mapped:
        return now()
    try:
        time = datetime.fromisoformat(mapped["time"])
    except (ValueError, TypeError) as error:
        raise DecodeError(f"time {mapped['time']!r} of CloudEvent {mapped['id']!r} is not RFC 3339.") from error
    if time.tzinfo is None:
        raise DecodeError(f"time {mapped['time']!r} of CloudEvent {mapped['id']!r} has no offset: RFC 3339 needs one.")
    return time
