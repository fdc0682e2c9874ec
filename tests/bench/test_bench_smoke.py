"""`mainstem bench` on real servers, with so few events that only the ways are tested, never the figures."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from mainstem.bench import limit, payload
from mainstem.bench.command import names, run
from mainstem.bench.program import Job
from mainstem.bench.raw import RawLink, preload
from mainstem.engines.redis.layout import FIELDS
from mainstem.errors import ConfigError, Unavailable


def measured(capsys: pytest.CaptureFixture[str], url: str | None, work: str) -> dict[str, Any]:
    """The report of one small run, with the progress lines checked to be on stderr only."""
    code = run(url, [work], 1, scale=0.01, output="json")
    out, err = capsys.readouterr()
    report: dict[str, Any] = json.loads(out)
    assert code == 0, report["results"]
    assert f"{work}: " in err
    assert "(1/1)" in err
    return report


def test_a_work_on_a_named_server_gives_a_ratio_and_leaves_the_server_clean(
    capsys: pytest.CaptureFixture[str], valkey_url: str
) -> None:
    with RawLink(valkey_url) as link:
        link.call("SET", "somebody-elses", "1")
        before = set(link.call("KEYS", "*"))
    report = measured(capsys, valkey_url, "consume")
    (line,) = report["results"]
    assert line["work"] == "consume + decode + ack"
    assert line["ours"] > 0
    assert line["ratio"] == pytest.approx(line["ours"] / line["peer"])
    assert line["met"] is (line["ratio"] >= 2)
    assert line["ours_min"] <= line["ours"] <= line["ours_max"]
    with RawLink(valkey_url) as link:
        assert {key for key in link.call("KEYS", "*") if b"bench-" in key} == set()
        assert set(link.call("KEYS", "*")) >= before
        assert [name for name in link.call("HKEYS", "mainstem:streams") if name.startswith(b"bench-")] == []


def test_a_producer_and_a_consumer_on_a_server_of_its_own_which_is_gone_afterwards(
    capsys: pytest.CaptureFixture[str],
) -> None:
    folders = set(Path(tempfile.gettempdir()).glob("mainstem-bench-*"))
    report = measured(capsys, None, "keyed")
    lines = {line["work"]: line for line in report["results"]}
    assert lines["keyed, out of order"]["ours"] == 0
    assert lines["keyed (16 partitions, 10,000 keys), server CPU"]["ours"] > 0
    assert lines["keyed (16 partitions, 10,000 keys), AOF"]["ours"] > 300  # as long as the event, at least
    assert report["settings"]["appendfsync"] == "everysec"
    assert set(Path(tempfile.gettempdir()).glob("mainstem-bench-*")) == folders


def test_the_limit_stores_the_same_event_with_and_without_redis_benchmark(
    valkey_url: str, stream_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if limit.tool() is None:
        pytest.skip("redis-benchmark is not installed")
    assert limit.publish(Job(url=valkey_url, stream=f"{stream_name}-a", count=1000))["rate"] > 0
    monkeypatch.setenv("PATH", "")
    assert "no redis-benchmark" in limit.describe()
    assert limit.publish(Job(url=valkey_url, stream=f"{stream_name}-b", count=1000))["rate"] > 0
    with RawLink(valkey_url) as link:
        for name in (f"{stream_name}-a", f"{stream_name}-b"):
            assert link.call("XLEN", name) == 1000
            ((_, fields),) = link.call("XRANGE", name, "-", "+", "COUNT", "1")
            assert payload.read(dict(zip(fields[::2], fields[1::2], strict=True))).data == payload.order(0)


def test_what_is_preloaded_reads_like_what_mainstem_publishes(valkey_url: str, stream_name: str) -> None:
    with RawLink(valkey_url) as link:
        preload(link, [stream_name], 1234)
        assert link.call("XLEN", stream_name) == 1234
        ((_, fields),) = link.call("XREVRANGE", stream_name, "+", "-", "COUNT", "1")
    assert fields[::2] == list(FIELDS)
    item = payload.read(dict(zip(fields[::2], fields[1::2], strict=True)))
    assert (item.key, item.data) == (payload.key(1233), payload.order(1233))


def test_what_cannot_be_measured_is_refused_in_a_sentence() -> None:
    with pytest.raises(ConfigError, match=r"no measurement speed: choose from publish, .*streams"):
        run(None, ["speed"])
    with pytest.raises(ConfigError, match="repeat=0"):
        run(None, [names()[0]], 0)
    with pytest.raises(Unavailable, match=r"no server answers at redis://127\.0\.0\.1:1/0"):
        run("redis://127.0.0.1:1/0", [names()[0]])
