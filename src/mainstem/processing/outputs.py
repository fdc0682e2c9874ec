"""What a handler returns becomes an event of the same chain, under an id derived from its input's. Pure."""

from __future__ import annotations

from typing import Any

import msgspec
import uuid_utils

from mainstem.event import Received, StreamEvent

_SPACE = uuid_utils.UUID("0192f0c1-7f6e-7d3a-9a51-5d2c1e8b7a10")  # of ids derived by mainstem


def output_of(cause: Received[Any], result: Any, group: str, handler: str) -> StreamEvent[Any]:
    """The event to publish for `result`; the same input, group and handler always give the same id."""
    if isinstance(result, StreamEvent):
        return result  # pyright: ignore[reportUnknownVariableType] - whatever it carries
    made = cause.caused(data=result)
    return msgspec.structs.replace(made, id=derived_id(cause, group, handler))


def derived_id(cause: Received[Any], group: str, handler: str) -> str:
    """A UUIDv5 (RFC 9562) of the input's stream and id, the group, and the handler's name."""
    return str(uuid_utils.uuid5(_SPACE, f"{cause.stream}\n{cause.id}\n{group}\n{handler}"))
