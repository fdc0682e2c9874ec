"""
Where a Redis or Valkey server is and how to enter it: one frozen value, parsed from a URL.

Nothing here opens a connection. Option names are those of redis-py, so a URL that works there works here, except that
what redis-py silently ignores (an unknown option, a database that is no number) is refused. No text made here ever
shows a password, not even a piece of a malformed one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from mainstem.errors import ConfigError

SCHEMES = ("redis", "rediss", "unix")
_ENCODE = "percent-encode / ? # @ : in a user name or password"


@dataclass(frozen=True, slots=True, repr=False)
class Address:
    """One server and the way into it. ``path`` set means a unix socket; times are seconds."""

    host: str = "localhost"
    port: int = 6379
    path: str = ""
    tls: bool = False
    username: str = ""
    password: str = ""
    db: int = 0
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    check_hostname: bool = True
    verify: bool = True
    connect_timeout: float = 5.0
    reply_timeout: float = 10.0
    name: str = ""

    @property
    def where(self) -> str:
        """The place alone, for messages: ``host:port`` or the path of the socket."""
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def redacted(self) -> str:
        """The address as a URL that can be shown: the password is ``***``."""
        login = quote(self.username, safe="") + (":***" if self.password else "")
        login = f"{login}@" if login else ""
        if self.path:
            return f"unix://{login}{quote(self.path)}?db={self.db}"
        return f"{'rediss' if self.tls else 'redis'}://{login}{self.where}/{self.db}"

    def __repr__(self) -> str:
        return f"Address({self.redacted()!r})"


def parse(url: str) -> Address:
    """
    Read ``redis://``, ``rediss://`` or ``unix://``, with ``user:password@`` percent-encoded, the database as path
    (``?db=`` for a socket) and the options of ``OPTIONS``.

    Raises ConfigError, one sentence naming the choices, for anything it cannot honour.
    """
    parts = _split(url)
    settings = _options(parts)
    settings |= _socket(parts) if parts.scheme == "unix" else _network(parts, settings)
    settings["username"] = unquote(parts.username or "")
    settings["password"] = unquote(parts.password or "")
    return Address(**settings)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError:
        # The parser's own words may quote the password: none of them is repeated or kept as a cause.
        raise ConfigError(
            f"the Redis URL cannot be read: write redis://user:password@host:port/db ({_ENCODE})."
        ) from None
    if parts.scheme not in SCHEMES or "://" not in url:
        found = f"starts with {parts.scheme + '://'!r}" if parts.scheme and "://" in url else "has no scheme"
        raise ConfigError(f"the Redis URL {found}: use redis://, rediss:// (TLS) or unix:// (a socket's path).")
    if parts.fragment or "@" in parts.path:
        raise ConfigError(f"the Redis URL has a '#' or '@' where none may stand: {_ENCODE}.")
    return parts


def _socket(parts: SplitResult) -> dict[str, Any]:
    path = unquote(parts.path)
    if parts.hostname or not path.startswith("/"):
        raise ConfigError("a unix URL needs the absolute path of the socket, as in unix:///run/redis.sock?db=0.")
    return {"path": path}


def _network(parts: SplitResult, settings: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "host": unquote(parts.hostname or "localhost"),
        "port": _port(parts),
        "tls": parts.scheme == "rediss",
    }
    database = unquote(parts.path).strip("/")
    if not database:
        return found
    if "db" in settings:
        raise ConfigError("the database is given twice, in the path and as db=: keep one of them.")
    return found | {"db": _database(database)}


def _port(parts: SplitResult) -> int:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ConfigError(
            f"the port in the Redis URL is not a number from 1 to 65535: correct it ({_ENCODE})."
        ) from None
    return port or 6379


def _options(parts: SplitResult) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for option, value in parse_qsl(parts.query, keep_blank_values=True):
        if option not in OPTIONS:
            raise ConfigError(
                f"{_shown(option)} is not an option of a Redis URL: choose from {', '.join(sorted(OPTIONS))}."
            )
        if option.startswith("ssl_") and parts.scheme != "rediss":
            raise ConfigError(
                f"{option} has no effect on {parts.scheme}://: use rediss:// for an encrypted connection."
            )
        field, read = OPTIONS[option]
        if field in settings:
            raise ConfigError(f"{option} is given twice in the Redis URL: keep one of them.")
        settings[field] = _value(option, value, read)
    return _consistent(settings)


def _consistent(settings: dict[str, Any]) -> dict[str, Any]:
    if settings.get("verify") is False and settings.setdefault("check_hostname", False):
        raise ConfigError("ssl_check_hostname=true needs a verified certificate: remove ssl_cert_reqs=none.")
    if settings.get("key_file") and not settings.get("cert_file"):
        raise ConfigError("ssl_keyfile needs the certificate it belongs to: give ssl_certfile as well.")
    return settings


def _value(option: str, value: str, read: Callable[[str], object]) -> object:
    try:
        return read(value)
    except (ValueError, KeyError):
        raise ConfigError(f"{option}={_shown(value)} does not work: it takes {_TAKES[read]}.") from None


def _shown(text: str) -> str:
    """``text``, unless it may be a piece of a password that was not percent-encoded."""
    return repr(text) if re.fullmatch(r"[\w.+-]{1,40}", text) else "what follows '?'"


def _database(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ConfigError("the database in the Redis URL is not a number: end it with /0, /1, ... or leave it out.")
    return int(text)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ValueError(text)
    return int(text)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(text)
    return seconds


def _switch(text: str) -> bool:
    return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]


def _verify(text: str) -> bool:
    return {"required": True, "none": False}[text.lower()]


def _text(text: str) -> str:
    if not text:
        raise ValueError(text)
    return text


def _client_name(text: str) -> str:
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError(text)
    return text


OPTIONS: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "db": ("db", _number),
    "client_name": ("name", _client_name),
    "socket_connect_timeout": ("connect_timeout", _seconds),
    "socket_timeout": ("reply_timeout", _seconds),
    "ssl_ca_certs": ("ca_file", _text),
    "ssl_certfile": ("cert_file", _text),
    "ssl_keyfile": ("key_file", _text),
    "ssl_check_hostname": ("check_hostname", _switch),
    "ssl_cert_reqs": ("verify", _verify),
}
_TAKES: Mapping[Callable[[str], object], str] = {
    _number: "a whole number, 0 or more",
    _seconds: "seconds, more than 0",
    _switch: "true or false",
    _verify: "required, or none to accept any certificate (then nobody knows who answers)",
    _text: "the path of a file",
    _client_name: "printable characters without spaces",
}
