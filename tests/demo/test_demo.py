"""The whole demo, on real servers, as the command line runs it: a process with workers of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from mainstem import Mainstem
from mainstem.demo import market
from mainstem.demo.command import run
from mainstem.demo.market import DailyBar
from mainstem.demo.pipeline import Bar, Streams, streams
from mainstem.demo.stage import shown
from mainstem.errors import ConfigError, Unavailable
from mainstem.servers.embedded import stop
from waiting import wait_blocking

FIELDS = {"published", "handled", "lost", "duplicated", "p50_ms", "p99_ms"}
PROGRAM = """
import json, sys
from pathlib import Path
from mainstem.demo.command import run
options = json.loads(sys.argv[1])
csv = options.pop("csv", None)
asked = {"url": None, "rate": None, "seconds": None, "output": "table"} | options
sys.exit(run(csv=Path(csv) if csv else None, **asked))
"""


@contextmanager
def demo(**options: Any) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, json.dumps(options)], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def report_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The last line of stdout, checked for what must hold of every report."""
    out, err = process.communicate(timeout=50)
    assert out, err
    report: dict[str, Any] = json.loads(out.splitlines()[-1])
    assert report.keys() >= FIELDS | {"groups", "seconds", "rate", "engine"}
    assert report["groups"].keys() == {"signals", "alerts"}
    for group in report["groups"].values():
        assert group.keys() >= FIELDS - {"published"}
    for figure in ("published", "handled", "lost", "duplicated"):
        assert report[figure] == sum(group[figure] for group in report["groups"].values())
    assert process.returncode == (0 if report["lost"] == 0 else 1), err
    assert report["lost"] == 0, (report, err)
    assert report["published"] == report["handled"] > 0
    assert report["groups"]["signals"]["handled"] == report["fed"]
    return report


def until_figures(process: subprocess.Popen[str]) -> None:
    """Read progress until the feed has run for a while."""
    assert process.stderr is not None
    for line in process.stderr:
        if "published;" in line:
            return
    raise AssertionError("the demo ended before it showed figures")


async def groups_of(ours: Streams) -> set[str]:
    infos = [await stream.describe() for stream in (ours.bars, ours.ticks, ours.signals)]
    return {group.name for info in infos for group in info.groups}


def workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    children = psutil.Process(process.pid).children()
    return [child for child in children if _runs(child) and "mainstem.demo.worker" in child.cmdline()]


