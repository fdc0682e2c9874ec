"""From a URL to an open engine. Engines are loaded here by name, so that importing mainstem loads none of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Literal, cast
from urllib.parse import urlsplit

from mainstem.engine import Engine
from mainstem.errors import ConfigError, Unsupported

Opener = Callable[..., Awaitable[Engine]]
Durability = Literal["server", "disk"]
"""What an acknowledged publish has survived: "server": as the server is set; "disk": an fsync before the reply."""

_BUILT_IN = {
    "memory": "mainstem.engines.memory:open_engine",
    "embedded": "mainstem.engines.redis:open_engine",
    "redis": "mainstem.engines.redis:open_engine",
    "rediss": "mainstem.engines.redis:open_engine",
    "unix": "mainstem.engines.redis:open_engine",
}


async def open_engine(url: str, durability: Durability = "server") -> Engine:
    """Open the engine that the URL's scheme names; others register under the entry-point group `mainstem.engines`.

    With durability "disk" the embedded server is set to it, and any other is refused where its settings do not hold it.
    """
    if durability == "server":
        return await _opener(url)(url)
    if durability != "disk":
        raise ConfigError(f'durability={durability!r} is unknown: choose "server" or "disk".')
    if scheme_of(url) == "memory":
        raise Unsupported("memory", "keep events on disk", 'use embedded:// or a server, or durability="server".')
    return await _opener(url)(url, durability="always")


def scheme_of(url: str) -> str:
    """The scheme of an engine URL, checked."""
    try:
        scheme = urlsplit(url).scheme
    except ValueError as error:
        raise ConfigError(f"the engine URL cannot be read: {error}.") from error
    if scheme not in _BUILT_IN and scheme not in schemes():
        raise ConfigError(f"no engine for {scheme + '://' if scheme else repr(url)}; there is {_choices()}.")
    return scheme


def schemes() -> dict[str, str]:
    """Every scheme there is an engine for, with the object that opens it."""
    from importlib.metadata import entry_points  # 15 ms that most programs need not spend at import

    found = dict(_BUILT_IN)
    for point in entry_points(group="mainstem.engines"):
        found.setdefault(point.name, point.value)
    return found


def _opener(url: str) -> Opener:
    scheme = scheme_of(url)
    module, _, name = (_BUILT_IN.get(scheme) or schemes()[scheme]).partition(":")
    return cast(Opener, getattr(import_module(module), name))


def _choices() -> str:
    return ", ".join(f"{scheme}://" for scheme in sorted(schemes()))
