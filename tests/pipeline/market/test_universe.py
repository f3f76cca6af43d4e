import re
from pathlib import Path

import pandas as pd
import pytest

from pipeline.config import UniverseConfig
from pipeline.errors import ConfigError, InputError
from pipeline.market.closures import read_overrides
from pipeline.market.universe import universe
from tests.conftest import PROJECT


def listed(tmp_path: Path, text: str) -> UniverseConfig:
    (tmp_path / "list.csv").write_text(text)
    return UniverseConfig(name="u", file="list.csv")


def test_membership_on_a_date_is_respected(tmp_path: Path) -> None:
    config = listed(
        tmp_path, "Symbol,from,to,name\nA,1990-01-02,,Always\nB,2018-01-03,,New\nC,,2018-01-03,Gone\n"
    )
    members = universe(config, tmp_path, [])
    assert members.members(pd.Timestamp("2018-01-02")) == ["A", "C"]
    assert members.members(pd.Timestamp("2018-01-03")) == ["A", "B", "C"]
    assert members.members(pd.Timestamp("2018-01-04")) == ["A", "B"]
    assert not members.bias


def test_membership_is_a_frame_by_session(tmp_path: Path) -> None:
    config = listed(tmp_path, "symbol,from,to\nA,2018-01-02,2018-01-02\nA,2018-01-04,\n")
    sessions = pd.DatetimeIndex(["2018-01-02", "2018-01-03", "2018-01-04"])
    assert universe(config, tmp_path, []).membership(sessions, ["A"])["A"].tolist() == [True, False, True]


def test_a_list_without_dates_is_survivorship_biased(tmp_path: Path) -> None:
    assert universe(listed(tmp_path, "symbol\nA\n"), tmp_path, []).bias
    assert universe(listed(tmp_path, "symbol\nA\n"), tmp_path, []).bias == (
        "survivorship-biased: the constituent list has no entry and exit dates"
    )


def test_a_list_with_some_dates_says_how_many_it_lacks(tmp_path: Path) -> None:
    one_dated = universe(listed(tmp_path, "symbol,from,to\nA,,\nB,2018-01-03,\nC,,\n"), tmp_path, [])
    assert one_dated.bias
    assert one_dated.bias == "survivorship-biased: 2 of 3 entries of the list have no dates"
    dated = universe(listed(tmp_path, "symbol,from,to\nA,,2018-01-03\nB,2018-01-03,\n"), tmp_path, [])
    assert dated.bias == ""


def test_a_listed_symbol_is_text(tmp_path: Path) -> None:
    config = listed(tmp_path, "symbol,from\n000001,2018-01-03\nNA,\n")
    assert universe(config, tmp_path, []).symbols == ["000001", "NA"]


def test_a_renamed_listing_is_one_instrument_under_its_current_symbol(tmp_path: Path) -> None:
    config = listed(
        tmp_path, "symbol,from,to,name,formerly\nMETA,2013-12-23,,Meta Platforms,FB\nRTX,,,,UTX RTN\nKO,,,,\n"
    )
    members = universe(config, tmp_path, [])
    assert members.symbols == ["KO", "META", "RTX"]
    assert members.members(pd.Timestamp("2015-01-02")) == ["KO", "META", "RTX"]
    assert members.instruments == {
        "META": "FB", "FB": "FB", "RTX": "UTX", "UTX": "UTX", "RTN": "UTX", "KO": "KO"
    }  # fmt: skip
    assert members.current == {
        "META": "META", "FB": "META", "RTX": "RTX", "UTX": "RTX", "RTN": "RTX", "KO": "KO"
    }  # fmt: skip
    assert members.current_by_instrument == {"FB": "META", "UTX": "RTX"}


def test_without_a_rename_every_symbol_is_its_own_instrument(tmp_path: Path) -> None:
    members = universe(UniverseConfig(symbols=("A", "B")), tmp_path, [])
    assert members.instruments == members.current == {"A": "A", "B": "B"}
    assert members.current_by_instrument == {}


def test_an_earlier_row_under_the_former_symbol_is_the_same_listing(tmp_path: Path) -> None:
    config = listed(
        tmp_path, "symbol,from,to,formerly\nFB,2013-12-23,2018-01-02,\nMETA,2018-01-03,2018-01-03,FB\n"
    )
    members = universe(config, tmp_path, [])
    assert members.symbols == ["META"]
    days = pd.DatetimeIndex(["2013-12-20", "2018-01-02", "2018-01-03", "2018-01-04"])
    assert members.membership(days, ["META"])["META"].tolist() == [False, True, True, False]


