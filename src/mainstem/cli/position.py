"""
How far a file was published: a small file beside it, replaced atomically after each acknowledged batch. It remembers
what the file began with, so that another file of the same name is noticed.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec

from mainstem.errors import ConfigError

_HEAD = 1 << 16  # bytes of the file's beginning that identify it


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """The place behind the last line whose batch was acknowledged."""

    stream: str
    offset: int = 0
    line: int = 0
    head: str = ""  # SHA-256 of the first bytes, at most 64 KiB of them


def place_of(file: Path) -> Path:
    """Where the position of a file is kept."""
    return file.with_name(f".{file.name}.mainstem-position")


def load(file: Path, stream: str) -> Position:
    """The position to go on from: the beginning where none is kept. `ConfigError` where it is another file's."""
    place = place_of(file)
    try:
        found = msgspec.json.decode(place.read_bytes(), type=Position)
    except FileNotFoundError:
        return Position(stream=stream)
    except msgspec.MsgspecError as error:
        raise ConfigError(
            f"{place} cannot be read ({error}): delete it to publish {file.name} from its first line."
        ) from error
    if found.stream != stream:
        raise ConfigError(
            f"{place} is of stream {found.stream!r}, not {stream!r}: delete it to publish from the first line."
        )
    if found.head != _head(file, found.offset):
        raise ConfigError(
            f"{file} is not the file that was published before, or was rewritten: delete {place} to publish it "
            "from its first line."
        )
    return found


def save(file: Path, stream: str, offset: int, line: int) -> None:
    """Keep a position, durably, and all or nothing."""
    place = place_of(file)
    written = place.with_name(f"{place.name}.{os.getpid()}")
    position = Position(stream=stream, offset=offset, line=line, head=_head(file, offset))
    try:
        with open(written, "wb") as out:
            out.write(msgspec.json.encode(position) + b"\n")
            out.flush()
            os.fsync(out.fileno())
        os.replace(written, place)
    except OSError as error:
        written.unlink(missing_ok=True)
        raise ConfigError(
            f"the position cannot be kept in {place} ({error.strerror}): make the folder writable, or leave out "
            f"--resume; lines up to {line} are published."
        ) from error


def _head(file: Path, offset: int) -> str:
    with open(file, "rb") as opened:
        return hashlib.sha256(opened.read(min(offset, _HEAD))).hexdigest()
