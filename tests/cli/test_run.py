"""`mainstem run`: one worker or many, restarts, drains, reloads; nothing is lost whatever is killed."""

from __future__ import annotations

import re
import signal
from collections import Counter
from pathlib import Path

import pytest

from cli.cli_lab import Running, alive, fine, kill, mainstem, ndjson, numbers, one_line, running
from waiting import wait_blocking

APP = """
import os, time
from mainstem import Mainstem, Retry

app = Mainstem()
jobs = app.stream("jobs")
VERSION = "one"

@app.subscribe(jobs, group="work", lease="1s", concurrency=4)
def work(event):
    time.sleep(event.data.get("takes", 0))
    with open("out.txt", "a") as out:
        out.write(f"{os.getpid()} {VERSION} {event.data['n']}\\n")
"""


@pytest.fixture
def app(shop: Path) -> Path:
    (shop / "shop.py").write_text(APP)
    return shop


def publish(numbers: range, **more: object) -> None:
    fine("publish", "jobs", stdin=ndjson(*({"n": n, **more} for n in numbers)))


def handled(app: Path) -> list[int]:
    return numbers(app / "out.txt")


def workers(it: Running) -> dict[int, int]:
    """The pid of each worker, as last started."""
    return {
        int(found[1]): int(found[2])
        for line in it.err
        if (found := re.search(r"worker (\d+) started \(pid (\d+)\)", line))
    }


def test_one_worker_serves_and_ctrl_c_drains(app: Path) -> None:
    publish(range(5), takes=0.3)
    with running("run", "shop:app") as it:
        wait_blocking(lambda: handled(app), 15)
        it.signal(signal.SIGINT)
        it.until("stopping: finishing what runs")
        assert it.ended() == 0
    done = handled(app)
    publish(range(5, 10))
    with running("run", "shop:app") as it:
        wait_blocking(lambda: set(handled(app)) == set(range(10)), 15)
        it.signal(signal.SIGTERM)
        assert it.ended() == 0
    assert Counter(handled(app)) == Counter(range(10)), done


def test_a_killed_worker_is_started_again_and_nothing_is_lost(app: Path) -> None:
    publish(range(100))
    with running("run", "shop:app", "--workers", "2") as it:
        wait_blocking(lambda: len(set(handled(app))) == 100, 20)
        victim = workers(it)[1]
        publish(range(100, 120), takes=0.2)
        wait_blocking(lambda: len(handled(app)) > 104, 15)
        kill(victim)
        it.until(f"worker 1 (pid {victim}) was ended by SIGKILL; starting it again in 1 s")
        wait_blocking(lambda: workers(it)[1] != victim, 15)
        publish(range(120, 160))
        wait_blocking(lambda: set(handled(app)) == set(range(160)), 30)
        crew = workers(it)
        it.signal(signal.SIGINT)
        assert it.ended() == 0
    assert not any(alive(pid) for pid in crew.values())
    assert sum(count > 1 for count in Counter(handled(app)).values()) <= 4  # what the killed one had in its hands


def test_ctrl_c_finishes_what_runs_in_every_worker(app: Path) -> None:
    publish(range(8), takes=1)
    with running("run", "shop:app", "--workers", "2") as it:
        wait_blocking(lambda: "in its hands" if _pending() else "", 20)
        it.signal(signal.SIGINT)
        it.until("stopping 2 workers")
        assert it.ended() == 0
        assert it.process.returncode == 0
    first = Counter(handled(app))
    assert first
    assert max(first.values()) == 1
    with running("run", "shop:app") as it:
        wait_blocking(lambda: set(handled(app)) == set(range(8)), 20)
        it.signal(signal.SIGINT)
        assert it.ended() == 0
    assert Counter(handled(app)) == Counter(range(8))


