"""Cutting input into lines: the same lines however it arrives, with the place behind each."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstem.cli import lines
from mainstem.cli.lines import Line, Splitter


def split(pieces: list[bytes]) -> list[Line]:
    splitter = Splitter()
    found = [line for piece in pieces for line in splitter.feed(piece)]
    return found + splitter.close()


@given(st.lists(st.binary(max_size=12).map(lambda raw: raw.replace(b"\r", b"\n")), max_size=8))
def test_lines_do_not_depend_on_how_they_arrive(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    found = split(pieces)
    assert [line.raw for line in found] == whole.split(b"\n")[: len(found)]
    assert len(found) == whole.count(b"\n") + (not whole.endswith(b"\n") and bool(whole))
    assert [line.number for line in found] == list(range(1, len(found) + 1))
    for line in found:
        assert line.raw is not None
        assert whole[: line.end].removesuffix(b"\n").endswith(line.raw)
    assert not found or found[-1].end == len(whole)


def test_a_line_that_is_too_long_is_dropped_and_the_next_one_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LONGEST", 10)
    found = split([b"12345", b"67890", b"x\nshort\n", b"1234567890\n", b"1234567890a"])
    assert [(line.raw, line.end) for line in found] == [(None, 12), (b"short", 18), (b"1234567890", 29), (None, 40)]


def test_it_goes_on_from_a_position() -> None:
    splitter = Splitter(number=7, offset=100)
    assert splitter.feed(b"ab\ncd") == [Line(8, b"ab", 103)]
    assert splitter.close() == [Line(9, b"cd", 105)]
