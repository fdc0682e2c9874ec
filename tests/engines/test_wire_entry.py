"""Getting in: passwords, rights, certificates, sockets, and one plain sentence for each way in which it fails."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import trustme

from engines.wire_lab import Connect, Server, free_port, until
from mainstem.engines.redis import fast, plain
from mainstem.engines.redis.address import Address, parse
from mainstem.engines.redis.replies import translate
from mainstem.engines.redis.wire import ReplyError, command
from mainstem.errors import ConfigError, MainstemError, PermissionDenied, Unavailable

PASSWORD = "c0rrect/horse@"


@pytest.fixture(params=["fast", "plain"])
def connect(request: pytest.FixtureRequest) -> Connect:
    return {"fast": fast.connect, "plain": plain.connect}[request.param]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="ms") as name:
        yield Path(name)


@dataclass
class Closed:
    """A server that lets only some in: by password on ``server``, by certificate on ``tls_port``."""

    server: Server
    tls_port: int
    ca: str
    other_ca: str
    client: str

    def tls(self, host: str = "localhost", **options: str) -> Address:
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return replace(parse(f"rediss://{host}:{self.tls_port}?{query}"), password=PASSWORD)


@pytest.fixture(scope="module")
def guarded(folder: Path) -> Iterator[Closed]:
    authority, other = trustme.CA(), trustme.CA()
    issued = authority.issue_cert("localhost")
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    issued.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    authority.issue_cert("client@example.org").private_key_and_cert_chain_pem.write_to_path(str(folder / "client.pem"))
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    other.cert_pem.write_to_path(str(folder / "other.pem"))
    tls_port = free_port()
    options = ["--requirepass", PASSWORD, "--tls-port", str(tls_port), "--tls-auth-clients", "no"]
    options += ["--tls-cert-file", str(folder / "cert.pem"), "--tls-key-file", str(folder / "key.pem")]
    options += ["--tls-ca-cert-file", str(folder / "ca.pem"), "--user", "reader", "on", ">pw"]
    options += ["~*", "-@all", "+xread", "+auth"]
    server = Server(folder, options).start()
    try:
        yield Closed(server, tls_port, str(folder / "ca.pem"), str(folder / "other.pem"), str(folder / "client.pem"))
    finally:
        server.kill()


Kind = type[MainstemError] | tuple[type[MainstemError], ...]


async def refused(connect: Connect, address: Address, kind: Kind, *says: str) -> MainstemError:
    with pytest.raises(kind) as caught:
        await connect(address)
    message = str(caught.value)
    for words in (*says, address.where):
        assert words in message
    assert message.endswith(".")
    assert "\n" not in message
    assert caught.value.__cause__ is not None
    error: BaseException | None = caught.value
    while error is not None:
        assert not address.password or address.password not in f"{error}{error!r}"
        error = error.__cause__ or error.__context__
    return caught.value


# ------------------------------------------------------------------------------------------------------- passwords


async def test_the_right_password_opens_names_and_selects(guarded: Closed, connect: Connect) -> None:
    address = replace(guarded.server.address, password=PASSWORD, db=3, name="worker-1")
    wire = await connect(address)
    info = await wire.send(command("CLIENT", "INFO"))
    assert isinstance(info, bytes)
    assert b" name=worker-1 " in info
    assert b" db=3 " in info
    assert b" user=default " in info
    await wire.aclose()


async def test_wrong_and_missing_passwords(guarded: Closed, connect: Connect) -> None:
    address = guarded.server.address
    await refused(connect, replace(address, password="wr0ng"), PermissionDenied, "user name or password", "WRONGPASS")
    await refused(connect, replace(address, username="nobody", password="wr0ng"), PermissionDenied, "WRONGPASS")
    await refused(connect, address, PermissionDenied, "asks for a password", "redis://user:password@host")


async def test_a_password_that_nobody_asked_for(connect: Connect) -> None:
    with TemporaryDirectory(prefix="ms") as name:
        server = Server(Path(name)).start()
        try:
            await refused(connect, replace(server.address, password="needless"), PermissionDenied, "has no password")
            await refused(connect, replace(server.address, db=99), ConfigError, "no such database")
        finally:
            server.kill()


async def test_a_user_who_may_only_read_gets_in_and_is_refused_the_rest(guarded: Closed, connect: Connect) -> None:
    address = replace(guarded.server.address, username="reader", password="pw", name="reader-1")
    wire = await connect(address)  # without the right to PING or to CLIENT SETNAME
    assert await wire.send(command("XREAD", "STREAMS", "s", "0")) is None
    reply = await wire.send(command("XADD", "s", "*", "a", 1))
    assert isinstance(reply, ReplyError)
    error = translate(reply, "publish to 's'")
    assert isinstance(error, PermissionDenied)
    assert str(error).startswith("cannot publish to 's': the server's ACL refuses this user (NOPERM")
    assert error.__cause__ is reply
    await wire.aclose()
    await refused(connect, replace(address, db=1), PermissionDenied, "NOPERM")


# -------------------------------------------------------------------------------------------------------------- TLS


async def test_tls_with_the_right_certificate(guarded: Closed, connect: Connect) -> None:
    wire = await connect(guarded.tls(ssl_ca_certs=guarded.ca))
    value = b"x" * 3_000_000
    assert await wire.send_many([command("SET", "big", value), command("GET", "big")], 2) == [b"OK", value]
    lost = wire.send(command("BLPOP", "nothing", 0), within=60)
    await asyncio.sleep(0)
    start = time.monotonic()
    await wire.aclose()
    assert lost.exception() is not None
    assert time.monotonic() - start < 1


async def test_tls_with_the_wrong_certificate(guarded: Closed, connect: Connect) -> None:
    await refused(connect, guarded.tls(ssl_ca_certs=guarded.other_ca), ConfigError, "ssl_ca_certs")
    await refused(connect, guarded.tls(), ConfigError, "not accepted", "ssl_ca_certs")
    wrong_name = guarded.tls("127.0.0.1", ssl_ca_certs=guarded.ca)
    error = await refused(connect, wrong_name, ConfigError, "ssl_check_hostname=false")
    assert isinstance(error.__cause__, Exception)
    for accepted in (
        guarded.tls("127.0.0.1", ssl_ca_certs=guarded.ca, ssl_check_hostname="false"),
        guarded.tls("127.0.0.1", ssl_cert_reqs="none"),
    ):
        wire = await connect(accepted)
        assert await wire.send(command("PING")) == b"PONG"
        await wire.aclose()


async def test_tls_files_that_cannot_be_used(guarded: Closed, connect: Connect, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for options, says in [
        ({"ssl_ca_certs": "/no/such.pem"}, "ssl_ca_certs='/no/such.pem' cannot be used (No such file"),
        ({"ssl_ca_certs": str(tmp_path / "empty")}, "ssl_ca_certs="),
        ({"ssl_ca_certs": guarded.ca, "ssl_certfile": guarded.ca}, "ssl_certfile="),
    ]:
        with pytest.raises(ConfigError) as caught:
            await connect(guarded.tls(**options))
        assert says in str(caught.value)
        assert isinstance(caught.value.__cause__, OSError | ssl.SSLError)


async def test_a_server_that_wants_our_certificate(guarded: Closed, connect: Connect) -> None:
    admin = await fast.connect(replace(guarded.server.address, password=PASSWORD))
    await admin.send(command("CONFIG", "SET", "tls-auth-clients", "yes"))
    try:
        address = guarded.tls(ssl_ca_certs=guarded.ca)
        # The reset that follows may overtake the server's explanation: then only the hint is left.
        await refused(connect, address, (PermissionDenied, Unavailable), "ssl_certfile")
        wire = await connect(replace(address, cert_file=guarded.client))
        assert await wire.send(command("PING")) == b"PONG"
        await wire.aclose()
    finally:
        await admin.send(command("CONFIG", "SET", "tls-auth-clients", "no"))
        await admin.aclose()


async def test_tls_where_there_is_none_and_none_where_there_is(guarded: Closed, connect: Connect) -> None:
    plain_port = replace(guarded.tls(ssl_ca_certs=guarded.ca, socket_connect_timeout="0.5"), port=guarded.server.port)
    with pytest.raises((ConfigError, Unavailable), match="TLS"):
        await connect(plain_port)
    tls_port = replace(guarded.server.address, port=guarded.tls_port, password=PASSWORD, connect_timeout=0.5)
    await refused(connect, tls_port, Unavailable, "rediss://")


# --------------------------------------------------------------------------------------- places where nobody answers


async def test_a_unix_socket(guarded: Closed, connect: Connect) -> None:
    wire = await connect(replace(parse(f"unix://{guarded.server.socket}?db=2"), password=PASSWORD))
    info = await wire.send(command("CLIENT", "INFO"))
    assert isinstance(info, bytes)
    assert b" db=2 " in info
    await wire.aclose()


async def test_nobody_there(connect: Connect, folder: Path) -> None:
    await refused(connect, Address(host="127.0.0.1", port=free_port()), Unavailable, "no server answers at")
    await refused(connect, Address(port=free_port()), Unavailable, "no server answers at")
    await refused(connect, Address(path=str(folder / "none")), Unavailable, "No such file")
    await refused(connect, Address(path="/" + "x" * 200), ConfigError, "longer than the system allows")
    await refused(connect, Address(host="no-such-host.invalid"), Unavailable, "cannot be resolved")


async def test_somebody_who_does_not_answer(connect: Connect) -> None:
    connected: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda _, writer: connected.append(writer), "127.0.0.1", 0)
    address = Address(host="127.0.0.1", port=silent.sockets[0].getsockname()[1], connect_timeout=0.3)
    start = time.monotonic()
    await refused(connect, address, Unavailable, "did not answer within 0.3 s")
    assert time.monotonic() - start < 1
    attempt = asyncio.ensure_future(connect(replace(address, connect_timeout=30)))
    await until(lambda: len(connected) == 2)
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    silent.close()
    for writer in connected:
        writer.transport.abort()
        await writer.wait_closed()


async def test_somebody_who_is_not_redis(connect: Connect) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP ready\r\n")
        await writer.drain()
        writer.close()

    mail = await asyncio.start_server(greet, "127.0.0.1", 0)
    address = Address(host="127.0.0.1", port=mail.sockets[0].getsockname()[1], connect_timeout=5)
    await refused(connect, address, Unavailable)
    mail.close()


async def test_a_server_that_is_still_loading(connect: Connect) -> None:
    with TemporaryDirectory(prefix="ms") as name:
        server = Server(Path(name)).start()
        wire = await fast.connect(server.address)
        await wire.send_many([command("SET", f"k{n}", "x" * 100) for n in range(2000)], 2000)
        await wire.send(command("SAVE"))
        await wire.aclose()
        server.kill()
        slowly = ["--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024"]
        try:
            server.start(*slowly)
            await refused(connect, server.address, Unavailable, "loading its data set", "try again shortly")
        finally:
            server.kill()


async def test_a_server_without_a_connection_left(connect: Connect) -> None:
    with TemporaryDirectory(prefix="ms") as name:
        server = Server(Path(name)).start()
        wire = await fast.connect(server.address)
        await wire.send(command("CONFIG", "SET", "maxclients", 1))
        try:
            await refused(connect, server.address, Unavailable)
        finally:
            await wire.aclose()
            server.kill()
