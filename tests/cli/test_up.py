"""`mainstem up` and `stop`: the embedded server, held and let go."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from cli.cli_lab import alive, fine, kill, mainstem, one_line, running
from mainstem.servers import embedded
from waiting import wait_blocking


def test_up_holds_the_server_and_ctrl_c_stops_it(shop: Path) -> None:
    with running("up") as it:
        it.until("redis-cli -s")
        url = it.until("export MAINSTEM_URL=").partition("=")[2]
        assert embedded.status(shop / ".mainstem").held
        fine("publish", "orders", "--data", "1", url=url)
        it.signal(signal.SIGINT)
        assert it.ended() == 0
    assert not embedded.status(shop / ".mainstem").running
    assert fine("tail", "orders", "-F").json["data"] == 1


def test_up_ends_with_sigterm_and_with_stop(shop: Path) -> None:
    for how in ("SIGTERM", "stop"):
        with running("up", "--dir", "here", "-o", "json") as it:
            wait_blocking(lambda: embedded.status(shop / "here").held and len(it.out) > 3, 15)
            assert json.loads("".join(it.out))["url"] == f"embedded://{shop / 'here'}"
            if how == "stop":
                assert "was stopped" in fine("stop", "--dir", "here").out
            else:
                it.signal(signal.SIGTERM)
            assert it.ended() == 0
        assert not embedded.status(shop / "here").running


def test_a_server_that_crashes_is_started_again(shop: Path) -> None:
    with running("up") as it:
        it.until("redis-cli -s")
        first = embedded.status().pid
        assert first is not None
        kill(first)
        it.until("starting it again")
        wait_blocking(lambda: embedded.status().pid not in (None, first), 15)
        it.signal(signal.SIGINT)
        assert it.ended() == 0


def test_detached_it_outlives_the_command_and_stop_ends_both(shop: Path) -> None:
    said = fine("up", "--detach")
    holder = int(said.out.partition("held by pid ")[2].partition(";")[0])
    assert embedded.status().held
    assert alive(holder)
    fine("stop")
    wait_blocking(lambda: not alive(holder), 15)
    assert not embedded.status().running


def test_stop_without_a_server_says_so(shop: Path) -> None:
    assert fine("stop").out == "no server was running.\n"


@pytest.mark.parametrize("words", [("up", "--dir", "file"), ("ls", "--url", "embedded://file")])
def test_a_file_in_the_folders_place(shop: Path, words: tuple[str, ...]) -> None:
    (shop / "file").write_text("")
    said = mainstem(*words)
    assert said.code == 2
    assert "file" in one_line(said)
