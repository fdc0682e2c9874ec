"""
The command `mainstem demo`: checks what was asked, runs it, shows it, reports. No argument parsing here.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import sys
from pathlib import Path

from rich.console import Console

from mainstem.app import Mainstem
from mainstem.demo import market
from mainstem.demo.report import Report, table
from mainstem.demo.stage import Plan, Stage
from mainstem.demo.view import Display, Progress, Terminal
from mainstem.errors import ConfigError
from mainstem.running import run_loop

RATE = 2_000.0  # events a second
HEADLESS = 20.0  # seconds, where nobody can press Ctrl-C
OUTPUTS = ("table", "json", "ndjson")


def run(*, csv: Path | None, url: str | None, rate: float | None, seconds: float | None, output: str) -> int:
    """
    Replay market data and watch it be handled; `seconds` None is until Ctrl-C in a terminal, else 20.

    Live on stdout where that is a terminal and `output` is "table"; otherwise progress goes to stderr, and the last
    line of stdout is the report as one JSON object. Returns 0, or 1 when events were lost. Raises `ConfigError` for
    what cannot be replayed, and whatever the engine raises.
    """
    live = output == "table" and sys.stdout.isatty()
    plan = Plan(
        market=market.load(csv) if csv is not None else market.sample(),
        url=Mainstem(url).url,
        rate=_positive("rate", RATE if rate is None else rate),
        seconds=_seconds(seconds, live),
    )
    if output not in OUTPUTS:
        raise ConfigError(f"output {output!r} is not known: use {', '.join(OUTPUTS)}.")
    console = Console()
    report = run_loop(_perform(plan, Terminal(console) if live else Progress()))
    if live:
        console.print(table(report))
    else:
        print(report.as_json(), flush=True)
    return 0 if report.good else 1


def _seconds(seconds: float | None, live: bool) -> float | None:
    if seconds is None:
        return None if live else HEADLESS
    return _positive("for", seconds)


def _positive(name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise ConfigError(f"--{name} {value:g} must be above 0.")
    return float(value)


async def _perform(plan: Plan, display: Display) -> Report:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():  # workers see their stdin end, and drain by themselves
            display.close()
            os._exit(130)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    try:
        return await _shown(Stage(plan), display, stop)
    finally:
        display.close()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def _shown(stage: Stage, display: Display, stop: asyncio.Event) -> Report:
    running = asyncio.create_task(stage.run(stop), name="demo")
    while True:
        display.show(stage.snapshot())
        done, _ = await asyncio.wait([running], timeout=display.every)
        if done:
            display.show(stage.snapshot())
            return running.result()
