"""Whatever a file of prices holds: it is named, with its place and the fix, and a workspace in use stays as it
was; bars that can be told apart are kept out, each by symbol, session and rule."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from unittest.mock import ANY

import pandas as pd
import pytest

from pipeline.prices.store import PriceStore
from tests.support import in_use
from tests.support.command_line import HERE, CommandLine, contents
from tests.support.in_use import FIRST, GOOD, prices, refused, universe

pytestmark = pytest.mark.slow  # quick one by one, and there are a hundred of them

nextday, never_hangs, used = in_use.nextday, in_use.never_hangs, in_use.used

WALL = HERE[:4]
"""The clock on the wall."""


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "No columns"),
        (b"\n\n\n", "No columns"),
        (b"\0" * 1000, "lacks the columns date, close"),
        (bytes(range(256)) * 9, "cannot be read"),
        (GOOD.replace(".", ","), "is there a comma in a number?"),
        (GOOD.replace("10.0", '"10,0"'), "'10,0' in open is no number"),
        (GOOD.replace("10.0", '"1,010"'), "'1,010' in open is no number"),
        (GOOD.replace("10.0", "True"), "'True' in open is no number"),
        (GOOD.replace("10.0", "=1+1"), "'=1+1' in open is no number"),
        (GOOD.encode("utf-16-le"), "lacks the columns date, close"),
        (GOOD.replace(",A,", ",Société,").encode("latin-1"), "UTF-8"),
        (GOOD.replace("2018-11-26", "20181126"), "'20181126' is no date"),
        (GOOD.replace("2018-11-27", "20181127"), "'20181127' is no date"),
        (GOOD.replace("2018-11-26", "26.11.2018"), "'26.11.2018' is no date"),
        (GOOD.replace("2018-11-26", "43430"), "'43430' is no date"),
        (GOOD.replace("2018-11-26", "2018-02-30"), "'2018-02-30' is no date"),
        (GOOD.replace("2018-11-26", ""), "An empty cell is no date"),
        (GOOD.splitlines()[0], "no row below the header"),
        (GOOD.replace("High", "Close"), "The columns Close and Close both mean close"),
        (GOOD.replace("High", "CLOSE"), "The columns Close and CLOSE both mean close"),
        (GOOD.replace("High", "Ticker"), "The columns Symbol and Ticker both mean symbol"),
        (GOOD.replace("Close", "Shut"), "lacks the column close"),
        (GOOD.replace(FIRST, f"{FIRST},1,2"), "'8 cells in a row of 6 columns' in close is no number"),
        (GOOD.replace("\n", ",1\n").replace("Low,1", "Low"), "more cells than there are columns"),
        (GOOD.replace("2018-11-27", '"2018-11-27'), "EOF inside string"),
        (GOOD.replace("Close", "Splits").replace(FIRST, FIRST.replace("10.0", "-2")), "lacks the column close"),
        (GOOD.replace("Low\n", "Low,Split\n").replace(FIRST, f"{FIRST},-2"), "'-2.0' in split is no split ratio"),
        (GOOD.replace("Low\n", "Low,Split\n").replace(FIRST, f"{FIRST},inf"), "'inf' in split is no split ratio"),
        (GOOD.replace("Low\n", "Low,Split\n").replace(FIRST, f"{FIRST},1e300"), "'1e+300' in split is no split ratio"),
        (",".join(f"c{i}" for i in range(9999)), "lacks the columns date, close"),
    ],
)  # fmt: skip
def test_a_file_of_prices_that_cannot_be_read_as_prices_is_refused_with_its_place(
    nextday: CommandLine, content: "bytes | str", words: str
) -> None:
    Path("prices.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(nextday, words, str(Path("prices.csv").resolve()))


@pytest.mark.parametrize(
    "symbol",
    [
        "../../etc/passwd", "a/../b", "/a", "a/", "a\\b", ".", "..", ".hidden", "~", "%2e%2e", "$HOME", "A B",
        '"A\nB"', "A\0B", "=1+1", "+A", "-A", "@A", "＝A", "'A", "<b>", "A;B", "A'--", "🚀", "Ａ", "\u202eA", "Société",
        "A" * 33, "A" * 10_000, "",
    ],
)  # fmt: skip
def test_no_symbol_is_anything_but_a_short_plain_name(nextday: CommandLine, symbol: str) -> None:
    Path("prices.csv").write_text(GOOD.replace(",A,", f",{symbol},"))
    refused(nextday, "No symbol can be named", "prices.csv", "letters, digits")
    Path("prices.csv").write_text(GOOD)
    Path("list.csv").write_text(f"symbol\nA\n{symbol},\n" if not symbol else f"symbol\nA\n{symbol}\n")
    Path("nextday.toml").write_text(universe('path = "prices.csv"\nfile = "list.csv"'))
    refused(nextday, "list.csv")


@pytest.mark.parametrize(
    "symbol",
    [
        "A",
        "BRK.B",
        "BF-B",
        "^GSPC",
        "EURUSD=X",
        "000001",
        "NA",
        "CON",
        "A.",
        "M_1",
        "M&M.NS",
        "AMX*",
        "BRK/B",
        "ABC+",
        "ABC#",
    ],
)
def test_what_exchanges_call_a_stock_is_a_symbol(nextday: CommandLine, symbol: str) -> None:
    Path("prices.csv").write_text(GOOD.replace(",A,", f",{symbol},"))
    assert nextday(*HERE, "update").code == 0
    assert symbol in set(PriceStore(Path("w/prices/u")).read()["symbol"])


def make_folder() -> None:
    Path("p.csv").mkdir()


def make_pipe_in_folder() -> None:
    make_folder()
    os.mkfifo("p.csv/A.csv")


def make_loop_in_folder() -> None:
    make_folder()
    Path("p.csv/A.csv").symlink_to("A.csv")


def make_folder_in_folder() -> None:
    Path("p.csv/A.csv").mkdir(parents=True)


def make_formula_in_folder() -> None:
    make_folder()
    prices().drop(columns="Symbol").to_csv("p.csv/=cmd.csv", index=False)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: os.mkfifo("p.csv"), "This is no regular file"),
        (lambda: Path("p.csv").symlink_to("p.csv"), "no such file"),
        (lambda: Path("p.csv").symlink_to("absent"), "no such file"),
        (lambda: Path("p.csv").symlink_to("/dev/zero"), "This is no regular file"),
        (make_folder, "no .csv, no .txt and no .parquet"),
        (make_folder_in_folder, "This is no regular file"),
        (make_pipe_in_folder, "This is no regular file"),
        (make_loop_in_folder, "This is no regular file"),
        (make_formula_in_folder, "'=cmd'"),
    ],
)
def test_what_is_no_file_is_refused_and_never_waited_for(
    nextday: CommandLine, make: Callable[[], None], words: str
) -> None:
    make()
    Path("nextday.toml").write_text(universe('path = "p.csv"'))
    refused(nextday, words, str(Path.cwd() / "p.csv"))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda whole: whole[: len(whole) // 2], "magic bytes"),
        (lambda whole: whole[:30] + bytes(200) + whole[230:], "cannot be read"),
        (lambda whole: b"", "cannot be read"),
        (lambda whole: GOOD.encode(), "magic bytes"),
    ],
)
def test_a_damaged_parquet_file_is_refused(
    nextday: CommandLine, damage: Callable[[bytes], bytes], words: str
) -> None:
    prices().to_parquet("p.parquet")
    Path("p.parquet").write_bytes(damage(Path("p.parquet").read_bytes()))
    Path("nextday.toml").write_text(universe('path = "p.parquet"'))
    refused(nextday, words, "p.parquet")


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("Date", pd.NaT, "An empty cell is no date"),
        ("Close", "ten", "'ten' in close is no number"),
        ("Symbol", None, "No symbol can be named"),
    ],
)
def test_a_wrong_cell_of_a_parquet_file_is_named(
    nextday: CommandLine, column: str, value: object, words: str
) -> None:
    table = prices().astype({"Close": str}) if column == "Close" else prices()
    table.loc[slice(None) if column == "Symbol" else 3, column] = value
    table.to_parquet("p.parquet")
    Path("nextday.toml").write_text(universe('path = "p.parquet"'))
    refused(nextday, words, "p.parquet")


@pytest.mark.parametrize("content", [b"no gzip at all", gzip.compress(GOOD.encode(), mtime=0)[:60]])
def test_a_damaged_archive_is_refused(nextday: CommandLine, content: bytes) -> None:
    Path("p.csv.gz").write_bytes(content)
    Path("nextday.toml").write_text(universe('path = "p.csv.gz"'))
    refused(nextday, "cannot be read", "p.csv.gz")


@pytest.mark.parametrize(
    "content",
    [
        GOOD.encode("utf-8-sig"),
        GOOD.encode("utf-16"),
        GOOD.encode("utf-32"),
        GOOD.replace(",", ";").encode(),
        GOOD.replace(",", ";").replace(".", ",").encode(),
        GOOD.replace("\n", ",\n").replace("Low,", "Low").encode(),
        GOOD.replace("\n", "\r\n").encode(),
        GOOD.replace("\n", "\r").encode(),
        "\n".join([GOOD.splitlines()[0], *reversed(GOOD.splitlines()[1:])]).encode(),
        GOOD.replace(",A,", " 16:00:00-05:00,A,").encode(),
        GOOD.replace(",A,", ",A ,").encode(),
        GOOD.replace("-", "").encode(),
        GOOD.replace("Low\n", "Low,Note\n").replace(FIRST, f'{FIRST},"=1+1, said he"').encode(),
    ],
)
def test_a_file_that_only_looks_different_is_read_as_the_same(nextday: CommandLine, content: bytes) -> None:
    Path("prices.csv").write_bytes(content)
    before = contents(Path("w"))
    said = nextday(*HERE, "update")
    assert (said.code, said.out.splitlines()[1:]) == (0, [])
    noted = {"cache/u.reading.json": ANY}  # by what bytes the file is known again
    assert contents(Path("w")) | noted == before | noted


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        (FIRST, f"{FIRST}\n{FIRST}", "second row A 2018-11-26"),
        (FIRST, f"{FIRST}\n2018-12-02,A,9,9,9,9", "no session A 2018-12-02"),
        (FIRST, FIRST.replace("10.0", "-10.0"), "close: it must be above zero A 2018-11-26"),
        (FIRST, FIRST.replace("10.0", "0"), "close: it must be above zero A 2018-11-26"),
        (FIRST, FIRST.replace("10.0", "inf"), "close: the value is not finite A 2018-11-26"),
        (FIRST, FIRST.replace("10.0", "9" * 400), "close: the value is not finite A 2018-11-26"),
        (FIRST, FIRST.replace("10.0", ""), "close: the value is missing A 2018-11-26"),
        (FIRST, FIRST.replace("10.0", "12.0", 1), "close lies outside low..high A 2018-11-26"),
        ("2018-12-03,", "2018-12-02,", "missing session A 2018-12-03"),
        (FIRST, f"{FIRST}\n2199-01-04,A,9,9,9,9", "future date A 2199-01-04"),
        (FIRST, f"{FIRST}\n9999-12-31,A,9,9,9,9", "future date A 9999-12-31"),
    ],
)
def test_a_bar_that_is_wrong_is_kept_out_and_named_by_symbol_session_and_rule(
    nextday: CommandLine, old: str, new: str, finding: str
) -> None:
    Path("prices.csv").write_text(GOOD.replace(old, new))
    stored = PriceStore(Path("w/prices/u")).read()
    said = nextday(*WALL, "update")
    assert said.code == 0
    assert finding in " ".join(said.out.replace("e.g.", "").split())
    assert not said.err.count("Warning")
    pd.testing.assert_frame_equal(PriceStore(Path("w/prices/u")).read(), stored)


@pytest.mark.parametrize("column", ["Volume", "Dividends"])
def test_a_negative_volume_or_dividend_is_named_for_what_it_is(nextday: CommandLine, column: str) -> None:
    Path("prices.csv").write_text(GOOD.replace("Low\n", f"Low,{column}\n").replace(FIRST, f"{FIRST},-5"))
    said = nextday(*HERE, "update")
    assert said.code == 0
    named = {"Volume": "volume", "Dividends": "dividend"}[column]
    assert f"{named}: it cannot be negative A 2018-11-26" in " ".join(said.out.replace("e.g.", "").split())


def test_a_bad_file_is_named_and_the_others_are_updated(nextday: CommandLine) -> None:
    Path("p").mkdir()
    plain = prices("x").drop(columns="Symbol")
    plain.to_csv("p/A.csv", index=False)
    plain.astype(str).replace("12.0", "12.0.0").to_csv("p/B.csv", index=False)
    Path("p/C.zip").write_bytes(b"PK")
    Path("nextday.toml").write_text(universe('path = "p"'))
    said = nextday(*HERE, "update")
    assert said.code == 0
    reason = "'12.0.0' in open is no number"
    assert f"B: bad_payload: {reason}" in said.out
    assert f"B is not read: {reason}" in said.err
    assert "of p not read: C.zip (unpack it)" in said.err
    assert set(PriceStore(Path("w/prices/u")).read()["symbol"]) == {"A"}
    # Its bars are stored, and none is missed: it is named all the same.
    plain.to_csv("p/B.csv", index=False)
    assert nextday(*HERE, "update").code == 0
    plain.astype(str).replace("12.0", "12.0.0").to_csv("p/B.csv", index=False)
    assert f"B is not read: {reason}" in nextday(*HERE, "update").err


def test_update_says_what_columns_it_read_and_finds_an_action_that_it_did_not(nextday: CommandLine) -> None:
    table = prices().rename(columns={"Close": "Close/Last"}).assign(**{"Split Fctr": 4, "Note": "x"})
    table.to_csv("prices.csv", index=False)
    said = nextday(*HERE, "update")
    assert said.code == 0
    assert "Close/Last as close, Open, High, Low; not read: 'Split Fctr', 'Note'" in said.err
    assert "1  column not read   e.g. A 2018-12-14: 'Split Fctr' of prices.csv" in " ".join(
        said.out.split(" ")
    )
