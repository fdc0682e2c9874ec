"""
How data becomes bytes and back: JSON through msgspec for dictionaries, Structs and dataclasses, pydantic's own JSON
for its models, bytes as they are. One class a kind; nothing here knows events, streams or engines.
"""

from __future__ import annotations

import dataclasses
import math
import re
import types
from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar, Union, cast, get_args, get_origin

import msgspec
import msgspec.inspect

from mainstem.errors import ConfigError, DecodeError, EventRejected

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Payload(Protocol[T_co]):
    """Encodes and validates the data of one stream."""

    @property
    def type(self) -> str | None:
        """The name stored in the stream's specification; None: any JSON."""
        ...

    @property
    def decoder(self) -> Callable[[bytes], T_co]:
        """What `decode` calls, for hot paths: raises errors of its own."""
        ...

    def encode(self, data: object) -> tuple[T_co, bytes]:
        """The data as the reader will see it, and its bytes; `EventRejected` if it cannot be."""
        ...

    def decode(self, raw: bytes) -> T_co:
        """The data; `DecodeError` if the bytes are not of this type."""
        ...


def payload_of(of: Any) -> Payload[Any]:
    """Choose by type: None, dict or Any take any JSON; bytes stay as they are; anything else is validated."""
    if of is None or of is Any or of is dict:
        return AnyJson()
    if of is bytes:
        return Raw()
    if hasattr(of, "model_validate_json"):
        return Pydantic(of)
    if not isinstance(of, type) and not hasattr(of, "__name__") and get_origin(of) is None:
        raise ConfigError(f"{of!r:.80} cannot be the type of a stream: give a class, a union of classes, or bytes.")
    return Typed(of)


def type_name(data: object) -> str:
    """The default `type` of an event: the tag or class name of typed data, else "event"."""
    cls = type(data)
    name = _NAMES.get(cls)
    if name is None:
        name = _class_name(cls) if _is_record(cls) else "event"
        _NAMES[cls] = name
    return name


class AnyJson:
    """Any JSON value, and objects that have one obvious JSON form."""

    type: str | None = None

    def __init__(self) -> None:
        self.decoder = _ANY

    def encode(self, data: object) -> tuple[Any, bytes]:
        if isinstance(data, (bytes, bytearray, memoryview)):
            raise EventRejected(
                "bytes are not JSON: declare the stream with bytes as its type, app.stream(name, bytes)."
            )
        return data, _encode(data)

    def decode(self, raw: bytes) -> Any:
        return _decoded(self.decoder, raw, "JSON")


class Raw:
    """Bytes as they are."""

    type: str | None = "bytes"
    decoder = bytes

    def encode(self, data: object) -> tuple[bytes, bytes]:
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise EventRejected(f"this stream carries bytes, not {type(data).__name__}: encode the data first.")
        raw = bytes(cast("bytes | bytearray", data))
        return raw, raw

    def decode(self, raw: bytes) -> bytes:
        return raw


class Typed(Generic[T]):
    """A msgspec Struct, a dataclass, a TypedDict, a union or any other type that msgspec validates."""

    def __init__(self, of: Any) -> None:
        self.type: str | None = _type_expression(of)
        self._class = of if isinstance(of, type) and _is_record(of) else None
        self._to_json = _encode if _may_hide_nan(of) else _to_json
        try:
            self.decoder: Callable[[bytes], T] = msgspec.json.Decoder(of).decode
        except TypeError as error:
            raise ConfigError(f"{of!r} cannot be the type of a stream: {_first_line(error)}.") from error

    def encode(self, data: object) -> tuple[T, bytes]:
        known = data.__class__ is self._class
        if not known and self._class is not None and not isinstance(data, (self._class, Mapping)):
            raise EventRejected(f"this stream carries {self.type}, not {type(data).__name__}: {_short(data)}.")
        try:
            raw = self._to_json(data)
            value = self.decoder(raw)
        except Exception as error:  # a __post_init__ is a stranger's code
            raise self._refusal(data, error) from error
        return (cast(T, data) if known else value), raw

    def decode(self, raw: bytes) -> T:
        return _decoded(self.decoder, raw, self.type)

    def _refusal(self, data: object, error: Exception) -> EventRejected:
        """Say what is wrong with data that cannot be encoded, or would not be read back."""
        if isinstance(error, EventRejected):
            return error
        try:
            _encode(data)
        except EventRejected as refused:
            return refused
        return EventRejected(f"data is not a valid {self.type}: {_first_line(error)}.")


class Pydantic(Generic[T]):
    """A pydantic model; pydantic itself is the user's."""

    def __init__(self, model: Any) -> None:
        self.type: str | None = str(model.__name__)
        self._model = model
        self.decoder: Callable[[bytes], T] = model.model_validate_json

    def encode(self, data: object) -> tuple[T, bytes]:
        try:
            value = cast(Any, data) if isinstance(data, self._model) else self._model.model_validate(data)
            raw = value.model_dump_json(by_alias=True).encode()
            _refuse_non_finite(value.model_dump(mode="json"))
            return self._model.model_validate_json(raw), raw  # what is stored is what a reader can read
        except EventRejected:
            raise
        except Exception as error:  # validators are a stranger's code
            raise EventRejected(f"data is not a valid {self.type}: {_first_line(error)}.") from error

    def decode(self, raw: bytes) -> T:
        return _decoded(self.decoder, raw, self.type)