def _runs(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_on_an_embedded_server_without_any_option_but_the_time(project: Path) -> None:
    try:
        with demo(seconds=3) as process:
            report = report_of(process)
    finally:
        stop(project / ".mainstem")
    assert report["engine"] == "embedded://"
    assert "at least once" in report["guarantee"]
    assert report["rate_asked"] == 2000
    assert 3 <= report["seconds"] < 4
    assert report["rate"] == pytest.approx(report["fed"] / report["seconds"], rel=0.01)
    assert report["workers"] == 2
    assert 0 < report["p50_ms"] <= report["p99_ms"]
    assert (project / ".mainstem").is_dir()


async def test_what_it_publishes_is_real_or_says_that_it_is_not_and_its_groups_are_gone(valkey_url: str) -> None:
    async with Mainstem(valkey_url) as app:
        ours = streams(app)
        before = await groups_of(ours)
        end = ours.bars.read(start="end"), ours.ticks.read(start="end")
        for reading in end:
            assert [event async for event in reading] == []
        with demo(url=valkey_url, seconds=2, rate=1000, output="json") as process:
            report = report_of(process)
        bars = [event async for event in ours.bars.read(start=end[0].cursor)]
        ticks = [event async for event in ours.ticks.read(start=end[1].cursor)]
        assert await groups_of(ours) == before
    assert len(bars) + len(ticks) == report["fed"]
    assert len(ticks) == report["synthetic"]
    assert {event.metadata.extensions["synthetic"] for event in ticks} == {True}
    assert {event.metadata.extensions["synthetic"] for event in bars} == {False}
    real = {(row.symbol, row.time): row for row in market.sample().rows}
    for event in bars:
        row = real[event.data.symbol, event.time]
        assert isinstance(row, DailyBar)
        assert event.data == Bar(row.symbol, row.open, row.high, row.low, row.close, row.volume)


def test_two_demos_on_one_server_count_their_own_events_only(valkey_url: str) -> None:
    with demo(url=valkey_url, seconds=2, rate=500) as one, demo(url=valkey_url, seconds=2, rate=300) as other:
        reports = report_of(one), report_of(other)
    assert [report["duplicated"] for report in reports] == [0, 0]
    assert reports[0]["fed"] > reports[1]["fed"]


def test_killing_a_worker_loses_nothing(valkey_url: str) -> None:
    with demo(url=valkey_url, seconds=5, rate=1000) as process:
        until_figures(process)
        victim = workers(process)[0]
        victim.kill()
        wait_blocking(lambda: len(workers(process)) == 2 and victim not in workers(process))
        report = report_of(process)
    assert report["worker_deaths"] == 1
    assert report["drained"] is True
    assert report["duplicated"] >= 0


def test_killing_the_demo_itself_leaves_no_worker(valkey_url: str) -> None:
    with demo(url=valkey_url, seconds=20, rate=200) as process:
        until_figures(process)
        crew = workers(process)
        assert len(crew) == 2
        process.kill()
        wait_blocking(lambda: not any(_runs(each) for each in crew), timeout=15)


def test_ctrl_c_ends_with_the_report(valkey_url: str) -> None:
    with demo(url=valkey_url, seconds=40, rate=500, output="json") as process:
        until_figures(process)
        os.kill(process.pid, signal.SIGINT)
        report = report_of(process)
    assert report["seconds"] < 30


def test_a_file_of_prices_is_replayed_as_real(tmp_path: Path, valkey_url: str) -> None:
    file = tmp_path / "mine.csv"
    lines = [f"S{number % 3},{10 + number % 7},2026-01-05T09:{number % 60:02}:00Z" for number in range(200)]
    file.write_text("\n".join(["symbol,price,time", *lines]))
    with demo(csv=str(file), url=valkey_url, seconds=1, rate=500) as process:
        report = report_of(process)
    assert report["synthetic"] == 0
    assert report["source"] == "mine.csv"
    assert report["signals"] > 0


def test_a_rate_that_cannot_be_reached_is_reported_as_it_was(valkey_url: str) -> None:
    with demo(url=valkey_url, seconds=1, rate=5e6) as process:
        report = report_of(process)
    assert report["rate_asked"] == 5e6
    assert report["rate"] < 1e6
    assert report["rate"] == pytest.approx(report["fed"] / report["seconds"], rel=0.01)


def test_without_a_server_it_says_so_before_anything_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"):
        run(csv=None, url="redis://127.0.0.1:1/0", rate=None, seconds=1, output="json")
    assert capsys.readouterr().out == ""


def test_a_password_is_not_shown() -> None:
    assert shown("redis://me:secret@host:6379/0") == "redis://me:***@host:6379/0"
    assert shown("embedded://") == "embedded://"


@pytest.mark.parametrize(
    ("asked", "fault"),
    [
        ({"url": "memory://"}, r"memory:// lives in one process"),
        ({"url": "nosuch://x"}, r"no engine for nosuch://"),
        ({"rate": 0.0}, r"--rate 0 must be above 0"),
        ({"seconds": -1.0}, r"--for -1 must be above 0"),
        ({"output": "xml"}, r"output 'xml' is not known: use table, json, ndjson"),
        ({"csv": Path("none.csv")}, r"there is no file none.csv"),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_sentence(asked: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        run(**{"csv": None, "url": None, "rate": None, "seconds": None, "output": "json"} | asked)
