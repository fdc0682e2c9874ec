"""
The first seconds of a connection: dial, encrypt, authenticate, choose the database, say our name.

Every way in which that fails becomes one sentence here, whichever wire dialled. Nothing is retried here: ``link`` does.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable

from mainstem.engines.redis.address import Address
from mainstem.engines.redis.replies import translate
from mainstem.engines.redis.wire import ConnectionGone, ReplyError, Wire, command
from mainstem.errors import ConfigError, MainstemError, PermissionDenied, Unavailable

# A user confined to streams may lack these two; PING still tells whether the server is loading or wants a password.
_OPTIONAL = frozenset({b"PING", b"CLIENT"})


async def greeted(address: Address, dial: Callable[[], Awaitable[Wire]]) -> Wire:
    """The wire that ``dial`` opens, ready for commands; raises what ``refusal`` makes of any failure."""
    wire: Wire | None = None
    try:
        async with asyncio.timeout(address.connect_timeout):
            wire = await dial()
            await _greet(wire, address)
    except BaseException as error:
        if wire is not None:
            await wire.aclose()
        if not isinstance(error, Exception) or isinstance(error, MainstemError):
            raise
        raise refusal(address, error) from error
    return wire


def tls_context(address: Address) -> ssl.SSLContext:
    """Certificate and host name checked unless the address says otherwise. Raises ConfigError for unusable files."""
    context = _trusting(address)
    context.check_hostname = address.check_hostname and address.verify
    context.verify_mode = ssl.CERT_REQUIRED if address.verify else ssl.CERT_NONE
    if not address.cert_file:
        return context
    try:
        context.load_cert_chain(address.cert_file, address.key_file or None)
    except OSError as error:
        files = f"ssl_certfile={address.cert_file!r} and ssl_keyfile={address.key_file!r}"
        raise ConfigError(
            f"{files} cannot be used ({_words(error)}): give a certificate and its key as PEM."
        ) from error
    return context


def _trusting(address: Address) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=address.ca_file or None)
    except OSError as error:
        file = f"ssl_ca_certs={address.ca_file!r}"
        raise ConfigError(
            f"{file} cannot be used ({_words(error)}): give the file of the CA's certificate as PEM."
        ) from error


async def _greet(wire: Wire, address: Address) -> None:
    commands = _greeting(address)
    replies = await wire.send_many([command(*parts) for parts in commands], len(commands))
    for parts, reply in zip(commands, replies, strict=True):
        if not isinstance(reply, ReplyError) or (reply.code == "NOPERM" and parts[0] in _OPTIONAL):
            continue
        raise translate(_without(address.password, reply), f"connect to {address.where}")


def _greeting(address: Address) -> list[tuple[bytes | str | int, ...]]:
    commands: list[tuple[bytes | str | int, ...]] = []
    if address.username:
        commands.append((b"AUTH", address.username, address.password))
    elif address.password:
        commands.append((b"AUTH", address.password))
    if address.db:
        commands.append((b"SELECT", address.db))
    if address.name:
        commands.append((b"CLIENT", b"SETNAME", address.name))
    return [*commands, (b"PING",)]


def _without(password: str, reply: ReplyError) -> ReplyError:
    """A server on which AUTH is renamed answers with its arguments."""
    return ReplyError(reply.text.replace(password, "***")) if password else reply


def refusal(address: Address, error: Exception) -> MainstemError:
    """What to raise for a connection that could not be opened."""
    cause = _root(error)
    where = address.where
    if isinstance(cause, MainstemError):
        return cause
    if isinstance(cause, ssl.SSLError):
        return _tls_refusal(address, cause)
    if isinstance(cause, TimeoutError):
        seconds = f"{address.connect_timeout:g} s"
        return Unavailable(
            f"{where} did not answer within {seconds}: check the server and the firewall{_tls_hint(address)}."
        )
    if isinstance(cause, PermissionError) and address.path:
        return PermissionDenied(f"this user may not open the socket {where}: change its permissions (unixsocketperm).")
    if isinstance(cause, socket.gaierror):
        return Unavailable(
            f"the name of {where} cannot be resolved ({_words(cause)}): check the host in the Redis URL."
        )
    if "path too long" in str(cause):
        return ConfigError(f"the socket's path {where!r} is longer than the system allows: use one under 100 bytes.")
    if isinstance(cause, ConnectionGone | ConnectionResetError | BrokenPipeError):
        # A server that misses our certificate says so and hangs up; its reset often overtakes its words.
        wants = (
            ", and whether it asks for a certificate (ssl_certfile)" if address.tls and not address.cert_file else ""
        )
        return Unavailable(f"{where} closed the connection at once: read its log{_tls_hint(address)}{wants}.")
    return Unavailable(f"no server answers at {where} ({_words(cause)}): start it or correct the Redis URL.")


def _tls_refusal(address: Address, error: ssl.SSLError) -> MainstemError:
    where = address.where
    if isinstance(error, ssl.SSLCertVerificationError):
        return ConfigError(
            f"the certificate of {where} is not accepted ({error.verify_message.rstrip('.')}): {_cure(error)}."
        )
    if "ALERT" in (error.reason or ""):
        return PermissionDenied(
            f"{where} refused our certificate ({_words(error)}): give one it trusts with ssl_certfile and ssl_keyfile."
        )
    return ConfigError(
        f"{where} does not speak TLS as expected ({_words(error)}): use redis:// or the server's tls-port."
    )


def _cure(error: ssl.SSLCertVerificationError) -> str:
    if "match" in error.verify_message:
        return "connect by a name the certificate carries, or give up the check with ssl_check_hostname=false"
    if "expired" in error.verify_message or "not yet valid" in error.verify_message:
        return "renew it on the server, and check this machine's clock"
    return "give the file of the CA that signed it as ssl_ca_certs"


def _tls_hint(address: Address) -> str:
    if address.path:
        return ""
    return ", and whether that port speaks TLS" if address.tls else "; if that port speaks TLS use rediss://"


def _root(error: BaseException) -> BaseException:
    """The system's own error behind the wrapping of asyncio, of redis-py or of a lost greeting."""
    seen = error
    while not isinstance(seen, OSError | MainstemError):
        inner = seen.__cause__ or seen.__context__
        if inner is None:
            return seen
        seen = inner
    return seen


def _words(error: BaseException) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
