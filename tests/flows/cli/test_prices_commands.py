"""`nextday prices`: what is stored, what was known when, what is wrong with it; nothing is fetched or written."""

import csv
import io
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from flows.cli import prices_output
from pipeline.errors import StoreError
from pipeline.market.calendar import Calendar
from pipeline.prices import export
from pipeline.prices.revisions import read_history
from pipeline.prices.store import PriceStore
from pipeline.schema import PRICES
from tests.support import stored_week
from tests.support.command_line import HERE, CommandLine, Said, contents, told
from tests.support.stored_week import FIRST, THIRD, WEEK, rows, settings

pytestmark = pytest.mark.slow

days, store, nextday = stored_week.days, stored_week.store, stored_week.nextday


def table(said: Said) -> list[dict[str, str]]:
    """Return the lines of the table of bars by heading."""
    lines = said.out.splitlines()
    head = next(place for place, line in enumerate(lines) if line.startswith("session"))
    headings = lines[head].replace("observed (UTC)", "day observed").split()
    found = [line.split() for line in lines[head + 2 :] if line[:2] == "20"]
    return [dict(zip(headings, line, strict=True)) for line in found]


def refused(nextday: CommandLine, *arguments: str) -> str:
    before = contents(Path())
    said = nextday(*HERE, "prices", *arguments)
    assert said.code == 2, said
    assert said.out == ""
    assert contents(Path()) == before
    return " ".join(said.err.split())


def test_bars_are_shown_as_traded_with_their_adjusted_closes(nextday: CommandLine) -> None:
    said = nextday(*HERE, "prices", "show", "A")
    assert said.code == 0
    bars = table(said)
    assert [bar["close"] for bar in bars] == ["100.00", "102.00", "51.50", "52.25"]
    assert [bar["split"] for bar in bars] == ["–", "–", "2", "–"]
    assert [bar["div."] for bar in bars] == ["–", "–", "–", "0.5"]
    assert [bar["status"] for bar in bars] == ["settled"] * 4
    # A share of the 10th: 102, then two of 51.50; the dividend is a growth of 52.25 / (51.50 - 0.50).
    assert [bar["adjusted"] for bar in bars] == ["100.00", "102.00", "103.00", f"{103 * 52.25 / 51:.2f}"]
    assert "chained forwards from the" in said.out
    assert "first bar (2018-12-10), in the units of that session" in said.out
    assert "revised" not in said.out


def test_what_was_known_then_is_shown_and_later_revisions_are_listed(nextday: CommandLine) -> None:
    said = nextday(*HERE, "prices", "show", "A", "--known-at", "2018-12-13T22:00Z")
    bars = table(said)
    assert (bars[-1]["close"], bars[-1]["status"]) == ("52.00", "provisional")
    assert bars[-1]["adjusted"] == f"{103 * 52 / 51:.2f}"
    assert (bars[-1]["day"], bars[-1]["observed"]) == ("2018-12-13", "22:00")
    later = said.out[said.out.index("revised later") :]
    assert "2018-12-13" in later
    assert "close 52 -> 52.25, status provisional -> settled" in " ".join(later.split())
    assert "observed 2018-12-14 22:00 UTC, version 2" in " ".join(later.split())
    assert "2018-12-12" not in later


def test_a_bar_that_stayed_is_not_called_revised(nextday: CommandLine) -> None:
    said = nextday(*HERE, "prices", "show", "A", "--known-at", "2018-12-14T22:00Z")
    assert table(said)[-1]["close"] == "52.25"
    assert "none of these bars was revised later" in said.out


def test_a_time_without_an_offset_is_the_exchanges_and_a_bare_date_is_its_end(nextday: CommandLine) -> None:
    def last(known_at: str) -> str:
        return table(nextday(*HERE, "prices", "show", "A", "--known-at", known_at))[-1]["close"]

    assert last("2018-12-14T16:59") == "52.00"  # the source answered at 17:00 in New York
    assert last("2018-12-14T17:00") == "52.25"
    assert last("2018-12-14") == "52.25"


def test_sessions_are_shown_up_to_one_and_as_many_as_requested(nextday: CommandLine) -> None:
    said = nextday(*HERE, "prices", "show", "A", "--as-of", "2018-12-12", "--last", "2")
    assert [bar["session"] for bar in table(said)] == ["2018-12-11", "2018-12-12"]
    assert table(said)[-1]["adjusted"] == "103.00"  # still in the units of the first bar, which is not shown
    assert "2 of 3 bars from 2018-12-10 to 2018-12-12" in said.out


def test_the_time_shown_is_one_at_which_the_bar_was_known(
    nextday: CommandLine, store: PriceStore, days: Calendar
) -> None:
    seen = THIRD.replace(second=30, microsecond=5)
    store.append(rows(days, "A", [52.5], seen, first=3), run="r")
    bar = table(nextday(*HERE, "prices", "show", "A"))[-1]
    known_at = f"{bar['day']}T{bar['observed']}Z"
    assert table(nextday(*HERE, "prices", "show", "A", "--known-at", known_at))[-1]["close"] == "52.50"


