"""
What commands write to stdout: rows and records as tables for people, as JSON for programs. The layout is decided here,
the contents elsewhere. Text from events is never trusted: control characters are shown, not sent to the terminal.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from mainstem.cli.options import Format

if TYPE_CHECKING:
    from rich.console import Console

Row = Mapping[str, Any]

_LEAST_WIDTH = 120
_PIPED_WIDTH = 400  # columns where nobody sees them: no cell is cut


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: the row's field, and how it is shown."""

    field: str
    title: str = ""
    show: Callable[[Any], str] | None = None
    style: Callable[[Row], str] | None = None


def write_rows(rows: Sequence[Row], columns: Sequence[Column], output: Format, *, empty: str) -> None:
    """Print many records. `empty` is said on stderr where a table would have no row."""
    if output == "json":
        write_text(as_json(list(rows), indent=2))
    elif output == "ndjson":
        for row in rows:
            write_text(as_json(row))
    elif rows:
        console().print(table(rows, columns))
    else:
        say(empty)


def write_record(record: Row, output: Format) -> None:
    """Print one record: a line a field, or JSON."""
    if output != "table":
        write_text(as_json(record, indent=2 if output == "json" else 0))
        return
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    for field, value in record.items():
        grid.add_row(Text(field.replace("_", " "), style="bold"), Text(cell(value)))
    console().print(grid)


def table(rows: Sequence[Row], columns: Sequence[Column]) -> Any:
    """A rich table of the rows."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        numbers = any(isinstance(row.get(column.field), int | float) for row in rows)
        made.add_column(
            (column.title or column.field.replace("_", " ")).upper(),
            justify="right" if numbers else "left",
            no_wrap=True,
        )
    for row in rows:
        made.add_row(*(Text(_shown(row, column), style=_style(row, column)) for column in columns))
    return made


def console(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal, but never so narrow that figures are cut: then the terminal wraps them."""
    from rich.console import Console

    width = None
    if not stderr:
        width = max(screen_width(), _LEAST_WIDTH) if sys.stdout.isatty() else _PIPED_WIDTH
    return Console(stderr=stderr, width=width, highlight=False, emoji=False)


def write_text(text: str) -> None:
    """Print one line as it is."""
    sys.stdout.write(text + "\n")


def say(text: str) -> None:
    """A remark for people, on stderr."""
    print(text, file=sys.stderr, flush=True)


def as_json(value: object, *, indent: int = 0) -> str:
    """JSON as text; bytes in it become base64."""
    raw = msgspec.json.encode(value)
    return (msgspec.json.format(raw, indent=indent) if indent else raw).decode()


def cell(value: object) -> str:
    """A value as people read it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    if isinstance(value, datetime):
        return value.astimezone().isoformat(sep=" ", timespec="milliseconds")
    return plain(value if isinstance(value, str) else as_json(value))


def plain(text: str) -> str:
    """The text with everything that a terminal could take for a command escaped."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def age(seconds: float | None) -> str:
    """A duration as people say it."""
    if seconds is None:
        return "-"
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g}{unit}"
    return f"{seconds:.3g}s"


def size(count: float | None) -> str:
    """Bytes as people say them."""
    if count is None:
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def screen_width() -> int:
    """Columns of the terminal."""
    return shutil.get_terminal_size((120, 40)).columns


def _shown(row: Row, column: Column) -> str:
    value = row.get(column.field)
    return column.show(value) if column.show is not None else cell(value)


def _style(row: Row, column: Column) -> str:
    return column.style(row) if column.style is not None else ""