@pytest.mark.parametrize(
    ("rows", "words", "row"),
    [
        (
            "META,,,FB\nFB,,,",
            "FB is a former symbol of META but is a constituent at the same time or later",
            2,
        ),
        ("META,2018-01-03,,FB\nFB,,2018-01-03,", "but is a constituent at the same time or later", 2),
        ("META,,2018-01-03,FB\nFB,2020-01-02,,", "but is a constituent at the same time or later", 2),
        ("META,,,FB\nMEET,,,FB", "FB is a former symbol of META and of MEET", 2),
        (
            "META,,2018-01-03,FB\nMETA,2019-01-02,,MVRS",
            "META has other former symbols than in an earlier row",
            2,
        ),
        ("META,,,FB /FB", "'/FB'", 1),
        ("A,,,\nMETA,,,FB META", "lead back to META", 2),
        ("META,,,FB FB", "lead back to FB", 1),
        ("A,2018-01-03,,B\nB,2017-01-03,2017-01-04,A", "A is a former symbol of B and has former symbols", 1),
    ],
)
def test_renames_that_contradict_each_other_are_refused_with_their_row(
    tmp_path: Path, rows: str, words: str, row: int
) -> None:
    with pytest.raises(InputError) as caught:
        universe(listed(tmp_path, f"# a list\nsymbol,from,to,formerly\n{rows}\n"), tmp_path, [])
    assert words in str(caught.value)
    assert f"list.csv, data row {row}" in str(caught.value)


def test_without_a_list_all_symbols_of_the_source_are_members(tmp_path: Path) -> None:
    assert universe(UniverseConfig(), tmp_path, ["B", "A"]).symbols == ["A", "B"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ticker\nA\n", "needs one column 'symbol'"),
        ("symbol\n", "The universe file has no row"),
        ("symbol\n../A\n", "'../A'"),
        ("symbol,from\nA,01/02/2018\n", "'from'"),
        ("symbol,Symbol\nA,B\n", "needs one column 'symbol'"),
        ("symbol,from,From\nA,,\n", "at most one 'from'"),
        ("symbol;from\nA;2018-01-03\n", "needs one column 'symbol'"),
        ("symbol\nA\n" + "B" * 10_000, "'B"),
        ('symbol\nA\n"B\nC"\n', r"'B\nC'"),
        ("symbol\nA,2018-01-03\n", "cannot be read"),
    ],
)
def test_a_wrong_list_is_refused_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        universe(listed(tmp_path, text), tmp_path, [])
    assert words in str(caught.value)
    assert "list.csv" in str(caught.value)


def test_an_empty_universe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no symbol"):
        universe(UniverseConfig(), tmp_path, [])


def test_the_lists_of_the_manual_are_read_as_documented(tmp_path: Path) -> None:
    manual = (PROJECT / "docs" / "universes.md").read_text(encoding="utf-8")
    members, closures = re.findall(r"```csv\n(.*?)```", manual, flags=re.DOTALL)
    read = universe(listed(tmp_path, members), tmp_path, [])
    assert read.members(pd.Timestamp("2024-11-08")) == ["AAPL", "META", "NVDA"]
    assert read.current["FB"] == "META"
    (tmp_path / "closures.csv").write_text(closures)
    overrides = read_overrides(tmp_path / "closures.csv")
    assert [one.opens is None for one in overrides] == [True, False, False]


def sectored(tmp_path: Path, text: str, column: str = "industry") -> UniverseConfig:
    return listed(tmp_path, text).model_copy(update={"sector": column})


def test_any_column_of_the_list_may_hold_the_sectors(tmp_path: Path) -> None:
    text = "symbol,from,to,Industry\nA,,2018-01-03,Ship  Yards\nA,2018-01-04,,Banks\nB,,,\nC,,,Banks\n"
    members = universe(sectored(tmp_path, text, "INDUSTRY"), tmp_path, [])
    assert members.sectors == ["Banks", "Ship Yards"]
    sessions = pd.DatetimeIndex(["2018-01-03", "2018-01-04"])
    codes = members.sector_codes(sessions, ["B", "A", "C", "D"])
    assert codes.to_numpy().tolist() == [[-1, 1, 0, -1], [-1, 0, 0, -1]]
    plain = universe(listed(tmp_path, text), tmp_path, [])
    assert (plain.sectors, list(plain.entries.columns)) == ([], ["symbol", "first", "last"])


def test_a_column_of_sectors_that_is_missing_or_blank_is_named_with_the_columns_there_are(
    tmp_path: Path,
) -> None:
    with pytest.raises(InputError, match="has no column 'industry'") as missing:
        universe(sectored(tmp_path, "symbol,name,GICS\nA,x,y\n"), tmp_path, [])
    assert "symbol, name, gics" in missing.value.fix
    assert "[universe] sector" in missing.value.where
    with pytest.raises(InputError, match="'industry' of the universe file is blank on every row"):
        universe(sectored(tmp_path, "symbol,industry\nA,\nB, \n"), tmp_path, [])
