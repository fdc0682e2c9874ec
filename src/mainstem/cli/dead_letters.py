"""`mainstem dead`: what groups gave up, why, and giving it to them again or deleting it."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import msgspec

from mainstem.cli.connecting import dead_letters_of, existing, opened
from mainstem.cli.grouping import confirm
from mainstem.cli.options import Format
from mainstem.cli.printing import Column, as_json, console, plain, say, table, write_record, write_rows, write_text
from mainstem.engine import DeadLetter, DeadLetters
from mainstem.errors import ConfigError

if TYPE_CHECKING:
    from rich.progress import Progress

PAGE = 200
REASON = 80  # characters of a reason in a table


@dataclass(frozen=True, slots=True)
class Place:
    """The dead letters that are meant: of one stream, and of some of its groups with how many each has."""

    letters: DeadLetters
    stream: str
    groups: Mapping[str, int]

    def only(self) -> str:
        """The one group; `ConfigError` where it is not clear which."""
        filled = [group for group, count in self.groups.items() if count] or list(self.groups)
        if len(filled) == 1:
            return filled[0]
        raise ConfigError(
            f"stream {self.stream!r} has several groups ({', '.join(filled) or 'none'}): choose with --group."
        )


async def ls(name: str, group: str | None, limit: int, url: str | None, output: Format) -> None:
    """List dead letters, and how many there are of each kind of failure."""
    rows: list[dict[str, Any]] = []
    async with _place(name, group, url) as place:
        for each in place.groups:
            async for letter in _all(place, each):
                if len(rows) < limit:
                    rows.append(_row(letter, each))
    if output != "table":
        write_rows(rows, (), output, empty="")
        return
    if not rows:
        say(f"no dead letters in {name!r}.")
        return
    console().print(
        table(_kinds(rows), (Column("count"), Column("fingerprint"), Column("group"), Column("reason", show=_cut)))
    )
    write_text("")
    columns = ("id", "group", "type", "key", "attempts", "at", "reason")
    console().print(table(rows, [Column(field, show=_cut if field == "reason" else None) for field in columns]))
    total = sum(place.groups.values())
    if total > len(rows):
        say(f"{len(rows):,} of {total:,} are shown: --limit shows more.")


async def show(name: str, id: str, group: str | None, url: str | None, output: Format) -> None:
    """Everything about one dead letter."""
    async with _place(name, group, url) as place:
        for each in place.groups:
            async for letter in _all(place, each):
                if letter.id == id:
                    _show(letter, each, output)
                    return
    raise ConfigError(f"there is no dead letter {id!r} in {name!r}: `mainstem dead ls {name}` lists them.")


@dataclass(frozen=True, slots=True)
class Choice:
    """Which letters a change is for."""

    stream: str
    group: str | None
    ids: tuple[str, ...]
    all: bool
    fingerprint: str
    dry_run: bool

    def checked(self) -> Choice:
        if bool(self.ids) + self.all + bool(self.fingerprint) != 1:
            raise ConfigError("say which dead letters: ids, or --all, or --fingerprint of one kind.")
        return self


async def replay(choice: Choice, url: str | None, output: Format) -> int:
    """Deliver letters again to their group; returns 1 where some were not found."""
    async with _place(choice.checked().stream, choice.group, url) as place:
        group = place.only()
        ids = await _chosen(place, group, choice)
        done = 0
        if not choice.dry_run:
            done = await _each(ids, "replay", lambda some: place.letters.restore(choice.stream, group, some))
    return _told(choice, group, ids, done, "replayed", output)


async def purge(choice: Choice, yes: bool, url: str | None, output: Format) -> int:
    """Delete letters for good, after asking; returns 1 where some were not found."""
    async with _place(choice.checked().stream, choice.group, url) as place:
        group = place.only()
        ids = await _chosen(place, group, choice)
        done = 0
        if ids and not choice.dry_run:
            confirm(f"delete {len(ids):,} dead letters of group {group!r} of {choice.stream!r} for good?", yes)
            done = await _each(ids, "purge", lambda some: place.letters.purge(choice.stream, group, some))
    return _told(choice, group, ids, done, "purged", output)


def _told(choice: Choice, group: str, ids: Sequence[str], done: int, verb: str, output: Format) -> int:
    record = {"stream": choice.stream, "group": group, "chosen": len(ids), verb: done, "dry_run": choice.dry_run}
    write_record(record, output)
    if choice.dry_run:
        say("dry run: nothing was changed.")
        return 0
    missing = (len(choice.ids) or len(ids)) - done
    if missing:
        say(f"{missing:,} were not there any more: `mainstem dead ls {choice.stream}` lists what is.")
    return 1 if missing else 0


@asynccontextmanager
async def _place(name: str, group: str | None, url: str | None) -> AsyncGenerator[Place]:
    async with opened(url) as app:
        engine = app.connection().engine
        await existing(engine, name)
        info = await engine.describe(name)
        groups = {each.name: each.dead for each in info.groups if group in (None, each.name)}
        if group is not None and not groups:
            raise ConfigError(f"stream {name!r} has no group {group!r}: `mainstem group ls {name}` lists them.")
        yield Place(dead_letters_of(engine), name, groups)


async def _all(place: Place, group: str) -> AsyncIterator[DeadLetter]:
    """The letters of a group, at most as many as there were: one that dies again is not met again."""
    after, left = "", place.groups[group]
    while left > 0:
        page = await place.letters.dead(place.stream, group, after, min(PAGE, left))
        for letter in page:
            yield letter
        if not page:
            return
        after, left = page[-1].id, left - len(page)


async def _chosen(place: Place, group: str, choice: Choice) -> list[str]:
    wanted = set(choice.ids)
    found: list[str] = []
    async for letter in _all(place, group):
        by_kind = bool(choice.fingerprint) and _kind(_cause(letter)) == choice.fingerprint
        if choice.all or by_kind or letter.id in wanted:
            found.append(letter.id)
    return found


async def _each(ids: Sequence[str], what: str, act: Callable[[Sequence[str]], Awaitable[int]]) -> int:
    done = 0
    with _progress(what, len(ids)) as progress:
        for at in range(0, len(ids), PAGE):
            done += await act(ids[at : at + PAGE])
            if progress is not None:
                progress.update(progress.task_ids[0], completed=min(at + PAGE, len(ids)))
    return done


@contextmanager
def _progress(what: str, total: int) -> Generator[Progress | None]:
    if not sys.stderr.isatty() or total <= PAGE:
        yield None
        return
    from rich.progress import Progress

    with Progress(console=console(stderr=True), transient=True) as progress:
        progress.add_task(what, total=total)
        yield progress


def _cause(letter: DeadLetter) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(letter.cause)
    except (ValueError, msgspec.MsgspecError):
        found = None
    return (
        cast("dict[str, Any]", found) if isinstance(found, dict) else {"reason": letter.cause.decode(errors="replace")}
    )


def _kind(cause: Mapping[str, Any]) -> str:
    return str(cause.get("fingerprint") or cause.get("error") or "-")


def _reason(cause: Mapping[str, Any]) -> str:
    return str(cause.get("reason") or cause.get("message") or cause.get("error") or "")


def _row(letter: DeadLetter, group: str) -> dict[str, Any]:
    cause = _cause(letter)
    record = letter.record
    return {
        "id": letter.id,
        "group": group,
        "type": record.type.decode(errors="replace"),
        "key": record.key.decode(errors="replace") or None,
        "attempts": cause.get("attempts", 0),
        "at": datetime.fromtimestamp(letter.at_ms / 1000, UTC).isoformat(timespec="seconds"),
        "reason": _reason(cause),
        "fingerprint": _kind(cause),
        "event_id": record.id.decode(errors="replace"),
        "position": letter.position,
    }


def _kinds(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    counts = Counter((row["fingerprint"], row["group"]) for row in rows)
    first = {(row["fingerprint"], row["group"]): row["reason"] for row in reversed(rows)}
    return [
        {"count": count, "fingerprint": kind[0], "group": kind[1], "reason": first[kind]}
        for kind, count in counts.most_common()
    ]


def _show(letter: DeadLetter, group: str, output: Format) -> None:
    cause = _cause(letter)
    shown = {**_row(letter, group), "handler": cause.get("handler"), "data": _data(letter), "cause": cause}
    if output != "table":
        write_text(as_json(shown, indent=2 if output == "json" else 0))
        return
    trace = str(cause.get("traceback", ""))
    write_record({field: value for field, value in shown.items() if field != "cause"}, "table")
    for line in trace.splitlines():
        write_text(plain(line))


def _data(letter: DeadLetter) -> Any:
    try:
        return msgspec.json.decode(letter.record.data)
    except (ValueError, msgspec.MsgspecError):
        return letter.record.data.decode("utf-8", "backslashreplace")


def _cut(text: str) -> str:
    text = plain(str(text).partition("\n")[0])
    return text if len(text) <= REASON else text[: REASON - 1] + "…"