def test_a_second_ctrl_c_ends_at_once_and_loses_nothing(app: Path) -> None:
    publish(range(2), takes=8)
    with running("run", "shop:app", "--workers", "2") as it:
        wait_blocking(_pending, 20)
        it.signal(signal.SIGINT)
        it.until("stopping 2 workers")
        it.signal(signal.SIGINT)
        assert it.ended(6) == 130
        crew = workers(it)
    assert not any(alive(pid) for pid in crew.values())
    assert handled(app) == []
    [group] = fine("group", "ls", "jobs", "-o", "json").json
    assert (group["pending"] + group["lag"], group["dead"]) == (2, 0)


def test_workers_end_with_a_supervisor_that_is_killed(app: Path) -> None:
    publish(range(1))
    with running("run", "shop:app", "--workers", "2") as it:
        wait_blocking(lambda: handled(app) == [0] and len(workers(it)) == 2, 20)
        kill(it.pid)
        it.ended()
        wait_blocking(lambda: not any(alive(pid) for pid in workers(it).values()), 15)


def test_reload_serves_the_new_code_and_survives_a_broken_one(app: Path) -> None:
    publish(range(1))
    with running("run", "shop:app", "--reload") as it:
        wait_blocking(lambda: handled(app) == [0], 20)
        (app / "shop.py").write_text(APP.replace('"one"', '"two"  # changed'))
        it.until("shop.py changed")
        publish(range(1, 2))
        wait_blocking(lambda: handled(app) == [0, 1], 20)
        assert (app / "out.txt").read_text().split()[-2] == "two"
        (app / "shop.py").write_text("app = (")
        it.until("cannot be read")
        (app / "shop.py").write_text(APP.replace('"one"', '"three"'))
        publish(range(2, 3))
        wait_blocking(lambda: handled(app) == [0, 1, 2], 20)
        assert (app / "out.txt").read_text().split()[-2] == "three"
        it.signal(signal.SIGINT)
        assert it.ended() == 0


def test_a_dry_run_lists_the_handlers_and_serves_nothing(app: Path) -> None:
    said = fine("run", "shop:app", "--dry-run", "-o", "json")
    assert [(row["handler"], row["source"], row["group"]) for row in said.json] == [("work", "jobs", "work")]
    assert not (app / ".mainstem").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("shop",), "write module:name, such as shop:app"),
        (("shop.py:app",), "name the module, shop:app"),
        (("shpo:app",), "did you mean 'shop'?"),
        (("shop:ap",), "shop:app is one"),
        (("shop:jobs",), "not an app but of type EventStream"),
        (("broken:app",), "broken.py, line 1"),
        (("failing:app",), "ZeroDivisionError"),
        (("needing:app",), "needs 'not_a_module_at_all'"),
        (("empty:app",), "has no subscriptions"),
        (("shop:app", "--workers", "0"), "--workers '0'"),
        (("shop:app", "--workers", "many"), "--workers 'many'"),
        (("shop:app", "--workers", "2", "--url", "memory://"), "memory:// lives inside one process"),
        (("shop:app", "--url", "kafkas://x"), "no engine for kafkas://"),
        (("failing:app", "--workers", "2"), "ZeroDivisionError"),
    ],
)
def test_wrong_words_are_one_line(app: Path, words: tuple[str, ...], says: str) -> None:
    (app / "broken.py").write_text("app = (\n")
    (app / "failing.py").write_text("1 / 0\n")
    (app / "needing.py").write_text("import not_a_module_at_all\n")
    (app / "empty.py").write_text("from mainstem import Mainstem\napp = Mainstem()\n")
    said = mainstem("run", *words)
    assert said.code == 2, said
    assert says in one_line(said)


def test_no_server_is_unavailable(app: Path) -> None:
    said = mainstem("run", "shop:app", url="redis://127.0.0.1:1/0")
    assert said.code == 3
    assert "no server answers" in one_line(said)


def _pending() -> int:
    rows = mainstem("group", "ls", "jobs", "-o", "ndjson").rows
    return int(rows[0]["pending"]) if rows else 0
