"""`mainstem ls`, `describe` and `alter`: what streams there are, how they stand, and what they keep."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from mainstem.cli.connecting import admin_of, existing, opened
from mainstem.cli.options import Format
from mainstem.cli.printing import (
    Column,
    age,
    as_json,
    cell,
    console,
    say,
    size,
    table,
    write_record,
    write_rows,
    write_text,
)
from mainstem.engine import GroupInfo, StreamInfo, StreamSpec
from mainstem.errors import ConfigError
from mainstem.names import seconds, stream_glob

TOGETHER = 50  # streams asked about at once

GROUP_COLUMNS = (
    Column("group"),
    Column("lag"),
    Column("lag_seconds", "behind", age),
    Column("pending"),
    Column("members"),
    Column("handled"),
    Column("failed"),
    Column("dead", style=lambda row: "yellow" if row["dead"] else ""),
    Column("lost", style=lambda row: "bold red" if row["lost"] else ""),
)


async def ls(glob: str, url: str | None, output: Format) -> None:
    """List the streams that match."""
    async with opened(url) as app:
        engine = app.connection().engine
        specs = await engine.streams(stream_glob(glob))
        infos: list[StreamInfo] = []
        for at in range(0, len(specs), TOGETHER):
            infos += await asyncio.gather(*(engine.describe(spec.name) for spec in specs[at : at + TOGETHER]))
    columns = (
        Column("stream"),
        Column("mode"),
        Column("events"),
        Column("groups"),
        Column("keeps"),
        Column("bytes", "memory", size),
        Column("last", show=_ago),
    )
    write_rows([_listed(info) for info in infos], columns, output, empty=f"no stream matches {glob!r}.")


async def describe(name: str, url: str | None, output: Format) -> None:
    """Everything about one stream and its groups."""
    async with opened(url) as app:
        spec = await existing(app.connection().engine, name)
        info = await app.connection().engine.describe(spec.name)
    record = _described(info)
    if output != "table":
        write_text(as_json(record, indent=2 if output == "json" else 0))
        return
    groups = record.pop("groups")
    shown = {
        **record,
        "bytes": size(info.bytes),
        "keeps": keeps(spec),
        "first": _when(info.first_ms),
        "last": _when(info.last_ms),
    }
    for field in ("retain", "max_events", "until_read"):
        del shown[field]
    write_record(shown, "table")
    write_text("")
    if groups:
        console().print(table(groups, GROUP_COLUMNS))
    else:
        write_text("no group reads it yet")


async def alter(name: str, retain: str, max_events: str, *, dry_run: bool, url: str | None, output: Format) -> None:
    """Store another retention; everything else of a stream is fixed."""
    async with opened(url) as app:
        engine = app.connection().engine
        before = await existing(engine, name)
        after = amended(before, retain, max_events)
        if not dry_run and after != before:
            await admin_of(engine).amend(after)
    record = {
        "stream": name,
        "before": keeps(before),
        "after": keeps(after),
        "changed": after != before and not dry_run,
    }
    write_record(record, output)
    if dry_run:
        say("dry run: nothing was changed.")


def amended(spec: StreamSpec, retain: str, max_events: str) -> StreamSpec:
    """The specification with another retention; "" leaves a field, "none" takes its bound away. Pure."""
    if not retain and not max_events:
        raise ConfigError("nothing to change: give --retain or --max-events.")
    kept, until_read, count = spec.retain, spec.until_read, spec.max_events
    if retain:
        until_read = retain == "until-read"
        kept = None if retain in ("none", "until-read") else seconds(retain, "--retain")
    if max_events:
        count = None if max_events == "none" else _count(max_events)
    if kept is None and count is None:
        raise ConfigError(f"stream {spec.name!r} would grow without bound: keep --retain or --max-events.")
    return msgspec.structs.replace(spec, retain=kept, max_events=count, until_read=until_read)


def keeps(spec: StreamSpec) -> str:
    """What a stream keeps, in words."""
    bounds = ["until every group has read it"] if spec.until_read else []
    bounds += [age(spec.retain)] if spec.retain is not None else []
    bounds += [f"{spec.max_events:,} events"] if spec.max_events is not None else []
    return ", at most ".join(bounds) or "everything"


def group_row(group: GroupInfo) -> dict[str, Any]:
    """A group as a row."""
    fields = ("lag", "lag_seconds", "pending", "members", "handled", "failed", "dead", "lost")
    return {"group": group.name, **{field: getattr(group, field) for field in fields}}


def _count(text: str) -> int:
    digits = text.replace(",", "").replace("_", "")
    if not digits.isascii() or not digits.isdigit() or int(digits) < 1:
        raise ConfigError(f"--max-events {text!r} is not a number of events: give 1 or more, or none.")
    return int(digits)


def _listed(info: StreamInfo) -> dict[str, Any]:
    return {
        "stream": info.spec.name,
        "mode": mode(info.spec),
        "events": info.length,
        "groups": len(info.groups),
        "keeps": keeps(info.spec),
        "bytes": info.bytes,
        "last": _iso(info.last_ms),
    }


def _described(info: StreamInfo) -> dict[str, Any]:
    spec = info.spec
    return {
        "stream": spec.name,
        "mode": mode(spec),
        "partitions": spec.partitions,
        "type": spec.type,
        "retain": spec.retain,
        "max_events": spec.max_events,
        "until_read": spec.until_read,
        "events": info.length,
        "ever_added": info.added,
        "bytes": info.bytes,
        "first": _iso(info.first_ms),
        "last": _iso(info.last_ms),
        "groups": [group_row(group) for group in info.groups],
    }


def mode(spec: StreamSpec) -> str:
    """Queue or keyed, in a word or two."""
    return f"keyed/{spec.partitions}" if spec.keyed else "queue"


def _iso(ms: int | None) -> str | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC).isoformat()


def _when(ms: int | None) -> str:
    if ms is None:
        return "-"
    return f"{cell(datetime.fromtimestamp(ms / 1000, UTC))} ({age(max(0.0, time.time() - ms / 1000))} ago)"


def _ago(iso: Any) -> str:
    if iso is None:
        return "-"
    return f"{age(max(0.0, time.time() - datetime.fromisoformat(iso).timestamp()))} ago"


def sorted_rows(rows: Sequence[dict[str, Any]], field: str) -> list[dict[str, Any]]:
    """Rows by one field, greatest first; unknown counts as greatest."""
    return sorted(rows, key=lambda row: (row[field] is not None, -(row[field] or 0)))
