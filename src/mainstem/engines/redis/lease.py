"""
Renewing leases from a thread with a connection of its own, so that a handler that blocks the event loop keeps them.

It knows when to call and how to come back after a lost connection. What a lease is, and what its loss means, stays with
those who register: they are called in this thread and hand what they learn to their event loop themselves.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, TypeAlias

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from mainstem.engines.redis.address import Address

_log = logging.getLogger("mainstem")

SOON = 0.1
"""Seconds after a failed renewal until the next try, where the interval is longer."""

Renew: TypeAlias = "Callable[[redis.Redis], None]"


class Renewals:
    """One daemon thread that calls every registered function each ``interval`` seconds, with a redis-py client.

    ``address`` may be a function, asked at each (re)connection. What a function raises is kept in ``errors`` until it
    succeeds again, and brings the next round forward; the others of the round are called all the same.
    """

    def __init__(self, address: Address | Callable[[], Address], interval: float) -> None:
        self._address = address
        self._interval = interval
        self._renew: dict[str, Renew] = {}
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self.errors: dict[str, Exception] = {}

    def add(self, name: str, renew: Renew) -> None:
        """Call ``renew`` from now on; the first call comes within one interval."""
        self._renew[name] = renew
        if self._thread is None and not self._closed.is_set():
            self._thread = threading.Thread(target=self._run, name="mainstem redis leases", daemon=True)
            self._thread.start()

    def remove(self, name: str) -> None:
        """Stop calling it; a call that is under way may still end after this returns."""
        self._renew.pop(name, None)
        self.errors.pop(name, None)

    def stop(self) -> None:
        """Ask the thread to end, without waiting for it."""
        self._closed.set()

    def close(self) -> None:
        """End the thread and its connection; waits for a call that is under way, two seconds at most."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(2.0)

    def _run(self) -> None:
        client: redis.Redis | None = None
        pause = self._interval
        while not self._closed.wait(pause):
            began = time.monotonic()
            client = client or client_of(self._address if isinstance(self._address, Address) else self._address())
            if self._round(client):
                pause = max(0.0, self._interval - (time.monotonic() - began))
                continue
            client.close()
            client.connection_pool.disconnect()
            client = None
            pause = min(SOON, self._interval)
        if client is not None:
            client.close()
            client.connection_pool.disconnect()

    def _round(self, client: redis.Redis) -> bool:
        healthy = True
        for name, renew in list(self._renew.items()):
            try:
                renew(client)
            except Exception as error:  # noqa: BLE001 - whatever one of them does, the others' leases must be renewed
                if name not in self.errors:
                    _log.warning("leases of %s cannot be renewed: %r", name, error)
                self.errors[name] = error
                healthy = False
            else:
                self.errors.pop(name, None)
        return healthy


def client_of(address: Address) -> redis.Redis:
    """A blocking redis-py client that never repeats a command by itself."""
    pool = redis.ConnectionPool(connection_class=_kind(address), max_connections=1, **_settings(address))
    return redis.Redis.from_pool(pool)  # closing the client closes the pool


def _kind(address: Address) -> Any:
    if address.path:
        return redis.UnixDomainSocketConnection
    return redis.SSLConnection if address.tls else redis.Connection


def _settings(address: Address) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "username": address.username or None,
        "password": address.password or None,
        "db": address.db,
        "socket_timeout": address.reply_timeout,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }
    if address.path:
        return settings | {"path": address.path}
    settings |= {"host": address.host, "port": address.port, "socket_connect_timeout": address.connect_timeout}
    if not address.tls:
        return settings
    return settings | {
        "ssl_ca_certs": address.ca_file or None,
        "ssl_certfile": address.cert_file or None,
        "ssl_keyfile": address.key_file or None,
        "ssl_check_hostname": address.check_hostname and address.verify,
        "ssl_cert_reqs": "required" if address.verify else "none",
    }
