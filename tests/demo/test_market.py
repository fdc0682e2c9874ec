"""Where the demo's prices come from: the package's bars, and files of all kinds that users have."""

from __future__ import annotations

import gzip
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mainstem.demo import market
from mainstem.demo.market import DailyBar, Trade
from mainstem.demo.pipeline import Bar, Tick
from mainstem.demo.replay import TICKS, path, replay
from mainstem.errors import ConfigError

BARS = "symbol,date,open,high,low,close,volume\n"


def written(folder: Path, text: str, name: str = "prices.csv") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def test_the_sample_is_the_real_one_in_order_of_time() -> None:
    found = market.sample()
    assert len(found.rows) == 12_154
    assert found.symbols == ["AAPL", "FB", "GOOG", "IBM", "MSFT"]
    assert found.rows[0] == DailyBar("AAPL", datetime(2000, 3, 1, tzinfo=UTC), 118.56, 132.06, 118.5, 130.31, 9_616_100)
    times = [row.time for row in found.rows]
    assert times == sorted(times)
    assert "pandas" not in sys.modules


def test_where_the_package_is_missing_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bokeh_sampledata", None)  # as an interpreter says that there is no such package
    with pytest.raises(ConfigError, match=r'pip install "mainstem\[demo\]", or .* --csv FILE\.$'):
        market.sample()


@pytest.mark.parametrize(
    "text",
    [
        BARS + "X,2026-01-05,2,4,1,3,10\n",
        "Ticker, Date ,Open,High,Low,Close\nX,2026-01-05,2,4,1,3\n",  # no volume, other names
        "symbol;timestamp;open;high;low;close\nX;1767571200;2;4;1;3\n",  # seconds since 1970, semicolons
        "\ufefftime\tsymbol\topen\thigh\tlow\tclose\tadj\n1767571200000\tX\t2\t4\t1\t3\t9\n\n",  # tabs, a BOM
    ],
)
def test_bars_of_many_dialects(tmp_path: Path, text: str) -> None:
    (bar,) = market.load(written(tmp_path, text)).rows
    assert isinstance(bar, DailyBar)
    assert (bar.symbol, bar.time, bar.open, bar.high, bar.low, bar.close) == (
        "X", datetime(2026, 1, 5, tzinfo=UTC), 2, 4, 1, 3,
    )  # fmt: skip


def test_prices_are_put_in_order_and_replayed_as_they_are(tmp_path: Path) -> None:
    text = "symbol,price,time\nB,2.5,2026-01-05T10:00:01+01:00\nA,1.5,2026-01-05T09:00:00Z\n"
    found = market.load(written(tmp_path, text))
    assert found.rows == (
        Trade("A", datetime(2026, 1, 5, 9, 0, 0, tzinfo=UTC), 1.5),
        Trade("B", datetime(2026, 1, 5, 9, 0, 1, tzinfo=UTC), 2.5),
    )
    feed = replay(found)
    first, second, again = next(feed), next(feed), next(feed)
    assert (first.data, first.synthetic, first.lap) == (Tick("A", 1.5), False, 1)
    assert (second.data, again.data, again.lap) == (Tick("B", 2.5), Tick("A", 1.5), 2)


def test_a_gzipped_file(tmp_path: Path) -> None:
    file = tmp_path / "prices.csv.gz"
    file.write_bytes(gzip.compress((BARS + "X,2026-01-05,2,4,1,3,10\n").encode()))
    assert len(market.load(file).rows) == 1


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "has the columns none: name them symbol,date,open"),
        ("a,b\n1,2\n", "has the columns a, b: name them symbol,date,open"),
        (BARS, "has a header and no rows"),
        (BARS + "X,2026-01-05,2,4,1\n", "line 2: 5 values for 7 columns"),
        (BARS + "X,2026-01-05,2,4,1,3,1\nX,tomorrow,2,4,1,3,1\n", "line 3: 'tomorrow' is not a time"),
        (BARS + "X,2026-01-05,2,four,1,3,1\n", "line 2: high 'four' is not a price"),
        (BARS + "X,2026-01-05,2,nan,1,3,1\n", "line 2: high 'nan' is not a price"),
        (BARS + "X,2026-01-05,2,4,-1,3,1\n", "line 2: low '-1' is not a price"),
        (BARS + "X,2026-01-05,5,4,1,3,1\n", "line 2: open 5 or close 3 is not within 1 to 4"),
        (BARS + "X,2026-01-05,2,4,1,3,many\n", "line 2: volume 'many'"),
        (BARS + " ,2026-01-05,2,4,1,3,1\n", "line 2: symbol '' must have"),
        ("symbol,time,price\nX,2026-01-05,0\n", "line 2: price '0' is not a price"),
    ],
)
def test_a_bad_file_is_refused_in_one_line_that_names_the_place(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(ConfigError) as refused:
        market.load(written(tmp_path, text))
    assert fault in str(refused.value)
    assert "prices.csv" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no file"):
        market.load(tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes(b"symbol,time,price\nM\xfcller,2026-01-05,1\n")
    with pytest.raises(ConfigError, match=r"is not UTF-8 text \(byte 19\)"):
        market.load(tmp_path / "latin.csv")
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"symbol,time,price\n")[:-6])
    with pytest.raises(ConfigError, match="cannot be read"):
        market.load(tmp_path / "cut.csv.gz")


def test_the_ticks_of_a_bar_pass_its_real_prices_and_leave_its_range_never() -> None:
    for bar in market.sample().rows[::50]:
        assert isinstance(bar, DailyBar)
        prices = path(bar)
        assert len(prices) == TICKS
        assert (prices[0], prices[-1]) == (bar.open, bar.close)
        assert (min(prices), max(prices)) == (bar.low, bar.high)
        assert prices == path(bar)


def test_made_ticks_say_so_and_bars_are_real() -> None:
    found = market.sample()
    feed = replay(found)
    moments = [next(feed) for _ in range((TICKS + 1) * 300)]
    bars = [moment for moment in moments if isinstance(moment.data, Bar)]
    assert {moment.synthetic for moment in moments if isinstance(moment.data, Tick)} == {True}
    assert {moment.synthetic for moment in bars} == {False}
    for moment, row in zip(bars, found.rows, strict=False):
        assert isinstance(row, DailyBar)
        assert moment.data == Bar(row.symbol, row.open, row.high, row.low, row.close, row.volume)
        assert moment.time == row.time
