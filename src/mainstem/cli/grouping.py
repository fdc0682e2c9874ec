"""`mainstem group`: the groups of a stream, how far behind they are, and moving or removing them."""

from __future__ import annotations

import sys
from typing import Any

from mainstem.cli.connecting import admin_of, existing, opened, suggestion
from mainstem.cli.options import Format
from mainstem.cli.printing import Column, age, say, write_record, write_rows
from mainstem.cli.streams import GROUP_COLUMNS, group_row, sorted_rows
from mainstem.engine import Engine, GroupInfo
from mainstem.errors import ConfigError
from mainstem.names import group_name, stream_glob
from mainstem.reading import cursor_at, format_cursor


async def ls(name: str, url: str | None, output: Format) -> None:
    """List the groups of a stream."""
    async with opened(url) as app:
        engine = app.connection().engine
        info = await engine.describe((await existing(engine, name)).name)
    rows = [group_row(group) for group in info.groups]
    write_rows(rows, GROUP_COLUMNS, output, empty=f"no group reads {name!r} yet.")


async def lag(glob: str, url: str | None, output: Format) -> None:
    """How far every group of the streams that match is behind, the worst first."""
    rows: list[dict[str, Any]] = []
    async with opened(url) as app:
        engine = app.connection().engine
        for spec in await engine.streams(stream_glob(glob)):
            info = await engine.describe(spec.name)
            rows += [{"stream": spec.name, **group_row(group)} for group in info.groups]
    columns = (Column("stream"), *GROUP_COLUMNS[:5])
    shown = [{column.field: row[column.field] for column in columns} for row in sorted_rows(rows, "lag")]
    write_rows(shown, columns, output, empty=f"no group reads a stream that matches {glob!r}.")


async def seek(name: str, group: str, to: str, *, dry_run: bool, url: str | None, output: Format) -> None:
    """Move a group; one that is new is made there."""
    group_name(group)
    async with opened(url) as app:
        engine = app.connection().engine
        spec = await existing(engine, name)
        cursor = await cursor_at(engine, spec, to)
        before = await _group(engine, name, group)
        if not dry_run:
            await admin_of(engine).seek(name, group, cursor)
        after = None if dry_run else await _group(engine, name, group)
    record = {
        "stream": name,
        "group": group,
        "to": format_cursor(cursor, spec.keyed),
        "lag_before": before.lag if before is not None else None,
        "lag_after": after.lag if after is not None else None,
        "new": before is None,
        "moved": not dry_run,
    }
    write_record(record, output)
    if dry_run:
        say("dry run: nothing was changed.")


async def delete(name: str, group: str, *, yes: bool, dry_run: bool, url: str | None, output: Format) -> None:
    """Remove a group with its counters and dead letters, after asking."""
    async with opened(url) as app:
        engine = app.connection().engine
        await existing(engine, name)
        info = await engine.describe(name)
        found = next((each for each in info.groups if each.name == group), None)
        if found is None:
            close = suggestion(group, [each.name for each in info.groups])
            raise ConfigError(f"stream {name!r} has no group {group!r}: {close}`mainstem group ls {name}` lists them.")
        holds = f"{found.pending:,} pending, {found.dead:,} dead letters, {found.members} members"
        if not dry_run:
            confirm(f"delete group {group!r} of {name!r} ({holds})?", yes)
            await admin_of(engine).delete_group(name, group)
    record = {
        "stream": name, "group": group, "pending": found.pending, "dead": found.dead, "behind": age(found.lag_seconds),
        "deleted": not dry_run,
    }  # fmt: skip
    write_record(record, output)
    if dry_run:
        say("dry run: nothing was changed.")


def confirm(question: str, yes: bool) -> None:
    """Ask a person; without one, `--yes` must have been said."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigError(f"{question} Nobody is here to answer: add --yes, or look first with --dry-run.")
    import typer

    typer.confirm(question, abort=True, err=True)


async def _group(engine: Engine, stream: str, group: str) -> GroupInfo | None:
    info = await engine.describe(stream)
    return next((each for each in info.groups if each.name == group), None)