_NAMES: dict[type, str] = {}
_NULL = re.compile(b"null").search  # half the time of `in`
_ANY: Callable[[bytes], Any] = msgspec.json.Decoder().decode


def _jsonable(data: Any) -> Any:
    if hasattr(data, "model_dump"):
        return data.model_dump(mode="json")
    raise TypeError(f"{type(data).__name__} has no JSON form")


_to_json = msgspec.json.Encoder(enc_hook=_jsonable).encode


def _encode(data: object) -> bytes:
    try:
        raw = _to_json(data)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise EventRejected(f"data cannot be encoded as JSON: {_first_line(error)}.") from error
    if _NULL(raw):
        _refuse_non_finite(msgspec.to_builtins(data, enc_hook=_jsonable))
    return raw


def _refuse_non_finite(plain: object) -> None:
    """JSON has no NaN; msgspec and pydantic write null for it, which would change the event silently."""
    try:
        where = _non_finite(plain, "data")
    except RecursionError as error:
        raise EventRejected("data is nested too deeply for JSON: flatten it.") from error
    if where:
        raise EventRejected(f"{where} is NaN or infinite, which JSON cannot carry: send null or leave it out.")


def _may_hide_nan(of: Any) -> bool:
    """Whether null is valid where a float may stand: only then can a NaN, written as null, be read back unnoticed."""
    try:
        return _takes_null_for_float(msgspec.inspect.type_info(of), set())
    except Exception:  # noqa: BLE001 - what cannot be looked into is checked event by event
        return True


def _takes_null_for_float(info: msgspec.inspect.Type, seen: set[Any]) -> bool:
    kinds = msgspec.inspect
    inner: tuple[msgspec.inspect.Type, ...] = ()
    if isinstance(info, (kinds.StructType, kinds.DataclassType, kinds.TypedDictType, kinds.NamedTupleType)):
        if info.cls in seen:
            return False
        seen.add(info.cls)
        inner = tuple(field.type for field in info.fields)
    elif isinstance(info, kinds.UnionType):
        members = {type(member) for member in info.types}
        if kinds.NoneType in members and kinds.FloatType in members:
            return True
        inner = info.types
    elif isinstance(info, kinds.DictType):
        inner = (info.key_type, info.value_type)
    elif isinstance(info, kinds.TupleType):
        inner = info.item_types
    elif isinstance(info, kinds.CollectionType):
        inner = (info.item_type,)
    else:
        return isinstance(info, (kinds.AnyType, kinds.CustomType, kinds.RawType, kinds.ExtType))
    return any(_takes_null_for_float(each, seen) for each in inner)


def _non_finite(value: Any, path: str) -> str:
    if isinstance(value, float):
        return "" if math.isfinite(value) else path
    if isinstance(value, dict):
        inside = ((f"{path}.{name}", item) for name, item in cast("dict[str, Any]", value).items())
    elif isinstance(value, (list, tuple)):
        inside = ((f"{path}[{at}]", item) for at, item in enumerate(cast("list[Any]", value)))
    else:
        return ""
    return next((found for where, item in inside if (found := _non_finite(item, where))), "")


def _decoded(decode: Callable[[bytes], T], raw: bytes, name: str | None) -> T:
    try:
        return decode(raw)
    except Exception as error:  # validators and __post_init__ are a stranger's code: what they refuse is not lost
        raise DecodeError(f"the stored data is not {name}: {_first_line(error)}.") from error


def _is_record(cls: type[Any]) -> bool:
    return issubclass(cls, msgspec.Struct) or dataclasses.is_dataclass(cls) or hasattr(cls, "model_validate_json")


def _class_name(cls: Any) -> str:
    config = getattr(cls, "__struct_config__", None)
    tag = getattr(config, "tag", None)
    return str(tag) if tag is not None else str(cls.__name__)


def _type_expression(of: Any) -> str:
    """The same text for the same type, whatever the Python and whichever module (`__main__`) it was loaded as."""
    origin = get_origin(of)
    if origin is None:
        return _class_name(of) if hasattr(of, "__name__") else repr(of)
    if origin in (Union, types.UnionType):
        return "|".join(sorted(map(_type_expression, get_args(of))))
    return f"{_type_expression(origin)}[{', '.join(map(_type_expression, get_args(of)))}]"


def _first_line(error: BaseException) -> str:
    text = str(error).strip().split("\n", 1)[0] or type(error).__name__
    return text.rstrip(".")


def _short(data: object) -> str:
    text = ascii(data)
    return text if len(text) <= 80 else text[:77] + "..."
