"""
A blocking socket with hiredis' parser: as fast as Python can be without doing anything for its user.

For preloading streams, for the raw client that our overhead is measured against, and as stand-in for redis-benchmark.
"""

from __future__ import annotations

import importlib
import socket
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Self

from mainstem.bench import payload
from mainstem.engines.redis import address
from mainstem.errors import ConfigError

Reply = Any
_CHUNK = 500


class RawLink:
    """One connection. Not for concurrent use; close it with `with`."""

    def __init__(self, url: str) -> None:
        place = address.parse(url)
        if place.tls:
            raise ConfigError("bench measures over redis:// or unix://, not TLS: give such an address with --url.")
        self._socket = _open(place)
        self._reader: Any = importlib.import_module("hiredis").Reader()
        self._buffer = bytearray(1 << 20)
        if place.password:
            login = (place.username, place.password) if place.username else (place.password,)
            self.call("AUTH", *login)
        if place.db:
            self.call("SELECT", str(place.db))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def call(self, *words: str | bytes) -> Reply:
        """One command and its reply; raises the server's error."""
        self.send(command(*words))
        reply = self.replies(1)[0]
        if isinstance(reply, Exception):
            raise reply
        return reply

    def send(self, data: bytes) -> None:
        """Write commands that are already encoded."""
        self._socket.sendall(data)

    def replies(self, count: int) -> list[Reply]:
        """Wait for as many replies."""
        found: list[Reply] = []
        gets, nothing = self._reader.gets, False
        while len(found) < count:
            reply = gets()
            if reply is nothing:
                self._fill()
            else:
                found.append(reply)
        return found

    def _fill(self) -> None:
        size = self._socket.recv_into(self._buffer)
        if not size:
            raise ConnectionResetError("the server closed the connection")
        self._reader.feed(self._buffer, 0, size)


def command(*words: str | bytes) -> bytes:
    """One command in RESP."""
    parts = [word.encode() if isinstance(word, str) else word for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


def preload(link: RawLink, keys: Sequence[str], count: int) -> None:
    """Append numbered events, round robin over the keys, two batches in flight."""
    waiting = 0
    for batch in _batches((command("XADD", keys[n % len(keys)], "*", *_body(n)) for n in range(count)), _CHUNK):
        link.send(b"".join(batch))
        link.replies(waiting)
        waiting = len(batch)
    link.replies(waiting)


def info(link: RawLink, section: str) -> dict[str, str]:
    """The lines of an INFO section."""
    text: str = link.call("INFO", section).decode(errors="replace")
    lines = (line.partition(":") for line in text.splitlines())
    return {name: value for name, colon, value in lines if colon}


_sample: list[bytes] = []


def _body(number: int) -> list[bytes]:
    if not _sample:
        _sample.extend(payload.flat(payload.entry(0)))
    fields = _sample.copy()
    fields[1] = b"00000000-0000-7000-8000-%012d" % number
    fields[9] = payload.key(number).encode()
    fields[11] = fields[11].replace(b"o-0000000", b"o-%07d" % number, 1)
    return fields


def _batches(items: Iterable[bytes], size: int) -> Iterable[list[bytes]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _open(place: address.Address) -> socket.socket:
    if place.path:
        link = socket.socket(socket.AF_UNIX)
        link.settimeout(60)
        link.connect(place.path)
        return link
    link = socket.create_connection((place.host, place.port), timeout=60)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return link
