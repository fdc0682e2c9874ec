"""CloudEvents 1.0 both ways, with the `cloudevents` package as the oracle of what is valid and what it means."""

from __future__ import annotations

import json
import math
import string
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pydantic
import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from mainstem import DecodeError, EventRejected, Metadata, StreamEvent, from_cloudevent, to_cloudevent

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
OWN = {
    "specversion", "id", "source", "type", "time", "partitionkey", "datacontenttype", "data", "subject", "dataschema",
    "correlationid", "causationid", "userid", "traceparent", "tracestate",
}  # fmt: skip
EXTENSION_NAMES = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=20).filter(
    lambda n: n not in OWN
)
EXTENSIONS = st.dictionaries(EXTENSION_NAMES, TEXT | st.booleans() | st.integers(-(2**31), 2**31 - 1), max_size=3)
TIMES = st.datetimes(
    min_value=datetime(1971, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
    max_value=datetime(2200, 1, 1),  # noqa: DTZ001
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-8))]),
)
METADATA = st.builds(
    Metadata,
    correlation_id=st.none() | TEXT,
    causation_id=st.none() | TEXT,
    user_id=st.none() | TEXT,
    traceparent=st.none() | TEXT,
    tracestate=st.none() | TEXT,
    extensions=EXTENSIONS,
)
EVENTS = st.builds(
    StreamEvent[Any],
    data=JSON | st.binary(max_size=50),
    id=TEXT,
    time=TIMES,
    type=TEXT,
    source=TEXT,
    key=st.none() | TEXT,
    metadata=METADATA,
)


def as_the_package_reads_it(mapped: Mapping[str, Any]) -> CloudEvent:
    """Through JSON text, as over a wire; the package refuses what is not CloudEvents 1.0."""
    read = JSONFormat().read(CloudEvent, json.dumps(mapped, allow_nan=False))
    assert isinstance(read, CloudEvent)
    return read


@given(EVENTS)
def test_the_package_reads_what_we_write(event: StreamEvent[Any]) -> None:
    read = as_the_package_reads_it(to_cloudevent(event))
    assert read.get_specversion() == "1.0"
    assert (read.get_id(), read.get_source(), read.get_type()) == (event.id, event.source, event.type)
    assert read.get_time() == event.time
    assert read.get_extension("partitionkey") == event.key
    assert read.get_subject() == event.key
    assert read.get_extension("correlationid") == event.metadata.correlation_id
    assert read.get_extension("traceparent") == event.metadata.traceparent
    for name, value in event.metadata.extensions.items():
        assert read.get_extension(name) == value
    assert read.get_data() == event.data


@given(EVENTS)
def test_we_read_what_the_package_writes(event: StreamEvent[Any]) -> None:
    theirs = as_the_package_reads_it(to_cloudevent(event))
    back = from_cloudevent(json.loads(JSONFormat().write(theirs)))
    assert back == event


@given(EVENTS)
def test_there_and_back_is_the_same_event(event: StreamEvent[Any]) -> None:
    assert from_cloudevent(to_cloudevent(event)) == event


@given(st.dictionaries(st.sampled_from(sorted(OWN)) | TEXT, JSON, max_size=8))
def test_any_json_object_is_an_event_or_a_decode_error(mapped: dict[str, Any]) -> None:
    try:
        event = from_cloudevent({"specversion": "1.0", "id": "1", "source": "/s", "type": "t", **mapped})
    except DecodeError as error:
        assert "\n" not in str(error)  # noqa: PT017
        return
    assert event.id
    assert event.type
    assert event.source


class Struct(msgspec.Struct, tag="tick"):
    price: float


@dataclass
class Record:
    price: float


class Model(pydantic.BaseModel):
    price: float


@pytest.mark.parametrize(
    ("data", "expected"),
    [(Struct(1.5), {"type": "tick", "price": 1.5}), (Record(1.5), {"price": 1.5}), (Model(price=1.5), {"price": 1.5})],
)
def test_typed_data_becomes_plain_json(data: object, expected: dict[str, Any]) -> None:
    mapped = to_cloudevent(StreamEvent(data=data, type="t", source="s"))
    assert mapped["data"] == expected
    assert as_the_package_reads_it(mapped).get_data() == expected


def test_subject_is_kept_where_it_is_not_the_key() -> None:
    mapped = {"specversion": "1.0", "id": "1", "source": "s", "type": "t", "partitionkey": "AAPL", "subject": "other"}
    event = from_cloudevent(mapped)
    assert event.key == "AAPL"
    assert event.metadata.extensions == {"subject": "other"}
    assert to_cloudevent(event)["subject"] == "other"


def test_a_subject_alone_is_the_key() -> None:
    event = from_cloudevent({"specversion": "1.0", "id": "1", "source": "s", "type": "t", "subject": "AAPL"})
    assert event.key == "AAPL"
    assert event.metadata.extensions == {}


@pytest.mark.parametrize("missing", ["id", "source", "type"])
@pytest.mark.parametrize("value", [None, "", 5])
def test_required_attributes(missing: str, value: object) -> None:
    mapped = {"specversion": "1.0", "id": "1", "source": "s", "type": "t", missing: value}
    with pytest.raises(DecodeError, match=f"has no '{missing}'"):
        from_cloudevent(mapped)


@pytest.mark.parametrize("version", [None, "0.3", "1.1", 1.0])
def test_other_versions_are_named(version: object) -> None:
    with pytest.raises(DecodeError, match=r"is not CloudEvents 1\.0: convert it first"):
        from_cloudevent({"specversion": version, "id": "1", "source": "s", "type": "t"})


@pytest.mark.parametrize("time", ["yesterday", 5, "2026-13-01T00:00:00Z"])
def test_a_bad_time_is_named(time: object) -> None:
    with pytest.raises(DecodeError, match="is not RFC 3339"):
        from_cloudevent({"specversion": "1.0", "id": "1", "source": "s", "type": "t", "time": time})


def test_bad_base64_is_named() -> None:
    with pytest.raises(DecodeError, match="data_base64 of CloudEvent '1' is not base64"):
        from_cloudevent({"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data_base64": "*"})


@pytest.mark.parametrize(
    "name", ["", "Upper", "with-dash", "with_low", "ünï", "id", "data", "correlationid", "partitionkey"]
)
def test_extension_names_that_cloudevents_has_no_place_for(name: str) -> None:
    event = StreamEvent(data=1, type="t", source="s", metadata=Metadata(extensions={name: "x"}))
    with pytest.raises(EventRejected, match="cannot be a CloudEvents attribute"):
        to_cloudevent(event)


@pytest.mark.parametrize("attributes", [{"type": "t"}, {"source": "s"}, {}])
def test_type_and_source_are_needed(attributes: dict[str, str]) -> None:
    with pytest.raises(EventRejected, match="needs a type and a source"):
        to_cloudevent(StreamEvent(data=1, **attributes))


def test_nothing_is_written_that_json_cannot_carry() -> None:
    mapped = to_cloudevent(StreamEvent(data={"a": 1}, type="t", source="s"))
    with pytest.raises(ValueError, match="not JSON compliant"):
        json.dumps({**mapped, "data": math.nan}, allow_nan=False)