def test_a_table_of_bars_fits_eighty_columns_and_a_pipe_has_the_whole_bar(
    nextday: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = nextday(*HERE, "prices", "show", "A")
    assert {"open", "high", "low", "volume"} <= set(table(wide)[0])
    console = Console(width=80, highlight=False)
    monkeypatch.setattr(prices_output, "console", console)
    for command in (["show", "A", "--known-at", "2018-12-13T22:00Z"], ["check", "--all"]):
        narrow = nextday(*HERE, "prices", *command)
        assert max(map(len, narrow.out.splitlines())) <= 80
    shown = nextday(*HERE, "prices", "show", "A", "--known-at", "2018-12-13T22:00Z")
    assert table(shown)[-1]["status"] == "provisional"
    assert "open, high, low and volume are shown in a terminal of 120 columns" in shown.out


def test_reading_writes_and_locks_nothing(nextday: CommandLine) -> None:
    before = sorted(Path("w").rglob("*"))
    stamps = [path.stat().st_mtime_ns for path in before]
    digests = contents(Path("w"))
    for command in (["show", "A"], ["check"], ["export", "--csv", "-"], ["export", "--csv", "x.csv"]):
        assert nextday(*HERE, "prices", *command).code == 0
    assert sorted(Path("w").rglob("*")) == before
    assert [path.stat().st_mtime_ns for path in before] == stamps
    assert contents(Path("w")) == digests


def test_more_symbols_than_a_block_are_checked_and_exported_alike(
    nextday: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answers() -> list[str]:
        asked = (["check"], ["export", "--csv", "-"])
        parquet = nextday(*HERE, "prices", "export", "--parquet", "x.parquet")
        assert parquet.code == 0
        return [nextday(*HERE, "prices", *words).out for words in asked] + [
            pd.read_parquet("x.parquet").to_csv()
        ]

    whole = answers()
    monkeypatch.setattr("pipeline.prices.ingest.store_check._CHUNK", 1)
    monkeypatch.setattr("pipeline.prices.export._CHUNK", 1)
    assert answers() == whole


def test_every_bar_is_exported_as_csv_and_reads_back_as_it_was(
    nextday: CommandLine, store: PriceStore
) -> None:
    printed = nextday(*HERE, "prices", "export", "--csv", "-")
    assert printed.code == 0
    said = nextday(*HERE, "prices", "export", "--csv", "x.csv")
    assert said.out == "8 bars written to x.csv\n"
    assert Path("x.csv").read_text() == printed.out
    back = pd.read_csv("x.csv", parse_dates=["session", "observed_at"])
    assert back.columns.tolist() == [*PRICES.columns, "seq"]
    held = store.read()
    for name in ("symbol", "session", "close", "split", "dividend", "status", "observed_at", "seq"):
        assert back[name].tolist() == held[name].tolist(), name


def test_every_bar_is_exported_as_parquet_with_its_types(nextday: CommandLine, store: PriceStore) -> None:
    said = nextday(*HERE, "prices", "export", "--parquet", "x.parquet")
    assert said.out == "8 bars written to x.parquet\n"
    pd.testing.assert_frame_equal(pd.read_parquet("x.parquet"), store.read())
    assert pq.read_schema("x.parquet").names == [*PRICES.columns, "seq"]


def test_an_export_holds_what_was_known_then(nextday: CommandLine) -> None:
    then = ("--as-of", "2018-12-13", "--known-at", "2018-12-13T22:00Z")
    lines = csv.DictReader(io.StringIO(nextday(*HERE, "prices", "export", "--csv", "-", *then).out))
    assert [line["close"] for line in lines if line["symbol"] == "A"] == ["100.0", "102.0", "51.5", "52.0"]
    assert nextday(*HERE, "prices", "export", "--parquet", "x.parquet", "--as-of", "2018-12-11").code == 0
    assert pd.read_parquet("x.parquet")["session"].max() == WEEK[1]


def test_no_cell_of_the_csv_is_a_formula(nextday: CommandLine, store: PriceStore, days: Calendar) -> None:
    evil = rows(days, "E", [10.0], FIRST).assign(currency="=cmd|' /C calc'!A0").astype({"currency": "str"})
    store.append(evil, run="r")
    lines = csv.DictReader(io.StringIO(nextday(*HERE, "prices", "export", "--csv", "-").out))
    assert [line["currency"] for line in lines if line["symbol"] == "E"] == ["'=cmd|' /C calc'!A0"]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_an_export_that_fails_leaves_the_old_file_and_no_half(
    nextday: CommandLine, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(export, "_CHUNK", 1)
    true_read = PriceStore.read

    def read(self: PriceStore, *arguments: object, **named: object) -> pd.DataFrame:
        if named.get("symbols") == ["B"]:
            raise StoreError("The price store cannot be read", where="there", fix="none")
        return true_read(self, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(PriceStore, "read", read)
    Path(f"x.{kind}").write_text("old")
    said = nextday(*HERE, "prices", "export", f"--{kind}", f"x.{kind}")
    assert said.code == 1
    assert "cannot be read" in told(said)[0]
    assert Path(f"x.{kind}").read_text() == "old"
    assert sorted(path.name for path in Path().iterdir()) == ["nextday.toml", "w", f"x.{kind}"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show"], "symbol"),
        (["show", "AA"], "nearest symbols: A"),
        (["show", "no\nsymbol"], "There is no bar of a symbol 'no\\nsymbol'"),
        (["show", "A", "--last", "0"], "--last"),
        (["show", "A", "--as-of", "yesterday"], "'yesterday' is not a date"),
        (["show", "A", "--as-of", "2018-12-09"], "2018-12-09 is not a session of XNYS"),
        (["show", "A", "--as-of", "0001-01-01"], "is not a session of XNYS"),
        (["show", "A", "--as-of", "9999-12-31"], "is not a session of XNYS"),
        (["show", "A", "--as-of", "2018-12-21"], "2018-12-21 has not closed yet"),
        (["show", "A", "--as-of", "2018-12-07"], "The bars of A begin on 2018-12-10"),
        (["show", "A", "--known-at", "noon"], "'noon' is not a time"),
        (["show", "A", "--known-at", "2018-12-20T22:01Z"], "2018-12-20 22:01 UTC is in the future"),
        (["show", "A", "--known-at", "9999-12-31T23:59"], "9999-12-31"),
        (["show", "A", "--known-at", "0001-01-01T00:00+14:00"], "0001-01-01"),
        (["show", "A", "--known-at", "2018-11-04T01:30"], "is no unique instant in America/New_York"),
        (["show", "A", "--known-at", "2018-12-13T21:59Z"], "the first was observed at 2018-12-13 22:00:00"),
        (["export"], "--csv FILE or --parquet FILE"),
        (["export", "--csv", "x", "--parquet", "y"], "give one file"),
        (["export", "--csv", "absent/x.csv"], "there is no folder absent"),
        (["export", "--parquet", "."], "is a folder"),
        (["export", "--parquet", "-"], "only CSV can go to standard output"),
        (["export", "--csv", ""], "the path is empty"),
        (["export", "--csv", "x.csv", "--known-at", "2018-12-01"], "nothing was written"),
        (["export", "--csv", "-", "--known-at", "2018-12-01"], "No bar was known then"),
        (["export", "--parquet", "x", "--known-at", "2018-12-01"], "nothing was written"),
        (["export", "--csv", "x.csv", "--as-of", "2018-12-09"], "is not a session"),
    ],
)
def test_wrong_input_is_named_and_nothing_is_written(
    nextday: CommandLine, arguments: list[str], words: str
) -> None:
    assert words in refused(nextday, *arguments).replace("│ ", "").replace(" │", "")


@pytest.mark.parametrize("command", [["show", "A"], ["check"], ["export", "--csv", "x.csv"]])
def test_a_universe_without_prices_says_so_and_nothing_is_made(
    nextday: CommandLine, command: list[str]
) -> None:
    settings('symbols = ["A"]')
    for home in ("w2", "nextday.toml"):
        before = contents(Path())
        said = nextday("--config", "nextday.toml", "--home", home, *HERE[4:], "prices", *command)
        assert said.code == 2
        assert told(said)[0] == "nextday: There are no prices of the universe 'u' yet"
        assert contents(Path()) == before
    assert not Path("w2").exists()


@pytest.mark.parametrize("command", [["show", "A"], ["check"], ["export", "--csv", "x.csv"]])
def test_a_damaged_store_is_reported_and_left_alone(
    nextday: CommandLine, store: PriceStore, command: list[str]
) -> None:
    next(store.folder.rglob("*.parquet")).write_bytes(b"gone")
    before = contents(Path())
    said = nextday(*HERE, "prices", *command)
    assert said.code == 1
    assert "The prices are damaged, compared with their checksums" in told(said)[0]
    assert contents(Path()) == before


def test_a_history_is_made_of_the_rows_known_then_alone(
    nextday: CommandLine, store: PriceStore, days: Calendar
) -> None:
    before = read_history(store, "A", known_at=FIRST).bars
    store.append(rows(days, "A", [300.0], THIRD, first=0), run="r")
    pd.testing.assert_frame_equal(read_history(store, "A", known_at=FIRST).bars, before)
    assert read_history(store, "A").bars["adj_close"].iloc[0] == 300
